"""A node for the lab: an announcer that reads what to announce from its input and tells what happens.

    ip netns exec NODE python -m tests.lab.l2.node

Each line of the input is one JSON object: `{"apply": {interface: [address]}, "handed_over": [address],
"valid_for": seconds or null}`, `{"extend": seconds}` or `{"status": true}`. Each line of the output
answers one of them, or tells an event. `--no-echo` leaves ping to others; `--busy` computes most of the
time, as an agent with much else to do.
"""

import asyncio
import json
import sys
from ipaddress import ip_address
from math import inf
from typing import Any

import structlog

from lbipam.adapters.l2_announcer import Announcer
from lbipam.adapters.l2_pipe import now
from lbipam.core.l2.announcements import Announced, Conflict, Event, InterfaceLost, InterfaceReady


def tell(**what: object) -> None:
    print(json.dumps(what), flush=True)


def tell_event(event: Event) -> None:
    match event:
        case Announced():
            tell(announced=str(event.address), interface=event.interface)
        case Conflict():
            tell(conflict=str(event.address), rival=event.rival.hex(":"), stage=event.stage.value)
        case InterfaceLost():
            tell(lost=event.interface, why=event.why)
        case InterfaceReady():
            tell(ready=event.interface)


async def obey(announcer: Announcer, order: dict[str, Any]) -> None:
    match order:
        case {"apply": wanted, "handed_over": handed_over, "valid_for": seconds}:
            sets = {name: frozenset(map(ip_address, addresses)) for name, addresses in wanted.items()}
            ours = frozenset(map(ip_address, handed_over))
            valid_until = inf if seconds is None else now() + seconds
            started = now()
            await announcer.apply(sets, handed_over=ours, valid_until=valid_until)
            tell(applied=now() - started)
        case {"extend": seconds}:
            announcer.extend(now() + seconds)
            tell(extended=True)
        case _:
            tell(
                status={
                    each.interface: {
                        "stages": {stage.value: count for stage, count in each.stages.items()},
                        "answered": dict(each.answered),
                        "ignored": {reason.value: count for reason, count in each.ignored.items()},
                        "unsent": each.unsent,
                    }
                    for each in await announcer.status()
                }
            )


async def compute() -> None:
    """Work that holds the event loop, and the interpreter, for 20 of each 25 milliseconds."""
    while True:
        end = now() + 0.02
        while now() < end:
            sum(range(1000))
        await asyncio.sleep(0.005)


async def main() -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(file=sys.stderr))
    reader = asyncio.StreamReader(limit=1 << 24)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    work = asyncio.create_task(compute()) if "--busy" in sys.argv else None
    async with Announcer(answers_echo="--no-echo" not in sys.argv, on_event=tell_event) as announcer:
        while line := await reader.readline():
            await obey(announcer, json.loads(line))
    if work is not None:
        work.cancel()
    transport.close()


if __name__ == "__main__":
    asyncio.run(main())
