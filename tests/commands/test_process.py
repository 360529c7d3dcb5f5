"""What processes have besides their work."""

import asyncio
import gc
import os

from lbipam.commands.process import learn_without_pauses, only, running
from tests.patience import until


async def test_what_is_learnt_at_the_start_is_spared_the_collector_and_nothing_else() -> None:
    has_learnt = False
    try:
        async with running(learn_without_pauses(lambda: has_learnt)):
            await until(lambda: not gc.isenabled())
            assert gc.get_freeze_count() == 0
            has_learnt = True
            await until(gc.isenabled)
            assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()


async def test_a_second_process_of_a_name_waits_until_the_first_ends() -> None:
    order: list[str] = []

    async def second() -> None:
        async with only(name):
            order.append("second")

    name = f"test/{os.getpid()}"
    async with asyncio.TaskGroup() as group, only(name), only(f"{name}/another"):
        group.create_task(second())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        order.append("first")
    assert order == ["first", "second"]
