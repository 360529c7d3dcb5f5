"""`sandbox` and `demo`: a cluster's API and a controller in one process, to try things on.

This file is for people; nothing of it runs where a real cluster is served.
"""

import asyncio
import contextlib
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec
import yaml
from rich.console import Console

from lbipam.adapters.kube_client import FIELD_MANAGER, Client
from lbipam.adapters.kube_config import Connection
from lbipam.commands import show
from lbipam.commands.answers import FailedError
from lbipam.commands.cluster import WORLD, Manifest, ManifestError, load_manifests, read_manifests
from lbipam.commands.process import health_server
from lbipam.commands.run import Controller, ControllerSettings
from lbipam.controllers import ipam_report
from lbipam.kube import forms
from lbipam.kube.crds import catalog
from lbipam.kube.ipam import IP_POOL, Responsibility
from lbipam.kube.kinds import Key
from lbipam.localapi import refusals
from lbipam.localapi.server import LocalApi

_PATIENCE_SECONDS = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSettings:
    """What a sandbox is told on its command line."""

    host: str = "127.0.0.1"
    port: int = 0
    kubeconfig_out: Path | None = None
    controller: bool = True
    manifests: Sequence[Path] = ()
    metrics_bind: tuple[str, int] | None = None


@asynccontextmanager
async def cluster(host: str, port: int) -> AsyncIterator[LocalApi]:
    """An API server in this process that knows all our kinds."""
    async with LocalApi(host=host, port=port) as api:
        await api.apply(catalog.all_crds())
        yield api


def connection_to(api: LocalApi) -> Connection:
    """How to reach an API server in this process."""

    async def token(_renew: bool) -> str | None:
        return api.token

    return Connection(url=api.url, ssl=ssl.create_default_context(cadata=api.ca_pem), token=token)


@asynccontextmanager
async def controller_of(client: Client, settings: ControllerSettings) -> AsyncIterator[Controller]:
    """A controller beside the block."""
    controller = Controller(client, IP_POOL, settings)
    task = asyncio.create_task(controller.run())
    try:
        async with health_server(controller, settings.metrics_bind):
            yield controller
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def run_sandbox(settings: SandboxSettings, say: Callable[[str], None]) -> None:
    """Serve a cluster of our own until cancelled."""
    manifests = load_manifests(settings.manifests)
    async with cluster(settings.host, settings.port) as api:
        await _load(api, manifests)
        with _kubeconfig_file(api, settings.kubeconfig_out) as path:
            say(f"A Kubernetes API listens on {api.url}. In another terminal:\n")
            say(f"  export KUBECONFIG={path}")
            say("  kubectl get ippools,svc")
            say("  lbipam status\n")
            say("Ctrl-C ends it; nothing is kept.")
            async with Client(connection_to(api)) as client:
                if not settings.controller:
                    await asyncio.get_running_loop().create_future()
                controller = ControllerSettings(leader_elect=False, metrics_bind=settings.metrics_bind)
                async with controller_of(client, controller):
                    await asyncio.get_running_loop().create_future()


async def _load(api: LocalApi, manifests: Sequence[Manifest]) -> None:
    try:
        await api.apply(manifests)
    except refusals.ApiError as problem:
        raise ManifestError(str(problem)) from None


@contextlib.contextmanager
def _kubeconfig_file(api: LocalApi, wanted: Path | None) -> Any:
    """The kubeconfig, where it is wanted, or in a folder that goes with the process; readable by us alone."""
    with contextlib.ExitStack() as stack:
        if wanted is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="lbipam-"))
            wanted = Path(folder) / "kubeconfig"
        wanted.touch(mode=0o600)
        wanted.write_text(api.kubeconfig(), encoding="utf-8")
        yield wanted


# --- the demo ----------------------------------------------------------------------------------------------


def walkthrough() -> list[Manifest]:
    """The manifests of the walk-through."""
    text = resources.files("lbipam.commands").joinpath("walkthrough.yaml").read_text(encoding="utf-8")
    return [document for document in yaml.safe_load_all(text) if document]


class DemoError(FailedError):
    """The demo did not come out as it should."""


async def run_demo(console: Console) -> None:
    """Show the walk-through on a cluster of our own, and end.

    Raises:
        DemoError: a Service did not get what it should.
    """
    manifests = walkthrough()
    settings = ControllerSettings(leader_elect=False)
    async with (
        cluster("127.0.0.1", 0) as api,
        Client(connection_to(api)) as client,
        controller_of(client, settings),
    ):
        console.print("[bold]A cluster of one control plane and two workers; two colours of pools.[/]\n")
        await api.apply(manifests)
        await _until(client, lambda status: all(one.reason != "not_looked_at" for one in status.services))
        await _show(client, console)

        key = Key("default", "green")
        console.print("\n[bold]Why has [cyan]default/green[/] none?[/]\n")
        show.print_explanation(await _explained(client, key), console)

        console.print("\n[bold]kubectl label service green --overwrite color=cyan[/]\n")
        await _label(client, key, {"color": "cyan"})
        await _until(client, lambda status: all(one.satisfied for one in status.services))
        await _show(client, console)
    console.print("\nTo go on by hand:\n")
    console.print("  lbipam sandbox                 # and, in another terminal, what it says:")
    console.print("  export KUBECONFIG=…")
    console.print("  kubectl get ippools,svc")


async def _report(client: Client) -> ipam_report.Report:
    world = show.learn(await read_manifests(client, WORLD), Responsibility())
    return ipam_report.report(world)


async def _show(client: Client, console: Console) -> None:
    show.print_report(await _report(client), console)


async def _explained(client: Client, key: Key) -> ipam_report.ExplainReport:
    world = show.learn(await read_manifests(client, WORLD), Responsibility())
    explained = ipam_report.explain(world, key)
    if explained is None:
        raise DemoError(f"Service {key} does not exist")
    return explained


async def _label(client: Client, key: Key, labels: dict[str, str]) -> None:
    await client.request(
        "PATCH",
        forms.SERVICE.path(key.namespace, key.name),
        params={"fieldManager": FIELD_MANAGER},
        body=msgspec.json.encode({"metadata": {"labels": labels}}),
        content_type="application/merge-patch+json",
    )


async def _until(client: Client, done: Callable[[ipam_report.Report], bool]) -> None:
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while not done(await _report(client)):  # noqa: ASYNC110 -- what is awaited is the API's answer
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise DemoError(f"nothing came of it in {_PATIENCE_SECONDS:.0f} s") from None
