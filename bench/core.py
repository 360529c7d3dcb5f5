"""P1: what does one decision cost, and does that grow with the number of Services?

CPU time of one core, per operation, at several numbers of Services already placed in a /16.
"""

import gc
import random
import statistics
import time
from collections.abc import Callable

from bench.figures import Figure
from lbipam.core.ipam import allocation
from lbipam.core.ipam.ledger import Ledger
from lbipam.core.ipam.services import Service
from tests.builders import ip, ledger, pool, service, shares

SIZES = (1_000, 10_000, 50_000)
_OPERATIONS = 2_000
_LIMITS_US = {"allocate": 25, "churn": 25, "full": 10, "share 10": 25, "share all": 25, "import": 15}


def _grant(made: Ledger, one: Service) -> None:
    decision = allocation.decide(one, made)
    for address in decision.granted:
        made.claim(one.key, address, one.sharing)


def _filled(count: int, *, every: Callable[[int], Service]) -> Ledger:
    made = ledger(pool("p", "10.0.0.0/16"))
    for number in range(count):
        _grant(made, every(number))
    return made


def _plain(number: int) -> Service:
    return service(f"ns/s{number}")


def _ten(number: int) -> Service:
    return service(f"ns/s{number}", sharing=shares(f"k{number // 10}", 1 + number % 10))


def _all(number: int) -> Service:
    return service(f"ns/s{number}", sharing=shares("k", 1 + number))


def _timed(work: Callable[[], None], operations: int) -> float:
    began = time.process_time()
    work()
    return (time.process_time() - began) / operations * 1e6


def _allocate(count: int, every: Callable[[int], Service]) -> float:
    made = _filled(count, every=every)
    new = [every(count + number) for number in range(_OPERATIONS)]

    def work() -> None:
        for one in new:
            _grant(made, one)

    return _timed(work, len(new))


def _churn(count: int) -> float:
    made = _filled(count, every=_plain)
    dice = random.Random(1)
    chosen = [service(f"ns/s{dice.randrange(count)}") for _ in range(_OPERATIONS)]

    def work() -> None:
        for one in chosen:
            for address in made.claims_of(one.key):
                made.release(one.key, address)
            _grant(made, one)

    return _timed(work, len(chosen))


def _full(count: int) -> float:
    made = ledger(pool("p", f"10.0.0.0-{_last(count)}"))
    for number in range(count):
        _grant(made, _plain(number))
    new = [_plain(count + number) for number in range(_OPERATIONS)]

    def work() -> None:
        for one in new:
            allocation.decide(one, made)

    return _timed(work, len(new))


def _last(count: int) -> str:
    last = count - 1
    return f"10.{last >> 16 & 255}.{last >> 8 & 255}.{last & 255}"


def _import(count: int) -> float:
    made = ledger(pool("p", "10.0.0.0/16"))
    services = [(_plain(number), ip(_last(number + 1))) for number in range(count)]

    def work() -> None:
        for one, address in services:
            if allocation.why_unlawful(one, address, made) is None:
                made.claim(one.key, address, one.sharing)

    # As in a controller, which spares the garbage collector what it learns at the start.
    gc.collect()
    gc.disable()
    try:
        return _timed(work, count)
    finally:
        gc.enable()


def measure(*, quick: bool) -> tuple[list[Figure], dict[str, list[tuple[int, float]]]]:
    """Every operation at every size, medians of runs; the figures, and the points of a chart."""
    sizes, runs = (SIZES[:2], 1) if quick else (SIZES, 5)
    operations: dict[str, Callable[[int], float]] = {
        "allocate": lambda count: _allocate(count, _plain),
        "churn": _churn,
        "full": _full,
        "share 10": lambda count: _allocate(count, _ten),
        "share all": lambda count: _allocate(count, _all),
        "import": _import,
    }
    figures: list[Figure] = []
    points: dict[str, list[tuple[int, float]]] = {}
    for name, operation in operations.items():
        line = points[name] = [
            (size, statistics.median(operation(size) for _ in range(runs))) for size in sizes
        ]
        figures += [
            Figure(
                name=f"P1 {name}, {size:,} placed", value=value, unit="µs of CPU", at_most=_LIMITS_US[name]
            )
            for size, value in line
        ]
        growth = line[-1][1] / line[0][1]
        figures.append(
            Figure(name=f"P1 {name}, {sizes[-1]:,} against {sizes[0]:,}", value=growth, unit="×", at_most=1.5)
        )
    return figures, points
