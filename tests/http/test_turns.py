"""Long computations take turns, and give them back however they end."""

import asyncio
import gc
from datetime import UTC, datetime

import httpx
import pytest

from app.errors import Unavailable
from app.operations.backtest import Backtested, backtest
from app.operations.context import Context
from app.operations.turns import Queue, Turns
from tests.http.conftest import Service
from tests.http.small import decide, in_force, policy, register


async def has_a_turn(queue: Queue) -> bool:
    """Whether somebody who comes now has a turn at once."""
    try:
        async with queue.turn():
            return True
    except Unavailable:
        return False


async def test_who_waits_is_next_and_does_not_wait_for_long() -> None:
    queue = Queue(1, patience_seconds=0.05)
    async with queue.turn():
        with pytest.raises(Unavailable) as refused:
            async with queue.turn():
                pass
        patient = asyncio.create_task(has_a_turn(queue))
        await asyncio.sleep(0.01)

    assert refused.value.reason == "busy"
    assert await patient


async def test_so_many_wait_and_no_more() -> None:
    queue = Queue(1, most_waiting=1, patience_seconds=5)
    async with queue.turn():
        waiting = asyncio.create_task(has_a_turn(queue))
        await asyncio.sleep(0)
        beyond = await has_a_turn(queue)

    assert (beyond, await waiting) == (False, True)


@pytest.mark.parametrize("lines_taken", [0, 1])
async def test_a_backtest_that_nobody_reads_on_gives_its_turn_back(
    empty: Service, empty_client: httpx.AsyncClient, lines_taken: int
) -> None:
    """Its caller went away: before the first line was sent, or after it."""
    await in_force(empty, empty_client, policy())
    await register(empty_client, "m@1")
    await decide(empty_client, "m@1")
    queue = Queue(1, most_waiting=0)
    context = Context(empty.store, "key_a", datetime.now(UTC), turns=Turns(queue, Queue()))
    lines = await backtest(context, "small", "1", Backtested(scope="current"))
    for _ in range(lines_taken):
        await anext(lines)
    during = await has_a_turn(queue)
    del lines
    gc.collect()
    await asyncio.sleep(0.1)

    assert (during, await has_a_turn(queue)) == (False, True)
