"""The workers that an executor is asked for: which place has what, and what it refuses."""

from __future__ import annotations

import contextlib
import importlib
import os
import pickle
import sys
import weakref
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

from motet import _motet

from . import machine, starting
from .auto_workers import AutoWorkers
from .processes import ProcessWorkers, Settings
from .threads import Setup as ThreadSetup
from .threads import ThreadWorkers
from .worker import Setup

if TYPE_CHECKING:
    from collections.abc import Callable

    from .starting import Descriptors


class Wishes(NamedTuple):
    """The arguments of `Executor` that are about workers, each found to be right by itself.

    `workers` is how many there may be, `asked` what was said of that, if anything was.
    """

    workers: int
    asked: int | None
    initializer: Callable[..., object] | None
    initargs: tuple[Any, ...]
    preload: tuple[str, ...]
    memory_limit: int | None
    max_tasks_per_child: int | None
    strict: bool
    tag_output: bool
    threads_per_worker: int | None
    name: str
    mp_context: object

    def only_for_processes(self) -> list[str]:
        """The options given that no other place can have."""
        given = {
            "memory_limit": self.memory_limit is not None,
            "max_tasks_per_child": self.max_tasks_per_child is not None,
            "strict": self.strict,
            "tag_output": self.tag_output,
            "threads_per_worker": self.threads_per_worker is not None,
        }
        return [option for option, is_given in given.items() if is_given]


def make_workers(
    on: str, wishes: Wishes
) -> tuple[ProcessWorkers | ThreadWorkers | AutoWorkers, Descriptors | None]:
    """The workers, and what these need of this process as long as the executor lives.

    Raises:
        ValueError: an option is not for this place.
        NotImplementedError: this Python has no interpreters.
    """
    if on == "threads":
        _refuse(wishes.only_for_processes(), on)
        for module in wishes.preload:
            # One that cannot be imported is told of by the first call that wants it, as in processes.
            with contextlib.suppress(Exception):
                importlib.import_module(module)
        return ThreadWorkers(wishes.workers, _thread_setup(wishes), wishes.name), None
    if on == "interpreters":
        _refuse(wishes.only_for_processes() + (["preload"] if wishes.preload else []), on)
        _check_interpreters()
        from .interpreters import InterpreterWorkers

        return InterpreterWorkers(wishes.workers, _thread_setup(wishes), wishes.name), None
    settings, inherited = _settings(wishes)
    if on == "processes":
        return ProcessWorkers(settings), inherited
    # In threads, some would have an effect on the program itself, or none.
    more = {
        "initializer": wishes.initializer,
        "preload": wishes.preload,
        "mp_context": wishes.mp_context,
    }
    options = wishes.only_for_processes() + [option for option, value in more.items() if value]
    return AutoWorkers(settings, wishes.asked, f"{_names(options)} for them" if options else None), inherited


def _thread_setup(wishes: Wishes) -> ThreadSetup:
    return ThreadSetup(wishes.initializer, wishes.initargs)


def _refuse(options: list[str], on: str) -> None:
    if options:
        raise ValueError(f"{_names(options)} for on='processes', not for {on}, which share this process")


def _names(options: list[str]) -> str:
    if len(options) == 1:
        return f"{options[0]} is"
    return f"{', '.join(options[:-1])} and {options[-1]} are"


def _check_interpreters() -> None:
    if find_spec("concurrent.interpreters") is None or not hasattr(os, "eventfd"):
        here = f"Python {sys.version_info.major}.{sys.version_info.minor} on {sys.platform}"
        raise NotImplementedError(
            f"on='interpreters' needs Python 3.14 or later on Linux, and this is {here}: use on='processes', "
            "or on='threads' for calls that mostly wait"
        )


def _settings(wishes: Wishes) -> tuple[Settings, Descriptors | None]:
    begun, inherited = None, None
    if wishes.initializer is not None:
        begun, inherited = starting.dump(wishes.initializer, wishes.initargs)
    settings = Settings(
        wishes.workers,
        _setup(begun, wishes.workers, wishes.threads_per_worker),
        wishes.preload,
        wishes.name,
        wishes.strict,
        wishes.memory_limit,
        wishes.max_tasks_per_child,
        wishes.tag_output,
        None if inherited is None else weakref.ref(inherited),
    )
    return settings, inherited


def _setup(initializer: bytes | None, count: int, threads: int | None) -> bytes:
    if threads is None:
        threads = max(1, machine.usable_cpus() // count)
    level = None
    if "logging" in sys.modules:
        import logging

        level = logging.getLogger().getEffectiveLevel()
    limit = int(_motet._arena_statistics()["limit"])
    return pickle.dumps(Setup(initializer, threads or None, level, limit))
