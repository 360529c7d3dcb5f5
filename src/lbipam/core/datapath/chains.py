"""Which chains does the node's table have, and what do their rules say?

    prerouting, output ─▶ services ─vmap─▶ [sticky-…] ─▶ [gate-…] ─▶ tcp-3: dnat to a slot of the map
                              │ not found
    guard-in, guard-out ◀─────┘ addresses whose packets are nobody's ─▶ refuse; answers that lost their way
    postrouting ─▶ translated ─vmap─▶ [learn-…] ─▶ masqueraded | kept

Chains between the hooks exist once for each combination in use, however many Services share it; only a
Service with client affinity has two of its own, for libnftables 1.0.6 can write no rule that learns from an
IPv6 packet a key longer than one address. Rules are nft's text, as in its manual. This file does not know
which Service uses which chain.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from lbipam.core.datapath.frontends import Choice, Frontend, Pick, Source, Unserved
from lbipam.core.datapath.services import Algorithm, Protocol

SEED = 0x6C62_6970
"""Of the kernel's hash of clients: the same on every node, so that every node picks the same slot.

The hash reads words in the machine's byte order: nodes agree among little-endian ones and among big-endian ones.
"""

MAX_SLOTS = 65535
"""Bound of slot numbers in the type of the endpoint maps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """The words that rules of one address family need."""

    version: int
    ip: str
    nfproto: str
    type: str
    echo: str
    icmp: int
    """Assigned Internet Protocol Number (IANA)."""


FAMILIES = (
    Family(version=4, ip="ip", nfproto="ipv4", type="ipv4_addr", echo="icmp type echo-request", icmp=1),
    Family(version=6, ip="ip6", nfproto="ipv6", type="ipv6_addr", echo="icmpv6 type echo-request", icmp=58),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """A chain and its rules; one with a hook sees packets by itself."""

    name: str
    hook: str = ""
    rules: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Set:
    """A set or, if elements carry data, a map; `body` is its declaration."""

    kind: str
    name: str
    body: str


def fixed_sets() -> Iterator[Set]:
    """The sets and maps of every table, whatever the Services."""
    for family in FAMILIES:
        v, ip, address = family.version, family.ip, family.type
        verdicts = f"type {address} . inet_proto . inet_service : verdict;"
        yield Set(kind="map", name=f"services{v}", body=verdicts)
        for protocol in Protocol:
            port = f"{protocol.value} dport"
            key = f"{ip} daddr . {port} . numgen random mod {MAX_SLOTS}"
            body = f"typeof {key} : {ip} daddr . {port};"
            yield Set(kind="map", name=f"endpoints-{protocol.value}{v}", body=body)
            body = f"type {address} . inet_service : verdict;"
            yield Set(kind="map", name=f"sources-{protocol.value}{v}", body=body)
        body = f"type {address} . inet_proto . inet_service . {address}; flags interval;"
        yield Set(kind="set", name=f"allowed{v}", body=body)
        yield Set(kind="set", name=f"addresses{v}", body=f"type {address};")
        yield Set(kind="set", name=f"nodes{v}", body=f"type {address};")
        yield Set(kind="set", name=f"refused{v}", body=f"type {address}; flags interval;")
        yield Set(kind="set", name=f"pods{v}", body=f"type {address}; flags interval;")
        yield Set(kind="set", name=f"hairpins{v}", body=f"type {address} . {address};")
        yield Set(kind="map", name=f"echo{v}", body=f"type inet_proto : {address};")


def fixed_chains() -> Iterator[Chain]:
    """The chains of every table, whatever the Services, each before those that refer to it."""
    yield Chain(name=_source_chain(Source.MASQUERADED), rules=(*_hairpin(), *_but_pods(), _MASQUERADE))
    of_node = f"fib saddr type local {_MASQUERADE}"
    of_pods = tuple(f"{f.ip} saddr @pods{f.version} {_MASQUERADE}" for f in FAMILIES)
    yield Chain(name=_source_chain(Source.KEPT), rules=(*_hairpin(), of_node))
    yield Chain(name=_source_chain(Source.PODS_MASQUERADED), rules=(*_hairpin(), of_node, *of_pods))
    yield Chain(name=_source_chain(Source.ALL_MASQUERADED), rules=(_MASQUERADE,))
    yield Chain(name="services", rules=tuple(_service_lookup(f) for f in FAMILIES))
    yield Chain(name="translated", rules=tuple(rule for f in FAMILIES for rule in _source_lookups(f)))
    # A node itself answers for what is its own, be there a Service on some of its ports.
    but_nodes = ("fib daddr type local return", *(f"{f.ip} daddr @nodes{f.version} return" for f in FAMILIES))
    yield Chain(
        name="refuse",
        rules=(
            *but_nodes,
            # Conntrack does not translate what it finds invalid; a reset would end a good connection.
            "ct state invalid drop",
            "meta l4proto tcp reject with tcp reset",
            # By number: nft looks the name of ICMPv6 up in /etc/protocols, which small images lack.
            f"meta l4proto {{ {', '.join(f'{f.icmp}' for f in FAMILIES)} }} drop",
            "reject with icmpx port-unreachable",
        ),
    )
    echoes = tuple(f"{f.ip} daddr @addresses{f.version} {f.echo} goto echo" for f in FAMILIES)
    # A redirection leads to the address of the interface that the packet came in by, which may have none.
    to_node = tuple(f"dnat {f.ip} to meta l4proto map @echo{f.version}" for f in FAMILIES)
    yield Chain(name="echo", rules=(*but_nodes, *to_node, "redirect"))
    for hook in ("prerouting", "output"):
        nat = f"type nat hook {hook} priority -100; policy accept;"
        yield Chain(name=hook, hook=nat, rules=("jump services", *echoes))
    strays = tuple(
        f"{f.ip} daddr @{which}{f.version} goto refuse"
        for f in FAMILIES
        for which in ("addresses", "refused")
    )
    # Answers of pods that conntrack does not translate back: their receiver would reset the connection.
    lost = tuple(f"ct state invalid {f.ip} saddr @pods{f.version} drop" for f in FAMILIES)
    for name, hook, rules in (("guard-in", "prerouting", (*lost, *strays)), ("guard-out", "output", strays)):
        guard = f"type filter hook {hook} priority 0; policy accept;"
        yield Chain(name=name, hook=guard, rules=rules)
    yield Chain(
        name="postrouting",
        hook="type nat hook postrouting priority 100; policy accept;",
        rules=("ct status dnat jump translated",),
    )


def entry(frontend: Frontend) -> str:
    """The verdict for a new connection to a frontend that is served; one that is not falls to the guard."""
    if frontend.affinity_seconds:
        return f"goto {own_name('sticky', frontend)}"
    return _to_shape(_shape(frontend))


def source_verdict(frontend: Frontend) -> str:
    """The verdict on the source of a translated connection; empty: the one that addresses have by default."""
    if frontend.affinity_seconds:
        return f"goto {own_name('learn', frontend)}"
    if frontend.source is Source.MASQUERADED and frontend.is_guarded:
        return ""
    return f"goto {_source_chain(frontend.source)}"


def shared_chains(frontend: Frontend) -> tuple[Chain, ...]:
    """The chains that the frontend uses together with others of its shape, referred ones first."""
    return _shared_chains(_shape(frontend)) if frontend.served else ()


def own_chains(frontend: Frontend) -> tuple[Chain, ...]:
    """The chains of a frontend with affinity: one follows what was learned of the client, one learns."""
    if not (frontend.served and frontend.affinity_seconds):
        return ()
    family = FAMILIES[frontend.address.version == 6]
    proto = frontend.protocol.value
    sticky = [_restriction(family)] if frontend.restricted else []
    learn = []
    for port in frontend.target_ports:
        clients = clients_name(frontend, port)
        sticky.append(f"meta l4proto {proto} dnat {family.ip} to {family.ip} saddr map @{clients} : {port}")
        learn.append(f"{proto} dport {port} update @{clients} {{ {family.ip} saddr : {family.ip} daddr }}")
    return (
        Chain(name=own_name("sticky", frontend), rules=(*sticky, _to_shape(_shape(frontend)))),
        Chain(name=own_name("learn", frontend), rules=(*learn, f"goto {_source_chain(frontend.source)}")),
    )


def own_sets(frontend: Frontend) -> tuple[Set, ...]:
    """The maps of a frontend with affinity, one for each port of its endpoints: which client is where."""
    if not (frontend.served and frontend.affinity_seconds):
        return ()
    address = FAMILIES[frontend.address.version == 6].type
    body = f"type {address} : {address}; size 65536; flags dynamic,timeout; timeout {frontend.affinity_seconds}s;"
    return tuple(
        Set(kind="map", name=clients_name(frontend, port), body=body) for port in frontend.target_ports
    )


def clients_name(frontend: Frontend, target_port: int) -> str:
    """The map of the frontend's clients that were sent to endpoints with that port.

    The time they are remembered is in the name, because it cannot change in a map that exists.
    """
    return f"{own_name('clients', frontend)}-{target_port}-{frontend.affinity_seconds}s"


def own_name(what: str, frontend: Frontend) -> str:
    """A name that no other frontend has; nft's names know no colons."""
    address = frontend.text.replace(":", "_")
    return f"{what}-{frontend.protocol.value}-{address}-{frontend.port}"


_MASQUERADE = "masquerade fully-random"


def _hairpin() -> tuple[str, ...]:
    return tuple(f"{f.ip} saddr . {f.ip} daddr @hairpins{f.version} {_MASQUERADE}" for f in FAMILIES)


def _but_pods() -> tuple[str, ...]:
    return tuple(f"{f.ip} saddr @pods{f.version} return" for f in FAMILIES)


def _source_chain(source: Source) -> str:
    return f"source-{source.value}"


def _service_lookup(family: Family) -> str:
    return f"{family.ip} daddr . meta l4proto . th dport vmap @services{family.version}"


def _source_lookups(family: Family) -> Iterator[str]:
    original = f"ct original {family.ip} daddr"
    for protocol in Protocol:
        # `ct original proto-dst` has a type only after a match of one protocol.
        match = f"meta nfproto {family.nfproto} meta l4proto {protocol.value}"
        verdicts = f"@sources-{protocol.value}{family.version}"
        yield f"{match} {original} . ct original proto-dst vmap {verdicts}"
    default = _source_chain(Source.MASQUERADED)
    yield f"meta nfproto {family.nfproto} {original} @addresses{family.version} goto {default}"


def _restriction(family: Family) -> str:
    key = f"{family.ip} daddr . meta l4proto . th dport . {family.ip} saddr"
    return f"{key} != @allowed{family.version} drop"


class _Shape(NamedTuple):
    """What frontends that share their chains have in common."""

    protocol: Protocol
    outside: Choice
    inside: Choice
    restricted: bool

    @property
    def gated(self) -> bool:
        """Whether clients are told apart before an endpoint is picked."""
        return self.restricted or self.outside != self.inside

    @property
    def gate_name(self) -> str:
        ranges = "-ranges" if self.restricted else ""
        return f"gate{ranges}-{self.protocol.value}-out-{_word(self.outside)}-in-{_word(self.inside)}"


def _shape(frontend: Frontend) -> _Shape:
    # With affinity the frontend's own chain looks at the source ranges, before it recalls anybody.
    restricted = frontend.restricted and not frontend.affinity_seconds
    return _Shape(frontend.protocol, frontend.outside, frontend.inside, restricted)


@lru_cache(maxsize=1024)
def _to_shape(shape: _Shape) -> str:
    return f"goto {shape.gate_name}" if shape.gated else _choice(shape.protocol, shape.outside)


def _choice(protocol: Protocol, choice: Choice) -> str:
    return f"goto {_pick_name(protocol, choice)}" if isinstance(choice, Pick) else "drop"


@lru_cache(maxsize=1024)
def _shared_chains(shape: _Shape) -> tuple[Chain, ...]:
    choices = dict.fromkeys((shape.outside, shape.inside))
    picks = tuple(_pick_chain(shape.protocol, choice) for choice in choices if isinstance(choice, Pick))
    if not shape.gated:
        return picks
    rules = [_restriction(family) for family in FAMILIES] if shape.restricted else []
    if shape.outside != shape.inside:
        to_inside = _choice(shape.protocol, shape.inside)
        rules.append(f"fib saddr type local {to_inside}")
        rules += [f"{f.ip} saddr @pods{f.version} {to_inside}" for f in FAMILIES]
    return (*picks, Chain(name=shape.gate_name, rules=(*rules, _choice(shape.protocol, shape.outside))))


def _pick_chain(protocol: Protocol, pick: Pick) -> Chain:
    proto = protocol.value
    rules = []
    for f in FAMILIES:
        if pick.algorithm is Algorithm.MAGLEV:
            number = f"jhash {f.ip} saddr mod {pick.count} seed {SEED:#x}"
        else:
            number = f"numgen random mod {pick.count}" + (f" offset {pick.first}" if pick.first else "")
        key = f"{f.ip} daddr . {proto} dport . {number}"
        rules.append(f"dnat {f.ip} to {key} map @endpoints-{proto}{f.version}")
    return Chain(name=_pick_name(protocol, pick), rules=tuple(rules))


def _pick_name(protocol: Protocol, pick: Pick) -> str:
    return f"{protocol.value}-{_word(pick)}"


def _word(choice: Choice) -> str:
    match choice:
        case Unserved():
            return choice.value
        case Pick(algorithm=Algorithm.MAGLEV):
            return "maglev"
        case Pick():
            return f"{choice.count}-from-{choice.first}" if choice.first else f"{choice.count}"
