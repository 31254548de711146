"""`motet run` is held against plain python: same program, same words, same output, errors and exit status."""

from __future__ import annotations

import importlib.util
import itertools
import os
import py_compile
import re
import signal
import subprocess
import sys
import sysconfig
import textwrap
import zipfile
from pathlib import Path

import pytest

PYTHON = [sys.executable]
MOTET = [sys.executable, "-m", "motet", "run"]
Result = subprocess.CompletedProcess[str]

PROBE = """
import re, sys
for name, value in sorted(globals().copy().items()):
    print(name, re.sub(" at 0x[0-9a-f]+", "", repr(value)))
print(sys.argv, sys.path, sys.flags, sys.warnoptions)
print(sys.modules["__main__"].__dict__ is globals(), sys.modules["__main__"].__name__)
"""

TRACEBACKS = {
    "plain": "def f(x):\n    return x / 0\nf(1)\n",
    "cause": "def f():\n    try:\n        {}['key']\n    except KeyError as e:\n"
    "        raise ValueError('no') from e\nf()\n",
    "context": "try:\n    1 / 0\nexcept ZeroDivisionError:\n    [].pop()\n",
    "group": "raise ExceptionGroup('two', [ValueError(1), TypeError(2)])\n",
    "syntax": "x = = 1\n",
    "indentation": "def f():\nreturn 1\n",
    "imported": "import json.nothing\n",
    "own runpy": "import runpy\nrunpy.run_module('no_such_module')\n",
    "hook": "import sys, traceback\n"
    "def hook(kind, value, tb):\n    print(kind, value, traceback.format_tb(tb), tb is value.__traceback__)\n"
    "    print(sys.last_traceback is tb, sys.last_value is value, sys.excepthook is hook)\n"
    "sys.excepthook = hook\n1 / 0\n",
}

ENDS = {
    "last line": "print('done')",
    "exit": "import sys; sys.exit()",
    "status": "import sys; sys.exit(3)",
    "large status": "raise SystemExit(256 + 7)",
    "none": "raise SystemExit(None)",
    "words": "import sys; sys.exit('what went wrong')",
    "object": "raise SystemExit(['a', 1])",
    "true": "raise SystemExit(True)",
    "at once": "import os; os._exit(5)",
    "interrupt": "raise KeyboardInterrupt",
    "generator": "raise GeneratorExit('odd')",
    "killed": "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
    "handlers": "import atexit\nfor n in range(3): atexit.register(print, 'handler', n)\n1 / 0",
    "handler fails": "import atexit\natexit.register(lambda: [].pop())",
    "handler sees main": "import atexit, sys\nname = 'mine'\n"
    "atexit.register(lambda: print(name, sys.modules['__main__'].name))",
    "thread": "import threading, time\n"
    "threading.Thread(target=lambda: (time.sleep(0.1), print('thread'))).start()\nprint('main')",
}


def start(command: list[str], words: list[str], folder: Path, stdin: str | None = None) -> Result:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHONSAFE")}
    return subprocess.run(
        [*command, *words],
        cwd=folder,
        input=stdin,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def both(words: list[str], folder: Path, stdin: str | None = None, flags: tuple[str, ...] = ()) -> Result:
    """Run under both and demand equality; the result is motet's."""
    interpreter = [*PYTHON, *flags]
    plain = start(interpreter, words, folder, stdin)
    ours = start([*interpreter, *MOTET[1:]], words, folder, stdin)
    assert (ours.stdout, without_addresses(ours.stderr)) == (plain.stdout, without_addresses(plain.stderr))
    assert ours.returncode == plain.returncode
    return ours


def without_addresses(text: str) -> str:
    return re.sub("0x[0-9a-f]+", "0x", text)


def write(path: Path, source: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(source), encoding="utf-8")
    return path


@pytest.mark.parametrize("flags", [(), ("-P",), ("-I",), ("-X", "dev", "-W", "error::UserWarning"), ("-O",)])
@pytest.mark.parametrize("form", ["script", "dot", "absolute", "link", "pyc", "folder", "zip", "stdin"])
def test_main_module_and_path(form: str, flags: tuple[str, ...], tmp_path: Path) -> None:
    script = write(tmp_path / "inner" / "probe.py", PROBE)
    if "-I" in flags and "PYTHONPATH" in os.environ:
        pytest.skip("motet is found by PYTHONPATH here, which -I ignores")
    program, stdin = "inner/probe.py", None
    if form == "dot":
        program = "./inner/../inner/probe.py"
    elif form == "absolute":
        program = str(script)
    elif form == "link":
        program = "linked.py"
        (tmp_path / program).symlink_to(script)
    elif form == "pyc":
        program = "probe.pyc"
        py_compile.compile(str(script), cfile=str(tmp_path / program), doraise=True)
    elif form == "folder":
        program = "inner"
        script.rename(script.with_name("__main__.py"))
    elif form == "zip":
        program = "packed.zip"
        with zipfile.ZipFile(tmp_path / program, "w") as archive:
            archive.writestr("__main__.py", PROBE)
    elif form == "stdin":
        program, stdin = "-", PROBE
    result = both([program, "one", "--report", "-m", "--", "two words"], tmp_path, stdin, flags)
    assert "'one', '--report', '-m', '--', 'two words'" in result.stdout


@pytest.mark.parametrize("flags", [(), ("-P",)])
@pytest.mark.parametrize("words", [["-m", "probe"], ["-mprobe"], ["-m", "package"], ["-m", "package.inner"]])
def test_module(words: list[str], flags: tuple[str, ...], tmp_path: Path) -> None:
    write(tmp_path / "probe.py", PROBE)
    write(tmp_path / "package" / "__init__.py", "import sys; print('package', sys.argv)")
    write(tmp_path / "package" / "__main__.py", PROBE)
    write(tmp_path / "package" / "inner.py", PROBE)
    result = both([*words, "one", "--help"], tmp_path, flags=flags)
    assert "-P" in flags or "'one', '--help']" in result.stdout


def test_library_module(tmp_path: Path) -> None:
    assert '"a": 1' in both(["-m", "json.tool"], tmp_path, stdin='{"a": 1}').stdout


@pytest.mark.parametrize("end", ENDS)
def test_exit(end: str, tmp_path: Path) -> None:
    write(tmp_path / "script.py", ENDS[end])
    both(["script.py"], tmp_path)


@pytest.mark.parametrize("kind", TRACEBACKS)
def test_traceback(kind: str, tmp_path: Path) -> None:
    write(tmp_path / "script.py", TRACEBACKS[kind])
    assert both(["script.py"], tmp_path).returncode == 1
    both(["-"], tmp_path, stdin=TRACEBACKS[kind])


@pytest.mark.parametrize("kind", ["plain", "cause", "context", "group", "imported"])
def test_traceback_of_module_has_no_launcher(kind: str, tmp_path: Path) -> None:
    write(tmp_path / "script.py", TRACEBACKS[kind])
    plain, ours = start(PYTHON, ["-m", "script"], tmp_path), start(MOTET, ["-m", "script"], tmp_path)
    shown = plain.stderr.splitlines()
    frames = [number for number, line in enumerate(shown) if "<frozen runpy>" in line]
    expected = [line for number, line in enumerate(shown) if number not in frames]
    assert ours.stderr.splitlines() == expected
    assert frames
    assert ours.returncode == plain.returncode == 1


def test_traceback_out_of_the_loop_has_no_launcher(tmp_path: Path) -> None:
    write(
        tmp_path / "script.py",
        """
        import asyncio
        async def main():
            raise ValueError("inside")
        asyncio.run(main())
        """,
    )
    result = start(MOTET, ["script.py"], tmp_path)
    assert result.returncode == 1
    assert result.stderr.endswith("ValueError: inside\n")
    assert f"{os.sep}motet{os.sep}_launch.py" not in result.stderr
    assert result.stderr.splitlines()[1].lstrip().startswith(f'File "{tmp_path / "script.py"}"')


@pytest.mark.parametrize("waits", ["work()", "asyncio.run(main())"])
@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
def test_dies_by_the_signal(which: signal.Signals, waits: str, tmp_path: Path) -> None:
    write(
        tmp_path / "script.py",
        f"""
        import asyncio, time
        def work():
            print("ready", flush=True)
            for _ in range(6000):
                time.sleep(0.01)
        async def main():
            print("ready", flush=True)
            await asyncio.sleep(60)
        {waits}
        """,
    )
    statuses = []
    for command in (PYTHON, MOTET):
        process = subprocess.Popen(
            [*command, "script.py"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(which)
        _, errors = process.communicate(timeout=60)
        statuses.append((process.returncode, errors.splitlines()[-1:]))
    assert statuses[0] == statuses[1]
    assert statuses[1][0] == -which


# Children by spawn or forkserver cannot import the __main__ of a package or folder under plain python either.
@pytest.mark.parametrize(
    ("words", "method"),
    [
        *itertools.product((["work.py"], ["-m", "work"]), ("fork", "spawn", "forkserver")),
        *itertools.product((["-m", "package"], ["folder"]), ("fork",)),
    ],
)
def test_multiprocessing_and_pickle_find_main(words: list[str], method: str, tmp_path: Path) -> None:
    source = f"""
        import multiprocessing, pickle

        class Point:
            def __init__(self, x):
                self.x = x

        def double(point):
            return Point(point.x * 2)

        if __name__ == "__main__":
            print(pickle.loads(pickle.dumps(Point(1))).x, Point.__module__)
            with multiprocessing.get_context("{method}").Pool(2) as pool:
                print([point.x for point in pool.map_async(double, map(Point, range(5))).get(30)])
    """
    for name in ("work.py", "package/__main__.py", "folder/__main__.py"):
        write(tmp_path / name, source)
    assert both(words, tmp_path).stdout == "1 __main__\n[0, 2, 4, 6, 8]\n"


def test_asking_asyncio_gives_the_loop(tmp_path: Path) -> None:
    write(
        tmp_path / "script.py",
        """
        import asyncio, sys, motet
        from asyncio import new_event_loop

        async def main():
            print(isinstance(asyncio.get_running_loop(), motet.EventLoop))

        asyncio.run(main())
        with asyncio.Runner() as runner:
            runner.run(main())
        for create in (new_event_loop, asyncio.new_event_loop, asyncio.events.new_event_loop):
            loop = create()
            loop.run_until_complete(main())
            loop.close()
        if sys.version_info < (3, 14):
            loop = asyncio.get_event_loop_policy().new_event_loop()
            asyncio.set_event_loop(loop)
            asyncio.get_event_loop().run_until_complete(main())
            loop.close()
            asyncio.set_event_loop_policy(None)
            asyncio.run(main())
        else:
            asyncio.run(main())
            asyncio.run(main())
        """,
    )
    result = start([*PYTHON, "-W", "error", "-m", "motet", "run"], ["script.py"], tmp_path)
    assert (result.stdout, result.stderr) == ("True\n" * 7, "")


def test_get_event_loop_makes_the_loop(tmp_path: Path) -> None:
    if sys.version_info >= (3, 14):
        pytest.skip("asyncio.get_event_loop makes no loop from Python 3.14 on")
    write(
        tmp_path / "script.py",
        """
        import asyncio, motet
        loop = asyncio.get_event_loop()
        print(isinstance(loop, motet.EventLoop))
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        """,
    )
    assert start(MOTET, ["script.py"], tmp_path).stdout == "True\n"


@pytest.mark.parametrize("named", ["factory", "class", "policy"])
def test_a_loop_named_explicitly_is_kept_and_reported(named: str, tmp_path: Path) -> None:
    if named == "policy" and sys.version_info >= (3, 16):
        pytest.skip("this Python has no event loop policies")
    uses = {
        "factory": "with asyncio.Runner(loop_factory=Named) as runner: runner.run(main())",
        "class": "loop = Named()\nfor _ in 1, 2: loop.run_until_complete(main())\nloop.close()",
        "policy": "class Policy(asyncio.DefaultEventLoopPolicy):\n    _loop_factory = Named\n"
        "asyncio.set_event_loop_policy(Policy())\nasyncio.run(main())",
    }
    write(
        tmp_path / "script.py",
        "import asyncio\nclass Named(asyncio.SelectorEventLoop): pass\n"
        "async def main(): print(type(asyncio.get_running_loop()).__name__)\n" + uses[named] + "\n",
    )
    result = start(MOTET, ["--report", "script.py"], tmp_path)
    assert set(result.stdout.split()) == {"Named"}
    assert "No loop of motet's was made.\nalso ran: __main__.Named, 1 loop\n" in result.stderr


@pytest.mark.skipif(importlib.util.find_spec("uvloop") is None, reason="uvloop is not installed")
def test_uvloop_is_kept_and_reported(tmp_path: Path) -> None:
    write(
        tmp_path / "script.py",
        """
        import asyncio, uvloop
        async def main(): print(type(asyncio.get_running_loop()).__module__)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main())
        uvloop.run(main())
        """,
    )
    result = start(MOTET, ["--report", "script.py"], tmp_path)
    assert result.stdout == "uvloop\nuvloop\n"
    assert "also ran: uvloop.Loop, 2 loops\n" in result.stderr


def test_threshold_reaches_every_loop(tmp_path: Path) -> None:
    write(
        tmp_path / "script.py",
        """
        import asyncio, motet
        for create in (asyncio.new_event_loop, motet.new_event_loop):
            loop = create()
            print(round(loop.blocked_threshold, 6))
            loop.close()
        """,
    )
    for option, shown in (("--blocked-after=20", "0.02"), ("--blocked-after=0", "0.0")):
        result = start(MOTET, [option, "script.py"], tmp_path)
        assert (result.stdout, result.stderr) == (f"{shown}\n{shown}\n", "")
    assert start(MOTET, ["--blocked-after", "5", "script.py"], tmp_path).stdout == "0.005\n0.005\n"


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["missing.py"], "can't open file '{folder}/missing.py': [Errno 2] No such file or directory"),
        (
            ["--report", "missing.py"],
            "can't open file '{folder}/missing.py': [Errno 2] No such file or directory",
        ),
        (
            ["--report", "out.json", "script.py"],
            "can't open file '{folder}/out.json': [Errno 2] No such file or directory "
            "(a report's file follows an equals sign: --report=out.json)",
        ),
        ([], "no program; give a script, a directory, a zip file, '-' or -m module"),
        (["-m"], "-m needs the name of a module"),
        (
            ["--report=no/such.json", "-"],
            "cannot write the report to 'no/such.json'; give a file in a writable directory",
        ),
    ],
)
def test_refused_in_one_line(words: list[str], problem: str, tmp_path: Path) -> None:
    result = start(MOTET, words, tmp_path, stdin="")
    assert result.stderr == f"motet run: {problem.format(folder=tmp_path)}\n"
    assert (result.returncode, result.stdout) == (2, "")


def test_missing_module_and_main_as_python_says(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert both(["-m", "no_such_module"], tmp_path).returncode == 1
    assert both(["empty"], tmp_path).returncode == 1


@pytest.mark.parametrize(
    "option",
    [
        "--unknown",
        "--report=",
        "--blocked-after=soon",
        "--blocked-after=-1",
        "--blocked-after=nan",
        "--blocked-after=86400001",
    ],
)
def test_wrong_option(option: str, tmp_path: Path) -> None:
    write(tmp_path / "script.py", "print('ran')")
    result = start(MOTET, [option, "script.py"], tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("usage: motet run [options] script.py")
    assert option.partition("=")[2] in result.stderr


def test_double_dash_ends_the_options(tmp_path: Path) -> None:
    write(tmp_path / "script.py", "import sys; print(sys.argv)")
    assert start(MOTET, ["--", "script.py", "-x"], tmp_path).stdout == "['script.py', '-x']\n"


def test_help_and_version(tmp_path: Path) -> None:
    import motet

    command = MOTET[:-1]
    assert start(command, ["--version"], tmp_path).stdout.startswith(f"motet {motet.__version__} (")
    assert "run " in start(command, ["--help"], tmp_path).stdout
    shown = start(MOTET, ["--help"], tmp_path)
    assert shown.returncode == 0
    for option in ("--report=FILE.json", "--blocked-after=MILLISECONDS", "-m module", "--help"):
        assert option in shown.stdout
    nothing = start(command, [], tmp_path)
    assert (nothing.returncode, nothing.stdout) == (2, "")


def test_console_script(tmp_path: Path) -> None:
    script = Path(sysconfig.get_path("scripts")) / "motet"
    if not script.exists():
        pytest.skip("the package was not installed with its console script")
    write(tmp_path / "probe.py", PROBE)
    plain, ours = (
        start(PYTHON, ["probe.py", "x"], tmp_path),
        start([str(script), "run"], ["probe.py", "x"], tmp_path),
    )
    assert (ours.stdout, ours.stderr, ours.returncode) == (plain.stdout, plain.stderr, 0)
    write(tmp_path / "fails.py", TRACEBACKS["plain"])
    assert (
        start([str(script), "run"], ["fails.py"], tmp_path).stderr
        == start(PYTHON, ["fails.py"], tmp_path).stderr
    )
