"""The command group, common options, settings from flags and environment.

Exit codes: 0 good, 1 the answer is "no" or the work could not be done, 2 wrong use. This file wires flags to
functions and turns expected failures into one line; it does no work of its own.
"""

import asyncio
import ipaddress
import os
import sys
import time
from collections.abc import Callable, Coroutine, Iterable
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
import yaml

from lbipam.adapters import telemetry
from lbipam.adapters.kube_lease import LeaseTiming
from lbipam.commands import answers, drain, network, process, run, show
from lbipam.commands.agent.settings import START, AgentSettings, Start
from lbipam.commands.cluster import ManifestError, load_manifests
from lbipam.commands.lab import commands as lab
from lbipam.commands.settings import (
    BgpOption,
    Context,
    Datapath,
    DefaultIpam,
    DefaultIpamOption,
    GoFlags,
    IPv4Option,
    IPv6Option,
    Kubeconfig,
    L2Option,
    LogLevel,
    NodeIpamOption,
    Output,
    OutputOption,
    RequireClassOption,
    SecretsOption,
    WithoutEndpointsOption,
    responsibility,
)
from lbipam.controllers import ipam_report
from lbipam.core.l2 import election
from lbipam.kube.crds import catalog
from lbipam.kube.kinds import Key

app = typer.Typer(
    name="lbipam",
    help="Addresses for Kubernetes Services of type LoadBalancer, on any cluster, in Cilium's own API.",
    epilog="To begin: lbipam demo",
    no_args_is_help=True,
    add_completion=False,
    # Plain help: boxes leave no room for the names of flags in a narrow terminal, and break errors into lines.
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)

app.add_typer(lab.app, name="lab")
app.add_typer(network.app, name="get")
app.add_typer(drain.app)

_PORT = 65535


def _serve(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a process until it is told to stop."""
    answers.in_one_line(lambda: process.until_told(work))


def _cidrs(texts: Iterable[str]) -> tuple[str, ...]:
    """Blocks, each given by itself or several with commas."""
    try:
        return tuple(
            f"{ipaddress.ip_network(one.strip(), strict=False)}" for text in texts for one in text.split(",")
        )
    except ValueError as problem:
        raise typer.BadParameter(str(problem), param_hint="--cluster-cidr") from problem


def _bind(text: str | None) -> tuple[str, int] | None:
    if text is None:
        return None
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > _PORT:
        raise typer.BadParameter(f"'{text}' is not HOST:PORT")
    # Without a host, as Kubernetes components read ":8080": all addresses of both families.
    return host.strip("[]"), int(port)


MetricsBind = Annotated[
    str | None,
    typer.Option(
        "--metrics-bind",
        metavar="HOST:PORT",
        help="Serve /metrics, /healthz and /readyz; :0 takes a free port.",
    ),
]
LogLevelOption = Annotated[
    LogLevel, typer.Option("--log-level", help="debug, info, warning or error.", metavar="LEVEL")
]


def _version(value: bool) -> None:
    if value:
        typer.echo(f"lbipam {metadata.version('lbipam')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    del version


# --- processes ---------------------------------------------------------------------------------------------


@app.command(
    cls=GoFlags, epilog="Example: lbipam controller --kubeconfig ~/.kube/config --metrics-bind :9100"
)
def controller(
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    namespace: Annotated[
        str | None, typer.Option("--namespace", "-n", help="Where the controller's Lease lies.")
    ] = None,
    leader_elect: Annotated[
        bool, typer.Option("--leader-elect/--no-leader-elect", help="Let one of several controllers lead.")
    ] = True,
    lease_duration: Annotated[
        float, typer.Option(help="When a dead leader's Lease runs out.", metavar="S")
    ] = 15.0,
    renew_deadline: Annotated[
        float, typer.Option(help="When a leader without answer stops.", metavar="S")
    ] = 10.0,
    retry_period: Annotated[float, typer.Option(help="How often a leader renews.", metavar="S")] = 2.0,
    metrics_bind: MetricsBind = None,
    default_lb_service_ipam: DefaultIpamOption = DefaultIpam.LBIPAM,
    lbipam_require_lb_class: RequireClassOption = False,
    bgp_secrets_namespace: SecretsOption = "kube-system",
    bgp: BgpOption = True,
    l2: L2Option = True,
    node_ipam: NodeIpamOption = False,
    ipv4: IPv4Option = True,
    ipv6: IPv6Option = True,
    log_level: LogLevelOption = LogLevel.INFO,
) -> None:
    """Give Services their addresses, until told to stop."""
    telemetry.configure_logging(log_level)
    try:
        timing = LeaseTiming(lease=lease_duration, renew_deadline=renew_deadline, retry=retry_period)
    except ValueError as problem:
        raise typer.BadParameter(str(problem)) from None
    settings = run.ControllerSettings(
        responsibility=responsibility(
            default_ipam=default_lb_service_ipam,
            require_class=lbipam_require_lb_class,
            bgp=bgp,
            l2=l2,
            ipv4=ipv4,
            ipv6=ipv6,
        ),
        namespace=namespace,
        secrets_namespace=bgp_secrets_namespace,
        node_ipam=node_ipam,
        nodes_without_class=default_lb_service_ipam is DefaultIpam.NODEIPAM,
        leader_elect=leader_elect,
        lease=timing,
        metrics_bind=_bind(metrics_bind),
    )
    _serve(lambda: run.run_controller(kubeconfig, context, settings))


@app.command("agent", cls=GoFlags, epilog="Example: lbipam agent --node-name worker-1 --datapath nftables")
def agent_command(
    node_name: Annotated[
        str | None,
        typer.Option(help="The Node that it runs on; needed but for --cleanup.", envvar="NODE_NAME"),
    ] = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    namespace: Annotated[
        str, typer.Option("--namespace", "-n", help="Where the Leases of all agents lie.")
    ] = "kube-system",
    bgp_secrets_namespace: SecretsOption = "kube-system",
    bgp: Annotated[bool, typer.Option("--bgp/--no-bgp", help="Announce by BGP.")] = True,
    l2: Annotated[bool, typer.Option("--l2/--no-l2", help="Answer ARP and neighbour discovery.")] = True,
    datapath: Annotated[
        Datapath, typer.Option(help="Who carries the traffic: nftables here, or none (kube-proxy does).")
    ] = Datapath.NONE,
    cluster_cidr: Annotated[
        list[str] | None,
        typer.Option(
            help="A block of all pods' addresses, as kube-proxy has it, where they are not from the podCIDRs of "
            "their Node (Calico); may be repeated.",
            metavar="CIDR",
        ),
    ] = None,
    announce_without_endpoints: WithoutEndpointsOption = True,
    drain_seconds: Annotated[
        float, typer.Option(help="How long a drained node warns its peers before it withdraws.", metavar="S")
    ] = 10.0,
    lease_duration: Annotated[
        float,
        typer.Option("--l2-announcements-lease-duration", help="When a dead node is given up.", metavar="S"),
    ] = 3.0,
    renew_deadline: Annotated[
        float,
        typer.Option(
            "--l2-announcements-renew-deadline", help="When a cut-off node falls silent.", metavar="S"
        ),
    ] = 2.0,
    retry_period: Annotated[
        float, typer.Option("--l2-announcements-retry-period", help="How often a node renews.", metavar="S")
    ] = 1.0,
    l2_port: Annotated[
        int,
        typer.Option(
            "--l2-port",
            help="UDP port by which nodes notice that another is dead; 0: none.",
            max=_PORT,
            min=0,
        ),
    ] = 7473,
    cleanup: Annotated[
        bool, typer.Option("--cleanup", help="Remove the rules left on this node, and end.")
    ] = False,
    metrics_bind: MetricsBind = None,
    log_level: LogLevelOption = LogLevel.INFO,
) -> None:
    """Announce addresses from this node, and carry their traffic.

    Until told to stop.
    """
    if cleanup:
        # What a controller need not hold in memory is imported where it is used, here and below.
        from lbipam.commands.agent import datapath as rules  # noqa: PLC0415

        telemetry.configure_logging(log_level)
        answers.carry_out(rules.remove_rules)
        return
    if not node_name:
        raise typer.BadParameter("it must know the Node that it runs on", param_hint="--node-name")
    timing = election.Timing(duration_seconds=lease_duration, renew_deadline_seconds=renew_deadline)
    unsafe = timing.why_unsafe()
    if unsafe is not None or not 0 < retry_period < renew_deadline:
        raise typer.BadParameter(unsafe or "the retry period must be shorter than the renew deadline")
    settings = AgentSettings(
        node=node_name,
        bgp=bgp,
        l2=l2,
        carries_traffic=datapath is Datapath.NFTABLES,
        cluster_cidrs=_cidrs(cluster_cidr or ()),
        namespace=namespace,
        secrets_namespace=bgp_secrets_namespace,
        announce_without_endpoints=announce_without_endpoints,
        drain_seconds=drain_seconds,
        l2_timing=timing,
        l2_renew_seconds=retry_period,
        l2_port=l2_port,
        metrics_bind=_bind(metrics_bind),
    )
    start = Start(kubeconfig=kubeconfig, context=context, log_level=log_level, settings=settings)
    # In place of this process, which holds in memory all that commands need; people see the same command line.
    program = [sys.executable, "-P", "-m", "lbipam.commands.agent", *sys.argv[1:]]
    told = {START: msgspec.json.encode(start).decode()}
    os.execve(program[0], program, os.environ | told)  # noqa: S606 -- it needs no shell


@app.command("sandbox", epilog="Example: lbipam sandbox --kubeconfig-out ./kubeconfig -f pools.yaml")
def sandbox_command(
    port: Annotated[int, typer.Option(help="Where to listen; 0 takes a free port.", min=0, max=_PORT)] = 0,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    kubeconfig_out: Annotated[
        Path | None, typer.Option(help="Write the kubeconfig here.", metavar="FILE", dir_okay=False)
    ] = None,
    no_controller: Annotated[
        bool, typer.Option("--no-controller", help="Serve the API and nothing else.")
    ] = False,
    files: Annotated[
        list[Path] | None,
        typer.Option("--filename", "-f", help="Manifests to load; -: standard input.", metavar="FILE"),
    ] = None,
    metrics_bind: MetricsBind = None,
    log_level: LogLevelOption = LogLevel.WARNING,
) -> None:
    """A Kubernetes API and a controller to try with kubectl."""
    from lbipam.commands import sandbox  # noqa: PLC0415

    telemetry.configure_logging(log_level)
    settings = sandbox.SandboxSettings(
        host=host,
        port=port,
        kubeconfig_out=kubeconfig_out,
        controller=not no_controller,
        manifests=files or (),
        metrics_bind=_bind(metrics_bind),
    )

    def say(line: str) -> None:
        typer.echo(line)
        sys.stdout.flush()

    _serve(lambda: sandbox.run_sandbox(settings, say))


@app.command("demo", epilog="Example: lbipam demo")
def demo_command() -> None:
    """The walk-through: who gets which address, and why.

    On a cluster of its own; ends by itself.
    """
    from lbipam.commands import sandbox  # noqa: PLC0415

    telemetry.configure_logging("warning")
    answers.carry_out(lambda: sandbox.run_demo(answers.console()))


# --- what there is -----------------------------------------------------------------------------------------


State = Annotated[
    Path | None,
    typer.Option(help="Read a dump instead of a cluster; -: standard input.", metavar="FILE"),
]


@app.command(cls=GoFlags, epilog="Example: lbipam status --holders")
def status(
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    state: State = None,
    holders: Annotated[bool, typer.Option("--holders", help="Name who holds each address.")] = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Print it anew every two seconds.")] = False,
    default_lb_service_ipam: DefaultIpamOption = DefaultIpam.LBIPAM,
    lbipam_require_lb_class: RequireClassOption = False,
    bgp: BgpOption = True,
    l2: L2Option = True,
    ipv4: IPv4Option = True,
    ipv6: IPv6Option = True,
    output: OutputOption = Output.TABLE,
) -> None:
    """Pools, Services, their addresses, what waits and why."""
    duty = responsibility(
        default_ipam=default_lb_service_ipam,
        require_class=lbipam_require_lb_class,
        bgp=bgp,
        l2=l2,
        ipv4=ipv4,
        ipv6=ipv6,
    )
    console = answers.console()

    async def once() -> None:
        world = show.learn(await show.read_world(kubeconfig, context, state), duty)
        report = ipam_report.report(world, with_holders=holders)
        if watch and output is Output.TABLE and sys.stdout.isatty():
            console.clear()
        answers.emit(report, output, lambda: show.print_report(report, console))

    async def work() -> None:
        await once()
        while watch:
            await asyncio.sleep(2)
            await once()

    answers.carry_out(work)


@app.command(cls=GoFlags, epilog="Example: lbipam explain default/app")
def explain(
    service: Annotated[str, typer.Argument(help="NAMESPACE/NAME of a Service.", metavar="NAMESPACE/SERVICE")],
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    state: State = None,
    default_lb_service_ipam: DefaultIpamOption = DefaultIpam.LBIPAM,
    lbipam_require_lb_class: RequireClassOption = False,
    bgp: BgpOption = True,
    l2: L2Option = True,
    ipv4: IPv4Option = True,
    ipv6: IPv6Option = True,
    output: OutputOption = Output.TABLE,
) -> None:
    """What every pool said to a Service: used, or why not.

    For each address that it wants. Exit code 1 if it lacks one.
    """
    duty = responsibility(
        default_ipam=default_lb_service_ipam,
        require_class=lbipam_require_lb_class,
        bgp=bgp,
        l2=l2,
        ipv4=ipv4,
        ipv6=ipv6,
    )
    namespace, _, name = service.rpartition("/")
    if "/" in namespace:
        raise typer.BadParameter(f"'{service}' is not NAMESPACE/NAME", param_hint="NAMESPACE/SERVICE")
    key = Key(namespace or "default", name)
    on_nodes = default_lb_service_ipam is DefaultIpam.NODEIPAM

    explained = answers.carry_out(
        lambda: show.explain(kubeconfig, context, state, key, duty, nodes_without_class=on_nodes)
    )
    if explained is None:
        answers.end(f"there is no Service {key}", 1)
    answers.emit(explained, output, lambda: show.print_explanation(explained, answers.console()))
    if not explained.satisfied:
        raise typer.Exit(1)


@app.command(cls=GoFlags, epilog="Example: lbipam plan -f pools.yaml --delete ippool/old")
def plan(
    files: Annotated[
        list[Path] | None,
        typer.Option(
            "--filename", "-f", help="Manifests that would be applied; -: standard input.", metavar="FILE"
        ),
    ] = None,
    delete: Annotated[
        list[str] | None,
        typer.Option(
            "--delete", help="What would be deleted: ippool/NAME, svc/NAMESPACE/NAME, …", metavar="OBJECT"
        ),
    ] = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    state: State = None,
    default_lb_service_ipam: DefaultIpamOption = DefaultIpam.LBIPAM,
    lbipam_require_lb_class: RequireClassOption = False,
    bgp: BgpOption = True,
    l2: L2Option = True,
    ipv4: IPv4Option = True,
    ipv6: IPv6Option = True,
    output: OutputOption = Output.TABLE,
) -> None:
    """Who would keep, gain, move or lose addresses, and why.

    If the manifests were applied and the objects deleted. Exit code 1 if any Service moves or loses.
    """
    duty = responsibility(
        default_ipam=default_lb_service_ipam,
        require_class=lbipam_require_lb_class,
        bgp=bgp,
        l2=l2,
        ipv4=ipv4,
        ipv6=ipv6,
    )

    async def work() -> Any:
        changed = load_manifests(files or ())
        before, namespace = await show.read_world_and_namespace(kubeconfig, context, state)
        if not files and not delete:
            raise ManifestError("nothing to plan: name manifests (-f) or what would be deleted (--delete)")
        return show.plan(before, changed, delete or (), duty, time.time(), namespace=namespace)

    planned = answers.carry_out(work)
    answers.emit(planned, output, lambda: show.print_plan(planned, answers.console()))
    if not planned.is_harmless:
        raise typer.Exit(1)


@app.command(epilog="Example: lbipam dump > state.yaml; lbipam plan --state state.yaml -f changed.yaml")
def dump(kubeconfig: Kubeconfig = None, context: Context = None) -> None:
    """All that decides about addresses, as YAML, for --state.

    Pools, Services, reservations, and Namespaces with their quotas.
    """
    typer.echo(show.dump(answers.carry_out(lambda: show.read_world(kubeconfig, context))), nl=False)


@app.command(epilog="Example: lbipam crds | kubectl apply -f -")
def crds(
    without_cel: Annotated[
        bool,
        typer.Option("--without-cel", help="Leave the CEL rules out, for clusters before Kubernetes 1.25."),
    ] = False,
) -> None:
    """Print all CustomResourceDefinitions."""
    found = catalog.all_crds()
    if without_cel:
        found = tuple(catalog.without_rules(one) for one in found)
    typer.echo(yaml.safe_dump_all(found, sort_keys=False, explicit_start=True), nl=False)


def main() -> None:
    """The program."""
    app()
