"""What processes have besides their work."""

import gc

from lbipam.commands.process import learn_without_pauses, running
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
