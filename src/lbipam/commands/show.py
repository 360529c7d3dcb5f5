"""`status`, `explain`, `plan`, `dump`: reads a world and prints what a person wants to know of it.

Each makes a report with the functions that decide, and prints it as a table, JSON or YAML. Nothing here
changes a cluster.
"""

import copy
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import yaml
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lbipam.adapters import kube_config
from lbipam.adapters.kube_client import Client
from lbipam.commands import answers, cluster
from lbipam.commands.cluster import (
    WORLD,
    Manifest,
    ManifestError,
    kind_of,
    load_manifests,
    read_manifests,
    to_form,
    to_forms,
)
from lbipam.commands.served import served_slice_kind
from lbipam.controllers import ipam_plan, ipam_report, l2_report
from lbipam.controllers.cache import Change
from lbipam.controllers.endpoints import EndpointIndex
from lbipam.controllers.ipam_report import ExplainReport, PoolReport, Report, ServiceReport
from lbipam.controllers.rehearsal import Rehearsal
from lbipam.kube import forms, node_ipam
from lbipam.kube.conditions import timestamp
from lbipam.kube.events import EVENT, Event
from lbipam.kube.ipam import Responsibility
from lbipam.kube.kinds import Key


async def read_world(
    kubeconfig: str | None, context: str | None, state: Path | None = None
) -> list[Manifest]:
    """The objects that decide about addresses, of a cluster or of a dump.

    Raises:
        ConfigError, ApiError, UnreachableError, ManifestError: they cannot be had.
    """
    return (await read_world_and_namespace(kubeconfig, context, state))[0]


async def read_world_and_namespace(
    kubeconfig: str | None, context: str | None, state: Path | None
) -> tuple[list[Manifest], str]:
    """The same, and where `kubectl` would put an object that names no namespace.

    Raises:
        ConfigError, ApiError, UnreachableError, ManifestError: they cannot be had.
    """
    if state is not None:
        return load_manifests([state]), "default"
    async with Client(await kube_config.connect(kubeconfig, context)) as client:
        return await cluster.read_world(client), client.connection.namespace


async def explain(
    kubeconfig: str | None,
    context: str | None,
    state: Path | None,
    key: Key,
    responsibility: Responsibility,
    *,
    nodes_without_class: bool = False,
) -> ExplainReport | None:
    """Why a Service has what it has; None if there is no such Service.

    Args:
        kubeconfig: Path of a kubeconfig file.
        context: Of the kubeconfig.
        state: A dump, in place of a cluster.
        key: The Service.
        responsibility: Which Services are ours.
        nodes_without_class: Those that name no class get addresses of nodes.

    Raises:
        ConfigError, ApiError, UnreachableError, ManifestError: the world cannot be had.
    """
    if state is not None:
        return ipam_report.explain(learn(load_manifests([state]), responsibility), key)
    async with Client(await kube_config.connect(kubeconfig, context)) as client:
        world = learn(await cluster.read_world(client), responsibility)
        service: forms.Service | None = world.cache.objects(forms.SERVICE).get(key)
        if service is not None and node_ipam.asks_for_nodes(service, without_class=nodes_without_class):
            return await _explain_nodes(client, service, responsibility)
        explained = ipam_report.explain(world, key)
        if explained is not None:
            explained.notes += await _problems_on_lans(client, explained)
        return explained


async def _explain_nodes(
    client: Client, service: forms.Service, responsibility: Responsibility
) -> ExplainReport:
    slices, index = await served_slice_kind(client), EndpointIndex()
    for one in await read_manifests(client, (slices,)):
        form, metadata = to_form(slices, one), one["metadata"]
        index.observe(Change(slices, Key(metadata["namespace"], metadata["name"]), None, form))
    nodes = [to_form(forms.NODE, one) for one in await read_manifests(client, (forms.NODE,))]
    there = (one for one in nodes if isinstance(one, forms.Node))
    return ipam_report.explain_nodes(service, there, index, responsibility.families)


async def _problems_on_lans(client: Client, explained: ExplainReport) -> tuple[str, ...]:
    """What agents have told of the addresses of a Service that is wrong on their LANs."""
    events = [to_form(EVENT, one) for one in await read_manifests(client, (EVENT,))]
    addresses = {address for wish in explained.wishes for address in wish.has}
    return l2_report.problems((one for one in events if isinstance(one, Event)), addresses)


def learn(manifests: Iterable[Manifest], responsibility: Responsibility) -> Rehearsal:
    """A world in memory that knows these objects and has decided nothing."""
    world = Rehearsal(responsibility, now=time.time())
    world.learn(to_forms(manifests))
    return world


# --- status ------------------------------------------------------------------------------------------------


def print_report(report: Report, console: Console) -> None:
    """Pools, Services, what waits and why, and reservations."""
    console.print(_pool_table(report.pools) if report.pools else "No pools.")
    console.print()
    console.print(_service_table(report.services) if report.services else "No Services of type LoadBalancer.")
    if report.reservations:
        console.print()
        table = answers.table("RESERVATION", "ADDRESSES", "FOR", "UNTIL", "HELD BY", "REASON")
        for one in report.reservations:
            addresses = ", ".join(one.addresses)
            table.add_row(one.name, addresses, one.service or "nobody", one.until, one.holder, one.reason)
        console.print(table)
    _print_problems(_pool_problems(report), console)


def _pool_problems(report: Report) -> list[str]:
    """What is wrong with pools, each with its name."""
    return [f"Pool {pool.name}: {problem}" for pool in report.pools for problem in pool.problems]


def _print_problems(problems: Iterable[str], console: Console) -> None:
    for problem in problems:
        console.print(Text(problem, style="yellow"))


def _pool_table(pools: Sequence[PoolReport]) -> Table:
    table = answers.table("POOL", "STATE", "SIZE", "USED", "RESERVED", "FREE", "LARGEST FREE RUN")
    for pool in pools:
        numbers = (str(number) for number in (pool.size, pool.used, pool.reserved, pool.free))
        state = Text(pool.state, style="green" if pool.state == "ready" else "yellow")
        table.add_row(pool.name, state, *numbers, pool.largest_free_run)
        for address, holders in (pool.holders or {}).items():
            table.add_row(Text(f"  {address}", style="dim"), Text(", ".join(holders), style="dim"))
    return table


def _service_table(services: Sequence[ServiceReport]) -> Table:
    table = answers.table("SERVICE", "ADDRESS", "POOL", "OUTCOME")
    for service in services:
        addresses = "\n".join(one.address for one in service.addresses) or "<pending>"
        pools = "\n".join(one.pool or "none of ours" for one in service.addresses)
        if service.satisfied:
            outcome = Text("satisfied", style="green")
        else:
            outcome = Text(f"{service.reason}: {service.message}", style="red")
        table.add_row(f"{service.namespace}/{service.name}", addresses, pools, outcome)
    return table


# --- explain -----------------------------------------------------------------------------------------------


def print_explanation(explained: ExplainReport, console: Console) -> None:
    """For each wish, what every pool said."""
    for note in explained.notes:
        console.print(Text(note, style="yellow"))
    for wish in explained.wishes:
        has, granted = ", ".join(wish.has) or "none", ", ".join(wish.granted)
        outcome = Text(f"has {has}", style="green" if wish.has else "red")
        if granted:
            outcome.append(f", would be given {granted}", style="yellow")
        console.print(Text.assemble(f"{explained.service} wants {wish.wish}: ", outcome))
        if wish.message:
            console.print(Text(f"  {wish.reason}: {wish.message}", style="red"))
        for answer in wish.pools:
            detail = f": {answer.detail}" if answer.detail else ""
            console.print(Text(f"  pool {answer.pool} {answer.verdict}{detail}"))
            for block in answer.blocks:
                detail = f": {block.detail}" if block.detail else ""
                console.print(Text(f"    block {block.block} {block.verdict}{detail}", style="dim"))
    for node in explained.nodes:
        verdict = f"used: {', '.join(node.addresses)}" if node.addresses else f"left out: {node.left_out}"
        console.print(Text(f"  node {node.node} {verdict}"))


# --- plan --------------------------------------------------------------------------------------------------


class Planned(ipam_plan.Plan, rename="camel"):
    """What becomes of all Services, and what is then wrong with pools."""

    problems: list[str]


def plan(
    before: Sequence[Manifest],
    changed: Sequence[Manifest],
    deleted: Sequence[str],
    responsibility: Responsibility,
    now: float,
    *,
    namespace: str = "default",
) -> Planned:
    """What would become of every Service's addresses.

    Args:
        before: The objects there are.
        changed: Those that would be applied.
        deleted: Those that would be deleted, as `kind/name` or `kind/namespace/name`.
        responsibility: Which Services are ours.
        now: Seconds since 1970.
        namespace: Of the changed and the deleted ones that name none.

    Raises:
        ManifestError: an object cannot be understood, or what would be deleted is not there.
    """
    world = Rehearsal(responsibility, now=now)
    world.begin(to_forms(before))
    edits: list[ipam_plan.Edit] = []
    known = {_identity(one): one for one in before if kind_of(one) is not None}
    for manifest in (_placed(one, namespace) for one in changed):
        kind = kind_of(manifest)
        if kind is not None:
            key = _identity(manifest)
            known[key] = _applied(known.get(key, {"metadata": {}}), manifest, now)
            edits.append(ipam_plan.Put(kind=kind, form=to_form(kind, known[key])))
    for text in deleted:
        removal = _deletion(text, namespace)
        if (removal.kind.kind, *removal.key) not in known:
            raise ManifestError(f"--delete {text}: there is no {removal.kind.kind} {removal.key}")
        edits.append(removal)
        if removal.kind is forms.NAMESPACE:
            # Its Services go with it.
            services = (Key(*rest) for kind, *rest in known if kind == forms.SERVICE.kind)
            edits += (
                ipam_plan.Remove(kind=forms.SERVICE, key=key)
                for key in services
                if key.namespace == removal.key.name
            )
    planned = ipam_plan.rehearse(world, edits)
    problems = _pool_problems(ipam_report.report(world))
    return Planned(services=planned.services, counts=planned.counts, problems=problems)


def _placed(manifest: Manifest, namespace: str) -> Manifest:
    metadata = manifest["metadata"]
    return {**manifest, "metadata": {**metadata, "namespace": metadata.get("namespace") or namespace}}


def _identity(manifest: Mapping[str, Any]) -> tuple[str, str, str]:
    """Kind, namespace and name."""
    kind, metadata = manifest["kind"], manifest["metadata"]
    namespace = metadata.get("namespace") or "default" if kind == forms.SERVICE.kind else ""
    return kind, str(namespace), str(metadata.get("name", ""))


_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def _applied(live: Manifest, manifest: Manifest, now: float) -> Manifest:
    """The object as `kubectl apply` would leave it: the manifest's wish, what others set, the server's bookkeeping."""
    there, wished = live["metadata"], manifest["metadata"]
    wish = {part: value for part, value in manifest.items() if part != "status"}
    wish["metadata"] = {
        **wished,
        "namespace": _identity(manifest)[1],
        "annotations": wished.get("annotations") or {},
    }
    former = _read_json((there.get("annotations") or {}).get(_LAST_APPLIED, ""))
    merged = {part: _merged(live.get(part), value, former.get(part)) for part, value in wish.items()}
    servers = ("uid", "creationTimestamp", "resourceVersion", "generation")
    kept = {name: there[name] for name in servers if name in there}
    merged["metadata"] = {"creationTimestamp": timestamp(now), **merged["metadata"], **kept}
    return {**live, **merged}


def _merged(live: Any, wish: Any, former: Any) -> Any:
    """What is wished, and of the rest what no former wish said; lists as a whole, and null takes away."""
    if not isinstance(wish, dict):
        return wish
    live, former = (one if isinstance(one, dict) else {} for one in (live, former))
    merged = {name: value for name, value in live.items() if name not in wish and name not in former}
    for name, value in wish.items():
        if value is not None:
            merged[name] = _merged(live.get(name), value, former.get(name))
    return merged


def _read_json(text: str) -> Mapping[str, Any]:
    """An object in JSON; an empty one if it is none."""
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError:
        return {}


_SHORT = {
    "ippool": "CiliumLoadBalancerIPPool",
    "ippools": "CiliumLoadBalancerIPPool",
    "lbippool": "CiliumLoadBalancerIPPool",
    "lbippools": "CiliumLoadBalancerIPPool",
    "svc": "Service",
    "services": "Service",
    "ipres": "IPReservation",
    "ns": "Namespace",
}


def _deletion(text: str, default: str) -> ipam_plan.Remove:
    word, *rest = text.split("/")
    wanted = _SHORT.get(word.lower(), word).lower()
    kind = next((one for one in WORLD if one.kind.lower() == wanted), None)
    if kind is None or len(rest) not in (1, 2) or (len(rest) == 2 and not kind.namespaced):
        raise ManifestError(f"--delete {text}: say ippool/NAME, svc/NAMESPACE/NAME, ipres/NAME or ns/NAME")
    namespace = (default if len(rest) == 1 else rest[0]) if kind.namespaced else ""
    return ipam_plan.Remove(kind=kind, key=Key(namespace, rest[-1]))


def print_plan(planned: Planned, console: Console) -> None:
    """Who gains, moves or loses addresses, and why; how many keep theirs, and how many wait; problems of pools."""
    style = {"loses": "red", "moves": "red", "gains": "green"}
    table = answers.table("SERVICE", "OUTCOME", "BEFORE", "AFTER", "WHY")
    for fate in planned.services:
        if fate.outcome in style:
            outcome = Text(fate.outcome, style=style[fate.outcome])
            table.add_row(fate.service, outcome, "\n".join(fate.before), "\n".join(fate.after), fate.why)
    if table.row_count:
        console.print(table)
        console.print()
    counts = planned.counts
    console.print(
        f"{counts['keeps']} keep, {counts['gains']} gain, {counts['moves']} move, {counts['loses']} lose, "
        f"{counts['waits']} wait."
    )
    _print_problems(planned.problems, console)


def dump(manifests: Iterable[Manifest]) -> str:
    """A world as one YAML List, without the server's notes on who owns which field."""
    items = []
    for manifest in manifests:
        item = copy.deepcopy(manifest)
        item["metadata"].pop("managedFields", None)
        items.append(item)
    whole = {"apiVersion": "v1", "kind": "List", "items": items}
    dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    text: str = yaml.dump(whole, Dumper=dumper, sort_keys=False, allow_unicode=True)
    return text
