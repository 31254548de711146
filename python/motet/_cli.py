"""The command `motet`: reads the command line and starts what it asks for.

`motet run [options] script.py [arguments]` ends its own options at the script or at `-m`, as python does, so
that a program may have options of the same names.
"""

from __future__ import annotations

import sys

from motet import _imports, _launch

# As typing's, which takes long to import. Type checkers know the name.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from motet._record import Recorder

OPTIONS_WITH_VALUE = {"--blocked-after"}
USAGE_ERROR = 2


class _Refused(Exception):
    """The command line asks for what cannot be done."""


class _Options:
    """What the options say; here, what holds without them."""

    report: str | None = None
    blocked_after: float = 100.0
    native_tasks: bool = False
    native_streams: bool = False
    pools: bool = False


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["run"]:
        own, program = _split(words[1:])
        return _run(_read(own), program)
    from motet import _options

    _options.parser().parse_args(words)
    return USAGE_ERROR


def _read(words: Sequence[str]) -> _Options:
    options = _Options()
    if words:
        from motet import _options

        parser = _options.run_parser()
        parser.parse_args(words, options)
        if "--report=" in words:
            parser.error("argument --report=: the name of a file is missing")
    return options


def _split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Separate the command's own options from the program and its arguments."""
    index = 0
    while index < len(words) and words[index].startswith("-") and words[index] != "-":
        word = words[index]
        if word == "--":
            return list(words[:index]), list(words[index + 1 :])
        if word.startswith("-m"):
            break
        index += 2 if word in OPTIONS_WITH_VALUE else 1
    return list(words[:index]), list(words[index:])


def _run(options: _Options, words: list[str]) -> int:
    if not words:
        return _refuse("no program; give a script, a directory, a zip file, '-' or -m module")
    recorder = None
    try:
        program = _load(words, options)
        if options.report is not None:
            recorder = _start_report(options, words)
    except (_launch.CannotOpen, _Refused) as problem:
        return _refuse(str(problem))
    _follow_imports(options, recorder)
    if options.pools:
        from motet.compat import pools

        pools.install()
    _launch.run(program)
    return 0


def _follow_imports(options: _Options, recorder: Recorder | None) -> None:
    """Have the program get motet's loop once it imports asyncio, and not before: both take long to import."""

    def asyncio_imported() -> None:
        # A program's own asyncio.py may hide the library, as it does under python.
        if "asyncio.events" not in sys.modules:
            return
        from motet import _install

        _install.loops(options.native_tasks)
        if options.native_streams:
            from motet import _stream_functions

            _stream_functions.install()
        if recorder is not None:
            _install.observe_others(recorder)

    def loop_imported() -> None:
        from motet import _install
        from motet._loop import EventLoop

        if recorder is not None:
            _install.observe(EventLoop, recorder)
        _install.threshold(EventLoop, options.blocked_after / 1000)

    _imports.after("asyncio", asyncio_imported)
    _imports.after("motet._loop", loop_imported)


def _load(words: list[str], options: _Options) -> Callable[[], None]:
    first, rest = words[0], words[1:]
    if not first.startswith("-m"):
        try:
            return _launch.load_path(first, rest)
        except _launch.CannotOpen as problem:
            if options.report == "" and first.endswith(".json"):
                raise _Refused(
                    f"{problem} (a report's file follows an equals sign: --report={first})"
                ) from None
            raise
    named = [first[2:], *rest] if first != "-m" else rest
    if not named:
        raise _Refused("-m needs the name of a module")
    return _launch.load_module(named[0], named[1:])


def _start_report(options: _Options, words: list[str]) -> Recorder:
    from motet import _report

    try:
        return _report.start(words, options.blocked_after, options.report)
    except _report.CannotWrite as problem:
        raise _Refused(str(problem)) from None


def _refuse(problem: str) -> int:
    print(f"motet run: {problem}", file=sys.stderr)
    return USAGE_ERROR
