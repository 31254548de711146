"""Those who hold and who wait, in words."""

import sys
import threading
from typing import Any

from motet._motet import GreenThread


def name(body: str, number: int) -> str:
    """A thread by its number, a task by the address of its object; as a person would call it."""
    found: str | None = None
    if body == "thread":
        found = next((thread.name for thread in threading.enumerate() if thread.ident == number), None)
    elif body == "task":
        found = _name_of_task(number)
    return f"{body} {found!r}" if found is not None else f"{body} {number:#x}"


def _name_of_task(number: int) -> str | None:
    asyncio: Any = sys.modules.get("asyncio")
    if asyncio is not None:
        loop = asyncio._get_running_loop()
        for task in asyncio.all_tasks(loop) if loop is not None else ():
            if id(task) == number:
                task_name: str = task.get_name()
                return task_name
    return None


def name_of_waiter(callback: Any) -> str:
    """Who is woken by this: the green thread that it is, the task whose method it is, or another."""
    if isinstance(callback, GreenThread):
        return f"green thread {callback.name!r}"
    owner: Any = getattr(callback, "__self__", None)
    get_name = getattr(owner, "get_name", None)
    if get_name is not None:
        return f"task {get_name()!r}"
    # A task of trio's, in the function that wakes it.
    task = getattr(callback, "task", None)
    return f"task {task.name!r}" if task is not None else "a task"
