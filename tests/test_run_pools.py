"""`motet run --pools`: a program's own pools are motet's, and the program stays as it is."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from executor_helpers import LIMIT, is_alive, is_asleep, wait_until

pytestmark = [
    pytest.mark.thread_unsafe(reason="each thread would start programs with workers of their own"),
    pytest.mark.timeout(240),
]

RUN = ["-m", "motet", "run", "--pools"]

# What a program does to come to a pool, and which class of motet's it gets.
WAYS = {
    "from concurrent.futures import ThreadPoolExecutor as Pool": "ThreadPoolExecutor",
    "from concurrent.futures import ProcessPoolExecutor as Pool": "ProcessPoolExecutor",
    "import concurrent.futures\nPool = concurrent.futures.ProcessPoolExecutor": "ProcessPoolExecutor",
    "from concurrent.futures.thread import ThreadPoolExecutor as Pool": "ThreadPoolExecutor",
    "import concurrent.futures.process as p\nPool = p.ProcessPoolExecutor": "ProcessPoolExecutor",
    "from concurrent.futures import *\nPool = ThreadPoolExecutor": "ThreadPoolExecutor",
    "from motet import map\nfrom concurrent.futures import *\nPool=ThreadPoolExecutor": "ThreadPoolExecutor",
    "import asyncio\nfrom concurrent.futures import ThreadPoolExecutor as Pool": "ThreadPoolExecutor",
    "from multiprocessing import Pool": "Pool",
    "import multiprocessing.pool\nPool = multiprocessing.pool.Pool": "Pool",
    "import multiprocessing\nPool = multiprocessing.get_context('fork').Pool": "Pool",
    "import multiprocessing\nPool = multiprocessing.get_context('spawn').Pool": "Pool",
    "import multiprocessing\nPool = multiprocessing.get_context().Pool": "Pool",
    "from multiprocessing.pool import ThreadPool as Pool": "ThreadPool",
    "from multiprocessing.dummy import Pool": "ThreadPool",
}


def start(source: str, folder: Path, command: list[str] = RUN) -> subprocess.CompletedProcess[str]:
    (folder / "script.py").write_text(textwrap.dedent(source), encoding="utf-8")
    return subprocess.run(
        [sys.executable, *command, "script.py"], cwd=folder, capture_output=True, text=True, timeout=120
    )


def lines(source: str, folder: Path) -> list[str]:
    """What a program prints that must end well and without complaints."""
    result = start(source, folder)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout.splitlines()


@pytest.mark.parametrize("way", WAYS)
def test_every_way_gives_motets_class(way: str, tmp_path: Path) -> None:
    source = f"{way}\npool = Pool(1)\nprint(type(pool).__module__, type(pool).__name__)\n"
    source += "(getattr(pool, 'close', None) or pool.shutdown)()\n"
    module, name = lines(source, tmp_path)[0].split()
    assert module.startswith("motet.compat.pools.")
    assert name == WAYS[way]


def test_a_program_gets_pythons_without_the_option(tmp_path: Path) -> None:
    source = """
        from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
        from multiprocessing.pool import Pool, ThreadPool
        print({kind.__module__ for kind in (ProcessPoolExecutor, ThreadPoolExecutor, Pool, ThreadPool)})
    """
    result = start(source, tmp_path, RUN[:-1])
    assert "motet" not in result.stdout
    assert result.stderr == ""


def test_a_program_without_pools_imports_nothing_for_them(tmp_path: Path) -> None:
    found = [
        set(re.findall(r"\| +(\S+)$", start("", tmp_path, command).stderr, re.MULTILINE))
        for command in (["-X", "importtime", *RUN], ["-X", "importtime"])
    ]
    more = found[0] - found[1]
    assert "motet.compat.pools" in more
    assert not {
        name for name in more if name.startswith(("concurrent", "multiprocessing", "motet._executor"))
    }
    assert not more & {"asyncio", "threading", "typing", "motet._motet"}


def test_the_programs_own_functions_reach_workers_that_do_not_run_it_again(tmp_path: Path) -> None:
    source = """
        import os
        from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
        from multiprocessing import Pool

        print("runs", __name__)

        class Point:
            def __init__(self, x):
                self.x = x

        def move(point, by=1):
            assert os.getpid() != parent
            return Point(point.x + by)

        parent = os.getpid()
        with ProcessPoolExecutor(2) as executor:
            print([point.x for point in executor.map(move, map(Point, range(3)))])
        with Pool(2) as pool:
            print([point.x for point in pool.map(move, map(Point, range(3)))])
            print([point.x for point in pool.imap(move, map(Point, range(3)))])
            print(type(pool.apply(move, (Point(1), 2))) is Point)
        with ThreadPoolExecutor(2) as executor:
            print(list(executor.map(lambda n: n + 1, range(3))))
    """
    expected = ["runs __main__", "[1, 2, 3]", "[1, 2, 3]", "[1, 2, 3]", "True", "[1, 2, 3]"]
    assert lines(source, tmp_path) == expected
    guarded = textwrap.dedent(source).replace("parent = os.getpid()\n", "", 1)
    head, _, body = guarded.partition("with ProcessPool")
    body = textwrap.indent("with ProcessPool" + body, "    ")
    assert lines(f"{head}\nparent = os.getpid()\nif __name__ == '__main__':\n{body}", tmp_path) == expected


# As the documentation of multiprocessing has it: what all workers share is handed to their initializer.
@pytest.mark.parametrize("method", ["", "get_context('fork').", "get_context('spawn')."])
def test_what_processes_share_reaches_initializers(method: str, tmp_path: Path) -> None:
    source = f"""
        import multiprocessing

        counter = None

        def begin(*given):
            global counter, lock, queue
            counter, lock, queue = given

        def work(number):
            with lock:
                counter.value += number
            queue.put(number)
            # A worker that is ended while a thread of the queue's has its lock would keep it.
            queue.close()
            queue.join_thread()

        shared = multiprocessing.{method}Value("i", 5), multiprocessing.{method}Lock()
        queue = multiprocessing.{method}Queue()
        pool = multiprocessing.{method}Pool(1, begin, (*shared, queue))
        pool.apply(work, (4,))
        print(shared[0].value, queue.get(timeout={LIMIT}))
        pool.close()
        pool.join()
        queue.close()
        queue.join_thread()
    """
    assert lines(source, tmp_path) == ["9 4"]


def test_pools_in_workers_are_motets_too(tmp_path: Path) -> None:
    source = """
        from concurrent.futures import ProcessPoolExecutor
        from multiprocessing import Pool

        def inner(number):
            return -number

        def outer(number):
            with Pool(1) as pool:
                return pool.apply(inner, (number,)), type(pool).__module__

        with Pool(1) as pool:
            print(pool.apply(outer, (1,)))
        with ProcessPoolExecutor(1) as executor:
            print(executor.submit(outer, 2).result())
    """
    assert lines(source, tmp_path) == [
        "(-1, 'motet.compat.pools._pool')",
        "(-2, 'motet.compat.pools._pool')",
    ]


def test_asyncio_takes_them(tmp_path: Path) -> None:
    source = """
        import asyncio, os, threading
        from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

        async def main():
            loop = asyncio.get_running_loop()
            loop.set_default_executor(ThreadPoolExecutor(2, "mine"))
            print(await asyncio.to_thread(lambda: threading.current_thread().name.startswith("mine")))
            with ProcessPoolExecutor(1) as executor:
                print(await loop.run_in_executor(executor, os.getpid) != os.getpid())

        asyncio.run(main())
    """
    assert lines(source, tmp_path) == ["True", "True"]


def test_cancelling_does_not_stop_a_call_that_runs(tmp_path: Path) -> None:
    source = """
        import asyncio, pathlib, time
        from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

        def work(name):
            pathlib.Path(name, "begun").touch()
            while not pathlib.Path(name, "go on").exists():
                time.sleep(0.005)
            pathlib.Path(name, "done").touch()

        async def main(executor, name):
            pathlib.Path(name).mkdir()
            call = asyncio.get_running_loop().run_in_executor(executor, work, name)
            while not pathlib.Path(name, "begun").exists():
                await asyncio.sleep(0.005)
            call.cancel()
            await asyncio.wait([call])
            pathlib.Path(name, "go on").touch()

        for kind in (ProcessPoolExecutor, ThreadPoolExecutor):
            with kind(1) as executor:
                asyncio.run(main(executor, kind.__name__))
            print(pathlib.Path(kind.__name__, "done").exists())
    """
    assert lines(source, tmp_path) == ["True", "True"]


def test_the_executor_of_processes_is_as_final_as_pythons(tmp_path: Path) -> None:
    source = """
        import os
        from concurrent.futures import ProcessPoolExecutor
        from concurrent.futures.process import BrokenProcessPool

        with ProcessPoolExecutor(1) as executor:
            for call in (os._exit, abs):
                try:
                    print(executor.submit(call, 1).result())
                except BrokenProcessPool:
                    print("broken")
    """
    assert lines(source, tmp_path) == ["broken", "broken"]


@pytest.mark.skipif(sys.version_info < (3, 14), reason="this Python has no executor of interpreters")
def test_the_executor_of_interpreters_stays_pythons(tmp_path: Path) -> None:
    source = """
        from concurrent.futures import InterpreterPoolExecutor, ThreadPoolExecutor
        with InterpreterPoolExecutor(1) as executor:
            print(executor.submit(abs, -1).result(), isinstance(executor, ThreadPoolExecutor))
    """
    assert lines(source, tmp_path) == ["1 False"]


def test_subclasses_of_the_program(tmp_path: Path) -> None:
    source = """
        import multiprocessing.pool
        from concurrent.futures import ThreadPoolExecutor

        class Counting(ThreadPoolExecutor):
            count = 0
            def submit(self, function, /, *arguments, **named):
                self.count += 1
                return super().submit(function, *arguments, **named)

        class Named(multiprocessing.pool.Pool):
            def __init__(self, name, *given, **named):
                self.name = name
                super().__init__(*given, context=multiprocessing.get_context("spawn"), **named)

        with Counting(max_workers=2) as executor:
            print(list(executor.map(abs, [-1, -2])), executor.count)
        with Named("mine", 2) as pool:
            print(pool.map(abs, [-1, -2]), pool.name)
    """
    assert lines(source, tmp_path) == ["[1, 2] 2", "[1, 2] mine"]


@pytest.mark.parametrize("kind", ["ProcessPoolExecutor", "ThreadPoolExecutor"])
def test_ctrl_c_ends_the_program(kind: str, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(
        textwrap.dedent(
            f"""
            import os, time
            from concurrent.futures import {kind} as Executor

            def work(_):
                print(os.getpid(), flush=True)
                for _ in range(60000):
                    time.sleep(0.01)

            with Executor(1) as executor:
                list(executor.map(work, range(4)))
            """
        )
    )
    process = subprocess.Popen(
        [sys.executable, *RUN, "script.py"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    worker = int(process.stdout.readline())
    wait_until(lambda: is_asleep(process.pid))
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=LIMIT)
    assert process.returncode == -signal.SIGINT, errors
    assert errors.splitlines()[-1] == "KeyboardInterrupt"
    wait_until(lambda: not is_alive(worker))
