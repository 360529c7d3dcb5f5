"""`get peers`, `get routes`, `get announcements`: what the agents of a cluster tell and are told.

Everything is read from the API, so that no agent need be reached. This file decides nothing: reports are made
by the functions that agents decide with.
"""

import asyncio
from collections.abc import Iterable, Iterator
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from lbipam.adapters import kube_config
from lbipam.adapters.kube_client import Client
from lbipam.commands import answers
from lbipam.commands.cluster import ManifestError, read_manifests, to_form
from lbipam.commands.served import served_bgp_kinds, served_pool_kind, served_slice_kind
from lbipam.commands.settings import (
    Context,
    GoFlags,
    Kubeconfig,
    Output,
    OutputOption,
    WithoutEndpointsOption,
)
from lbipam.controllers import bgp_node, bgp_report, l2_report
from lbipam.controllers.cache import Cache, Change
from lbipam.controllers.ports import Synced, Upserted
from lbipam.kube import forms, l2
from lbipam.kube.events import EVENT
from lbipam.kube.kinds import Key, Kind

app = typer.Typer(no_args_is_help=True, epilog="Example: lbipam get peers")

_LOOK_SECONDS = 0.25


@app.callback()
def get() -> None:
    """What is announced from where, by BGP and on the LAN."""


@app.command(epilog="Example: lbipam get peers -o json")
def peers(
    kubeconfig: Kubeconfig = None, context: Context = None, output: OutputOption = Output.TABLE
) -> None:
    """Each node's BGP sessions: how they stand, and why.

    State, since when, routes sent and refused, why down. Exit code 1 if one is not up.
    """

    async def work() -> bgp_report.PeersReport:
        async with Client(await kube_config.connect(kubeconfig, context)) as client:
            world = _World(client)
            kinds = await served_bgp_kinds(client)
            await world.read((kinds.node_config,))
            return bgp_report.sessions(world.cache, kinds)

    report = answers.carry_out(work)
    answers.emit(report, output, lambda: _print_peers(report))
    if not report.all_up:
        raise typer.Exit(1)


@app.command(cls=GoFlags, epilog="Example: lbipam get routes --node worker-1")
def routes(
    node: Annotated[str | None, typer.Option(help="Of this node only.", metavar="NODE")] = None,
    announce_without_endpoints: WithoutEndpointsOption = True,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Each node's BGP routes, and whether its peers have them.

    Routes by the node's configuration; whether each peer has as many, or why not. Exit code 1 if the node
    named has none.
    """

    async def work() -> bgp_report.RoutesReport:
        async with Client(await kube_config.connect(kubeconfig, context)) as client:
            slices, pools = await served_slice_kind(client), await served_pool_kind(client)
            kinds, world = await served_bgp_kinds(client), _World(client)
            await world.read(bgp_report.route_kinds(slices=slices, pools=pools, kinds=kinds))
            world.cache.store(Synced(kind=forms.SECRET))
            names = bgp_report.nodes(world.cache, kinds)
            if node is not None and node not in names:
                raise answers.FailedError(f"no BGP configuration is for a node {node}")
            agents = [
                bgp_node.Options(
                    node=name,
                    announce_without_endpoints=announce_without_endpoints,
                    slices=slices,
                    pools=pools,
                    kinds=kinds,
                )
                for name in ((node,) if node is not None else names)
            ]
            return bgp_report.routes(world.cache, world.changes, agents)

    report = answers.carry_out(work)
    answers.emit(report, output, lambda: _print_routes(report))


@app.command(epilog="Example: lbipam get announcements")
def announcements(
    namespace: Annotated[
        str | None,
        typer.Option("--namespace", "-n", help="Where the agents' Leases lie; by default wherever they are."),
    ] = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Which node answers on the LAN for which address.

    And since when. Exit code 1 if none answers for one. A node lives if its Lease changes: that is
    watched for up to a few seconds.
    """

    async def work() -> l2_report.AnnouncementsReport:
        async with Client(await kube_config.connect(kubeconfig, context)) as client:
            where = namespace or await _namespace_of_leases(client)
            how = l2_report.options(slices=await served_slice_kind(client), namespace=where)
            world = _World(client)
            with Console(stderr=True).status("watching the Leases"):
                alive = await _alive(client, where)
            await world.read((*how.watched, EVENT))
            changes = (one for one in world.changes if one.kind is not forms.LEASE or one.key in alive)
            return l2_report.announcements(world.cache, changes, how)

    report = answers.carry_out(work)
    answers.emit(report, output, lambda: _print_announcements(report))
    if not report.all_held:
        raise typer.Exit(1)


class _World:
    """Objects of a cluster as they were read, once."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._kinds: list[Kind] = []
        self.cache = Cache()

    async def read(self, kinds: Iterable[Kind]) -> None:
        """Read all objects of these kinds; of one that the server does not know there are none."""
        for kind in kinds:
            for manifest in await read_manifests(self._client, (kind,)):
                self.cache.store(Upserted(kind=kind, object=to_form(kind, manifest)))
            self.cache.store(Synced(kind=kind))
            self._kinds.append(kind)

    @property
    def changes(self) -> Iterator[Change]:
        """Every object, as if it had just come to be."""
        for kind in self._kinds:
            for key, known in self.cache.objects(kind).items():
                yield Change(kind, key, None, known)


async def _namespace_of_leases(client: Client) -> str:
    namespaces = sorted({key.namespace for key in await _leases(client)})
    if len(namespaces) > 1:
        raise ManifestError(f"agents have Leases in {', '.join(namespaces)}: choose with --namespace")
    return namespaces[0] if namespaces else "kube-system"


async def _alive(client: Client, namespace: str) -> frozenset[Key]:
    """The Leases of agents that are renewed before our eyes: times of other machines say nothing."""
    clock = asyncio.get_running_loop().time
    began, first = clock(), await _leases(client, namespace)
    alive = {key for key, one in first.items() if isinstance(l2.read_lease(one), l2.Released)}
    while True:
        now, seen = clock() - began, await _leases(client, namespace)
        alive |= {
            key for key, one in seen.items() if key not in first or _version(one) != _version(first[key])
        }
        if all(key in alive or now >= _duration(one) for key, one in first.items()):
            return frozenset(alive)
        await asyncio.sleep(_LOOK_SECONDS)


async def _leases(client: Client, namespace: str | None = None) -> dict[Key, forms.Lease]:
    ours: dict[Key, forms.Lease] = {}
    for manifest in await read_manifests(client, (forms.LEASE,)):
        metadata = manifest["metadata"]
        in_sight = namespace is None or metadata["namespace"] == namespace
        if in_sight and metadata["name"].startswith(l2.LEASE_PREFIX):
            lease = to_form(forms.LEASE, manifest)
            assert isinstance(lease, forms.Lease)
            ours[lease.metadata.key] = lease
    return ours


def _version(lease: forms.Lease) -> str:
    return lease.metadata.resource_version


def _duration(lease: forms.Lease) -> float:
    reading = l2.read_lease(lease)
    return reading.lease.duration_seconds if isinstance(reading, l2.NodeLease) else 0.0


# --- tables ------------------------------------------------------------------------------------------------


def _print_peers(report: bgp_report.PeersReport) -> None:
    table = answers.table(
        "NODE", "PEER", "ADDRESS", "ASN", "STATE", "SINCE", "SENT", "RECEIVED", "REFUSED", "WHY"
    )
    for one in report.sessions:
        state = Text(one.state, style="green" if one.is_up else "red")
        numbers = map(str, (one.sent, one.received, one.refused))
        peer = f"{one.instance}/{one.peer}"
        table.add_row(one.node, peer, one.address, str(one.asn), state, one.since, *numbers, one.why)
    console = answers.console()
    console.print(table)
    for node, problems in report.problems.items():
        for problem in problems:
            console.print(Text(f"Node {node}: {problem}", style="yellow"))


def _print_routes(report: bgp_report.RoutesReport) -> None:
    table = answers.table("PREFIX", "NODE", "PEER", "STATE", "COMMUNITIES", "LOCAL PREFERENCE", "WHY")
    for one in report.routes:
        state = Text(one.state, style="green" if one.state == "sent" else "red")
        communities = " ".join((*one.communities, *one.large_communities))
        preference = "" if one.local_preference is None else str(one.local_preference)
        table.add_row(
            one.prefix, one.node, f"{one.instance}/{one.peer}", state, communities, preference, one.why
        )
    answers.console().print(table)


def _print_announcements(report: l2_report.AnnouncementsReport) -> None:
    table = answers.table("ADDRESS", "NODE", "SINCE", "SERVICES", "PROBLEM")
    for one in report.announcements:
        problem = Text(one.problem, style="red")
        table.add_row(one.address, one.node or "<none>", one.since, ", ".join(one.services), problem)
    answers.console().print(table)
