"""Those who hold and who wait, in words."""

import sys
import threading
from typing import Any


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
