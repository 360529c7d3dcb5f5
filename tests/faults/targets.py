"""Which API servers can a storm rage on, and what can go wrong with each?

The same faults for the embedded API and the real one: writes that are refused, delayed or lost, watches that
break and expire, a server that hangs, and one that is killed and started again. This file kills no controller.
"""

import asyncio
import contextlib
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from lbipam.kube.crds import catalog
from lbipam.localapi.faults import Delay, Drop, Fault, Faults, Refuse
from lbipam.localapi.server import LocalApi
from tests import real_api as real
from tests import real_apply
from tests.faults.relay import Relay

_PAUSE_SECONDS = 5.0
"""Longer than the renew deadline of the controllers, so that a leader is fenced."""
_STATUSES = 20
_RENEWALS = 3
"""How many writes meet a fault."""

_DEFINITIONS = catalog.all_crds()[:2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """An API server and what can go wrong with it."""

    url: str
    token: str
    context: ssl.SSLContext
    kubeconfig: Path
    """For users."""
    controllers_kubeconfig: Path
    """For controllers: a way on which things go wrong."""
    troubles: Mapping[str, Callable[[], object]]
    """By name."""
    calm: Callable[[], object]


@contextlib.contextmanager
def embedded(folder: Path) -> Iterator[Target]:
    """The embedded API on a thread of its own, with its faults."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="embedded API")
    thread.start()
    (port,) = real.free_ports(1)
    api = LocalApi(port=port)

    async def restart() -> None:
        await api.__aexit__(None, None, None)
        await api.__aenter__()

    def kill() -> None:
        asyncio.run_coroutine_threadsafe(restart(), loop).result()

    def pause() -> None:
        loop.call_soon_threadsafe(time.sleep, _PAUSE_SECONDS)
        time.sleep(_PAUSE_SECONDS)

    asyncio.run_coroutine_threadsafe(api.__aenter__(), loop).result()
    try:
        asyncio.run_coroutine_threadsafe(api.apply(_DEFINITIONS), loop).result()
        kubeconfig = folder / "kubeconfig"
        kubeconfig.write_text(api.kubeconfig())
        yield Target(
            url=api.url,
            token=api.token,
            context=ssl.create_default_context(cadata=api.ca_pem),
            kubeconfig=kubeconfig,
            controllers_kubeconfig=kubeconfig,
            troubles={"server killed": kill, "server paused": pause, **_troubles(api.faults, loop)},
            calm=partial(loop.call_soon_threadsafe, api.faults.clear),
        )
    finally:
        asyncio.run_coroutine_threadsafe(api.__aexit__(None, None, None), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextlib.contextmanager
def on_a_real_server(folder: Path) -> Iterator[Target]:
    """A real API server of its own, and a relay before it for the faults that it cannot have itself."""
    if real.assets() is None:
        pytest.skip(real.WHY_NOT)
    with real.RealApi() as api, Relay(api.kubeconfig).open() as relay:
        real_apply.define(api, _DEFINITIONS)

        def pause() -> None:
            with api.paused():
                time.sleep(_PAUSE_SECONDS)

        yield Target(
            url=api.url,
            token=api.token,
            context=ssl.create_default_context(cafile=str(api.ca_file)),
            kubeconfig=api.kubeconfig,
            controllers_kubeconfig=relay.write_kubeconfig(folder / "relayed"),
            troubles={
                "server killed": api.restart,
                "server paused": pause,
                **_troubles(relay.faults, relay.loop),
            },
            calm=partial(relay.loop.call_soon_threadsafe, relay.faults.clear),
        )


def _troubles(faults: Faults, loop: asyncio.AbstractEventLoop) -> dict[str, Callable[[], object]]:
    writes: dict[str, Fault] = {
        "409": Refuse(code=409, reason="Conflict", message="storm"),
        "429": Refuse(code=429, reason="TooManyRequests", message="storm", retry_after_seconds=1),
        "500": Refuse(code=500, reason="InternalError", message="storm"),
        "done but not answered": Drop(done=True),
        "lost": Drop(done=False),
        "late": Delay(seconds=1.0),
        "too late": Delay(seconds=_PAUSE_SECONDS),
    }
    troubles: dict[str, Callable[[], object]] = {}
    for name, fault in writes.items():
        troubles[f"statuses {name}"] = partial(faults.arm, fault, count=_STATUSES, path="/status")
        troubles[f"Lease {name}"] = partial(faults.arm, fault, count=_RENEWALS, path="/leases/")
    troubles["watches expired"] = faults.expire
    troubles["watches cut"] = faults.cut_watches
    troubles["watches half a line"] = partial(faults.halve_lines, 3)
    return {name: partial(loop.call_soon_threadsafe, trouble) for name, trouble in troubles.items()}
