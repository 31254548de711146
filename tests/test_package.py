"""The package itself: its names, what their first use imports, and what importing it means for the exit."""

from __future__ import annotations

import motet
import pytest
from conftest import RunProgram


def test_every_name_is_there_and_listed(run_program: RunProgram) -> None:
    result = run_program("""
        import motet
        listed = dir(motet)
        names = motet.__all__
        assert names == sorted(names) and set(names) < set(listed)
        for name in names:
            print(name, name in vars(motet), getattr(motet, name) is not None, name in vars(motet))
    """)
    assert result.stderr == ""
    lines = dict(line.split(" ", 1) for line in result.stdout.splitlines())
    assert list(lines) == motet.__all__
    assert lines.pop("__version__") == "True True True"
    # Asked for once, a name is found as fast as any other.
    assert set(lines.values()) == {"False True True"}


def test_all_names_at_once(run_program: RunProgram) -> None:
    result = run_program("""
        from motet import *
        import motet
        assert all(globals()[name] is getattr(motet, name) for name in motet.__all__)
        print(EventLoop.__name__, open.__module__)
    """)
    assert (result.stdout, result.stderr) == ("EventLoop motet._files.opening\n", "")


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match=r"^module 'motet' has no attribute 'EventLop'") as caught:
        motet.EventLop  # type: ignore[attr-defined]  # noqa: B018
    assert (caught.value.name, caught.value.obj) == ("EventLop", motet)
    assert not hasattr(motet, "_HOME")


def test_the_version_is_that_of_the_crates() -> None:
    from motet import _motet

    assert motet.__version__ == _motet.__version__


def test_what_asyncio_does_not_import_motet_does_not_either(run_program: RunProgram) -> None:
    # So that a program's own modules can hide nothing that the loop needs: where asyncio works, it does.
    # Worker pools need more, such as pickle, and are loaded by their own names only.
    result = run_program("""
        import sys, asyncio
        before = set(sys.modules)
        import motet
        for name in motet.__all__:
            if not motet._HOMES.get(name, "").startswith("_executor"):
                getattr(motet, name)
        assert "motet._executor" not in sys.modules
        print(*sorted(name for name in set(sys.modules) - before if name.partition(".")[0] != "motet"))
    """)
    assert result.stderr == ""
    # From Python 3.14 on asyncio does without it.
    assert set(result.stdout.split()) <= {"typing", "_typing"}


def test_worker_pools_do_without_asyncio(run_program: RunProgram) -> None:
    # It takes longer to import than a pool to begin, there and in each worker.
    result = run_program("""
        import sys, motet
        from motet import _motet

        def has_asyncio():
            import sys
            return "asyncio" in sys.modules

        for on in ("processes", "threads", "auto"):
            with motet.Executor(on, 1) as executor:
                assert executor.submit(abs, -1).result() == 1
                assert not executor.submit(has_asyncio).result(), on
        assert list(motet.map(abs, [-1, -2])) == [1, 2]
        assert not has_asyncio()
        assert issubclass(_motet.Task, sys.modules["asyncio"].Task)
        print(_motet.Task is motet.Task, "Task" in _motet.__all__, hasattr(_motet, "Tusk"))
    """)
    assert (result.stdout, result.stderr) == ("True True False\n", "")


def test_exit_handlers_still_have_loops_of_other_threads(run_program: RunProgram) -> None:
    result = run_program("""
        import atexit, motet, threading

        def finish():
            loop.call_soon_threadsafe(loop.stop)
            thread.join(10)
            print("ended" if not thread.is_alive() else "still there")

        atexit.register(finish)
        loop = motet.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()
    """)
    assert (result.stdout, result.stderr) == ("ended\n", "")
