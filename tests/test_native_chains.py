"""Long chains of motet's futures, each of which holds the next, go without a stack as long as they are."""

from __future__ import annotations

import pytest
from conftest import RunProgram

LINKS = {
    "result": "future.set_result(following)",
    "list": "future.set_result([following])",
    "exception": "future.set_exception(Holding(following)); future._log_traceback = False",
    "callback": "future.add_done_callback(following.remove_done_callback)",
    "attribute": "future.following = following",
}

CHAIN = """
    import asyncio, gc, weakref
    import motet

    class Holding(Exception):
        pass

    class Derived(motet.Future):
        pass

    async def give(value):
        return value

    async def main():
        # Each task of a chain has the one before for its result, and has ended before the next one begins.
        following = witness
        for _ in range(LENGTH):
            ended = loop.create_task(give(following))
            await asyncio.sleep(0)
            following = ended
        return [following]

    def make(kind):
        following = witness
        for _ in range(LENGTH):
            future = kind(loop=loop)
            link(future, following)
            following = future
        return [following]

    def link(future, following):
        {link}

    LENGTH = 50_000
    gc.disable()
    loop = motet.new_event_loop()
    loop.set_task_factory(motet.task_factory)
    makers = [lambda: make(motet.Future), lambda: make(Derived), lambda: loop.run_until_complete(main())]
    for maker in makers:
        witness = motet.Future(loop=loop)
        gone = weakref.ref(witness)
        chain = maker()
        del witness
        assert gone() is not None
        chain.clear()
        del chain
        assert gone() is None
    loop.close()
    print("gone")
"""


@pytest.mark.parametrize("link", LINKS.values(), ids=list(LINKS))
def test_a_long_chain_goes(run_program: RunProgram, link: str) -> None:
    ended = run_program(CHAIN.replace("{link}", link))
    assert (ended.returncode, ended.stdout) == (0, "gone\n"), ended.stderr[-2000:]
