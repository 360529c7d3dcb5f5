"""`drain` and `undrain`: asks a node's agent to give its addresses up without loss, or to take them again.

The wish is one annotation of the Node; agents do the rest. What is waited for is the agent's own word in the
node's CiliumBGPNodeConfig. This file withdraws nothing.
"""

import asyncio
from typing import Annotated

import msgspec
import typer

from lbipam.adapters import kube_config
from lbipam.adapters.kube_client import FIELD_MANAGER, ApiError, Client
from lbipam.commands import answers
from lbipam.commands.served import served_bgp_kinds
from lbipam.commands.settings import Context, Kubeconfig
from lbipam.controllers import bgp_report
from lbipam.kube import bgp, bgp_forms, forms

app = typer.Typer()

_LOOK_SECONDS = 0.5

NodeName = Annotated[str, typer.Argument(help="Name of a Node.", metavar="NODE")]


@app.command(epilog="Example: lbipam drain worker-2")
def drain(
    node: NodeName,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Wait until no BGP peer has a route to it any more.")
    ] = True,
    timeout: Annotated[float, typer.Option(help="How long to wait at most.", metavar="S")] = 60.0,
) -> None:
    """Take a node's addresses off it, losing no packets.

    Its BGP peers are warned, then its routes withdrawn; on the LAN other nodes answer.
    """
    console = answers.console()

    async def work() -> None:
        async with Client(await kube_config.connect(kubeconfig, context)) as client:
            await _annotate(client, node, "true")
            if not wait:
                return
            with console.status(f"waiting until no peer has a route to {node}"):
                await _withdrawn(client, node, timeout)

    answers.carry_out(work)
    typer.echo(f"{node} is drained" if wait else f"{node} drains")


@app.command(epilog="Example: lbipam undrain worker-2")
def undrain(node: NodeName, kubeconfig: Kubeconfig = None, context: Context = None) -> None:
    """Let a node that was drained announce again."""

    async def work() -> None:
        async with Client(await kube_config.connect(kubeconfig, context)) as client:
            await _annotate(client, node, None)

    answers.carry_out(work)
    typer.echo(f"{node} announces again")


async def _annotate(client: Client, node: str, value: str | None) -> None:
    await client.request(
        "PATCH",
        forms.NODE.path(name=node),
        params={"fieldManager": FIELD_MANAGER},
        body=msgspec.json.encode({"metadata": {"annotations": {bgp.DRAIN: value}}}),
        content_type="application/merge-patch+json",
    )


async def _withdrawn(client: Client, node: str, seconds: float) -> None:
    """Return when the node's agent says that no peer has a route to it.

    Raises:
        FailedError: it does not say so in time.
    """
    kinds = await served_bgp_kinds(client)
    doubts: tuple[str, ...] = ()
    try:
        async with asyncio.timeout(seconds):
            while doubts := await _doubts(client, kinds, node):  # noqa: ASYNC110 -- another process is waited for
                await asyncio.sleep(_LOOK_SECONDS)
    except TimeoutError:
        raise answers.FailedError(
            f"{node} may still get traffic after {seconds:g} s: {'; '.join(doubts) or 'nothing is known'}. "
            "It drains all the same"
        ) from None


async def _doubts(client: Client, kinds: bgp_forms.Kinds, node: str) -> tuple[str, ...]:
    """Why peers may have routes; a node without configuration announces none."""
    try:
        body = await client.request("GET", kinds.node_config.path(name=node))
    except ApiError as problem:
        if problem.code == 404:
            return ()
        raise
    return tuple(bgp_report.doubts(msgspec.json.decode(body, type=bgp_forms.NodeConfig)))
