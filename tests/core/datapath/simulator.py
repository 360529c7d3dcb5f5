"""A table that takes nft commands and walks packets through it, and refuses whatever it does not know.

It reads the same text as the kernel: what is added twice, deleted without being there or referred to without
being declared is an error, and so is a rule of a form that is not listed here. It knows nothing of Services.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TypeAlias

IPAddress: TypeAlias = IPv4Address | IPv6Address

NUMBERS = {"tcp": 6, "udp": 17, "sctp": 132, "icmp": 1, "icmpv6": 58}


@dataclass(frozen=True, slots=True, kw_only=True)
class Packet:
    """The first packet of a connection."""

    source: IPAddress
    destination: IPAddress
    protocol: str = "tcp"
    port: int = 80
    from_node: bool = False
    """It is sent by the node itself: it meets the output hooks."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """It goes to this address and port."""

    address: IPAddress
    port: int
    masqueraded: bool


class Fate(Enum):
    """Where else a packet ends."""

    DROPPED = "dropped"
    RESET = "reset"
    UNREACHABLE = "unreachable"
    ECHOED = "echoed"
    LEFT_ALONE = "left alone"


Outcome: TypeAlias = Delivered | Fate


@dataclass(slots=True)
class _Walk:
    """One packet on its way."""

    packet: Packet
    roll: int
    learn: bool
    destination: IPAddress
    port: int
    translated: bool = False
    masqueraded: bool = False

    @property
    def ip(self) -> str:
        return "ip" if self.packet.source.version == 4 else "ip6"


_Verdict: TypeAlias = str | Fate | None


@dataclass(slots=True)
class Simulator:
    """The table and the node it is on."""

    node_addresses: frozenset[IPAddress] = frozenset()
    sets: dict[str, dict[str, str]] = field(default_factory=dict)
    bodies: dict[str, str] = field(default_factory=dict)
    chains: dict[str, list[str]] = field(default_factory=dict)
    hooks: dict[str, str] = field(default_factory=dict)

    # --- commands ---------------------------------------------------------------------------------------

    def run(self, commands: str) -> None:
        """Take one transaction."""
        for line in commands.splitlines():
            for form, take in _COMMANDS:
                if match := form.fullmatch(line):
                    take(self, *match.groups())
                    break
            else:
                raise AssertionError(f"unknown command: {line}")
        for name, rules in self.chains.items():
            for rule in rules:
                self._check_references(f"rule of {name}", rule)
        for name, elements in self.sets.items():
            for data in elements.values():
                self._check_references(f"element of {name}", data)

    def _check_references(self, where: str, text: str) -> None:
        for target in re.findall(r"(?:goto|jump) (\S+)", text):
            assert target in self.chains, f"{where} refers to chain {target}, which does not exist"
        for target in re.findall(r"@(\S+)", text):
            assert target in self.sets, f"{where} refers to set {target}, which does not exist"

    def delete_table(self) -> None:
        self.sets, self.bodies, self.chains, self.hooks = {}, {}, {}, {}

    def add_set(self, _kind: str, name: str, body: str) -> None:
        assert self.bodies.setdefault(name, body) == body, f"{name} exists with another type"
        self.sets.setdefault(name, {})

    def delete_set(self, name: str) -> None:
        del self.sets[name], self.bodies[name]

    def add_chain(self, name: str, hook: str | None) -> None:
        self.chains.setdefault(name, [])
        if hook:
            self.hooks[name] = hook

    def flush_chain(self, name: str) -> None:
        self.chains[name] = []

    def delete_chain(self, name: str) -> None:
        del self.chains[name]

    def add_rule(self, name: str, rule: str) -> None:
        _parsed(rule)
        self.chains[name].append(rule)

    def add_elements(self, name: str, elements: str) -> None:
        for element in elements.split(", "):
            key, _, data = element.partition(" : ")
            assert self.sets[name].setdefault(key, data) == data, f"{name} has {key} with other data"

    def delete_elements(self, name: str, keys: str) -> None:
        for key in keys.split(", "):
            del self.sets[name][key]

    # --- packets ----------------------------------------------------------------------------------------

    def outcomes(self, packet: Packet) -> set[Outcome]:
        """Everything that can become of the packet, whatever the dice say."""
        widest = max(
            (
                int(n)
                for rules in self.chains.values()
                for rule in rules
                for n in re.findall(r"mod (\d+)", rule)
            ),
            default=1,
        )
        widest = min(widest, 64)
        return {self.trace(packet, roll=roll) for roll in range(widest)}

    def trace(self, packet: Packet, *, roll: int = 0, learn: bool = False) -> Outcome:
        """Where the packet ends if the random number is `roll`; `learn` as the kernel would from it."""
        walk = _Walk(packet=packet, roll=roll, learn=learn, destination=packet.destination, port=packet.port)
        entry, guard = ("output", "guard-out") if packet.from_node else ("prerouting", "guard-in")
        for chain in (entry, guard, "postrouting"):
            verdict = self._follow(chain, walk)
            if isinstance(verdict, Fate):
                return verdict
        if not walk.translated:
            return Fate.LEFT_ALONE
        return Delivered(walk.destination, walk.port, walk.masqueraded)

    def _follow(self, name: str, walk: _Walk) -> _Verdict:
        for rule in self.chains[name]:
            evaluate, words = _parsed(rule)
            outcome = self._obey(evaluate(self, walk, **words), walk)
            if outcome is not None:
                return outcome
        return None

    def _obey(self, verdict: _Verdict, walk: _Walk) -> _Verdict:
        """None: go on with the next rule; "end": the hook is done with the packet."""
        if verdict is None or isinstance(verdict, Fate) or verdict == "end":
            return verdict
        word, _, target = verdict.partition(" ")
        match word:
            case "drop":
                return Fate.DROPPED
            case "return":
                return "returned"
            case "goto":
                return self._follow(target, walk) or "returned"
            case "jump":
                outcome = self._follow(target, walk)
                return None if outcome == "returned" else outcome
            case _:
                raise AssertionError(f"unknown verdict: {verdict}")

    def has(self, name: str, *key: object) -> bool:
        """Whether the set holds the key; of interval sets, whether an element's last part covers it."""
        if "interval" not in self.bodies[name]:
            return " . ".join(map(str, key)) in self.sets[name]
        for element in self.sets[name]:
            *exact, block = element.split(" . ")
            if exact == [str(part) for part in key[:-1]] and ip_address(str(key[-1])) in ip_network(block):
                return True
        return False


_COMMANDS: list[tuple[re.Pattern[str], Callable[..., None]]] = [
    (re.compile(r"add table inet lbipam"), lambda table: None),
    (re.compile(r"delete table inet lbipam"), Simulator.delete_table),
    (re.compile(r"add (map|set) inet lbipam (\S+) \{ (.*) \}"), Simulator.add_set),
    (re.compile(r"delete (?:map|set) inet lbipam (\S+)"), Simulator.delete_set),
    (re.compile(r"add chain inet lbipam (\S+)(?: \{ (.*) \})?"), Simulator.add_chain),
    (re.compile(r"flush chain inet lbipam (\S+)"), Simulator.flush_chain),
    (re.compile(r"delete chain inet lbipam (\S+)"), Simulator.delete_chain),
    (re.compile(r"add rule inet lbipam (\S+) (.*)"), Simulator.add_rule),
    (re.compile(r"add element inet lbipam (\S+) \{ (.*) \}"), Simulator.add_elements),
    (re.compile(r"delete element inet lbipam (\S+) \{ (.*) \}"), Simulator.delete_elements),
]


def _verdict(_: Simulator, __: _Walk, verdict: str) -> _Verdict:
    return verdict


def _look_up(table: Simulator, walk: _Walk, ip: str, lookup: str) -> _Verdict:
    if walk.ip != ip or walk.packet.protocol not in ("tcp", "udp", "sctp"):
        return None
    return table.sets[lookup].get(f"{walk.destination} . {NUMBERS[walk.packet.protocol]} . {walk.port}")


def _look_up_source(table: Simulator, walk: _Walk, ip: str, proto: str, lookup: str) -> _Verdict:
    if (walk.ip, walk.packet.protocol) != (ip, proto):
        return None
    return table.sets[lookup].get(f"{walk.packet.destination} . {walk.packet.port}")


def _dnat(
    table: Simulator, walk: _Walk, ip: str, proto: str, count: str, offset: str | None, lookup: str
) -> _Verdict:
    return _translate(table, walk, ip, proto, lookup, walk.roll % int(count) + int(offset or 0))


def _dnat_hashed(
    table: Simulator, walk: _Walk, ip: str, proto: str, count: str, seed: str, lookup: str
) -> _Verdict:
    slot = jhash(walk.packet.source.packed, int(seed, 16)) * int(count) >> 32
    return _translate(table, walk, ip, proto, lookup, slot)


def _translate(table: Simulator, walk: _Walk, ip: str, proto: str, lookup: str, slot: int) -> _Verdict:
    if (walk.ip, walk.packet.protocol) != (ip, proto):
        return None
    target = table.sets[lookup].get(f"{walk.destination} . {walk.port} . {slot}")
    return _send(walk, *target.split(" . ")) if target else None


def _dnat_learned(table: Simulator, walk: _Walk, ip: str, proto: str, lookup: str, port: str) -> _Verdict:
    if (walk.ip, walk.packet.protocol) != (ip, proto):
        return None
    endpoint = table.sets[lookup].get(f"{walk.packet.source}")
    return _send(walk, endpoint, port) if endpoint else None


def _send(walk: _Walk, address: str, port: str) -> _Verdict:
    walk.destination, walk.port, walk.translated = ip_address(address), int(port), True
    return "end"


def _learn(table: Simulator, walk: _Walk, ip: str, proto: str, port: str, lookup: str) -> _Verdict:
    if walk.learn and (walk.ip, walk.packet.protocol, walk.port) == (ip, proto, int(port)):
        table.sets[lookup][f"{walk.packet.source}"] = f"{walk.destination}"
    return None


def _keep_away(table: Simulator, walk: _Walk, ip: str, members: str) -> _Verdict:
    if walk.ip != ip:
        return None
    number = NUMBERS[walk.packet.protocol]
    allowed = table.has(members, walk.destination, number, walk.port, walk.packet.source)
    return None if allowed else "drop"


def _from_node(table: Simulator, walk: _Walk, verdict: str) -> _Verdict:
    return _or_masquerade(walk, verdict) if walk.packet.source in table.node_addresses else None


def _to_node(table: Simulator, walk: _Walk, verdict: str) -> _Verdict:
    return verdict if walk.destination in table.node_addresses else None


def _source_in(table: Simulator, walk: _Walk, ip: str, members: str, verdict: str) -> _Verdict:
    return _or_masquerade(walk, verdict) if walk.ip == ip and table.has(members, walk.packet.source) else None


def _destination_in(table: Simulator, walk: _Walk, ip: str, members: str, verdict: str) -> _Verdict:
    return verdict if walk.ip == ip and table.has(members, walk.destination) else None


def _original_in(table: Simulator, walk: _Walk, ip: str, members: str, verdict: str) -> _Verdict:
    return verdict if walk.ip == ip and table.has(members, walk.packet.destination) else None


def _hairpin(table: Simulator, walk: _Walk, ip: str, members: str) -> _Verdict:
    hit = walk.ip == ip and table.has(members, walk.packet.source, walk.destination)
    return _masquerade(table, walk) if hit else None


def _masquerade(_: Simulator, walk: _Walk) -> _Verdict:
    walk.masqueraded = True
    return "end"


def _or_masquerade(walk: _Walk, verdict: str) -> _Verdict:
    if verdict == "masquerade fully-random":
        walk.masqueraded = True
        return "end"
    return verdict


def _if_translated(_: Simulator, walk: _Walk, verdict: str) -> _Verdict:
    return verdict if walk.translated else None


def _echo(table: Simulator, walk: _Walk, ip: str, members: str, kind: str, verdict: str) -> _Verdict:
    asked = walk.ip == ip and walk.packet.protocol == kind and table.has(members, walk.destination)
    return verdict if asked else None


def _dnat_echo(table: Simulator, walk: _Walk, ip: str, lookup: str) -> _Verdict:
    address = table.sets[lookup].get(f"{NUMBERS[walk.packet.protocol]}") if walk.ip == ip else None
    assert address is None or ip_address(address) in table.node_addresses
    return Fate.ECHOED if address else None


def _redirect(_: Simulator, __: _Walk) -> _Verdict:
    """To the node itself: nothing else is sent there than what asks for an echo."""
    return Fate.ECHOED


def _reset(_: Simulator, walk: _Walk) -> _Verdict:
    return Fate.RESET if walk.packet.protocol == "tcp" else None


def _drop_icmp(_: Simulator, walk: _Walk) -> _Verdict:
    return "drop" if walk.packet.protocol in ("icmp", "icmpv6") else None


def _never(_: Simulator, __: _Walk, ip: str | None) -> _Verdict:
    """For what is not the first packet of a connection."""
    return None


def _unreachable(_: Simulator, __: _Walk) -> _Verdict:
    return Fate.UNREACHABLE


def _rules() -> Iterator[tuple[str, Callable[..., _Verdict]]]:
    verdict = r"(?P<verdict>(?:goto|jump) \S+|return|drop)"
    ip, proto = r"(?P<ip>ip6?)", r"(?P<proto>tcp|udp|sctp)"
    endpoints = r"map @(?P<lookup>endpoints-\S+)"
    key = rf"dnat {ip} to (?P=ip) daddr \. {proto} dport \."
    original = rf"(?:meta nfproto ipv[46] )ct original {ip} daddr"
    yield verdict, _verdict
    yield rf"{ip} daddr \. meta l4proto \. th dport vmap @(?P<lookup>services[46])", _look_up
    yield rf"{key} numgen random mod (?P<count>\d+)(?: offset (?P<offset>\d+))? {endpoints}", _dnat
    yield rf"{key} jhash (?P=ip) saddr mod (?P<count>\d+) seed (?P<seed>0x\w+) {endpoints}", _dnat_hashed
    learned = r"map @(?P<lookup>clients-\S+) : (?P<port>\d+)"
    yield rf"meta l4proto {proto} dnat {ip} to (?P=ip) saddr {learned}", _dnat_learned
    yield (
        rf"{proto} dport (?P<port>\d+) update @(?P<lookup>clients-\S+) \{{ {ip} saddr : (?P=ip) daddr \}}",
        _learn,
    )
    yield (
        rf"{ip} daddr \. meta l4proto \. th dport \. (?P=ip) saddr != @(?P<members>allowed[46]) drop",
        _keep_away,
    )
    yield rf"fib saddr type local (?P<verdict>{verdict[12:-1]}|masquerade fully-random)", _from_node
    yield rf"fib daddr type local {verdict}", _to_node
    yield (
        rf"{ip} saddr @(?P<members>pods[46]) (?P<verdict>{verdict[12:-1]}|masquerade fully-random)",
        _source_in,
    )
    yield rf"{ip} daddr @(?P<members>(?:addresses|refused|nodes)[46]) {verdict}", _destination_in
    yield (
        rf"{ip} daddr @(?P<members>addresses[46]) (?P<kind>icmp(?:v6)?) type echo-request {verdict}",
        _echo,
    )
    yield rf"dnat {ip} to meta l4proto map @(?P<lookup>echo[46])", _dnat_echo
    yield "redirect", _redirect
    yield rf"{ip} saddr \. (?P=ip) daddr @(?P<members>hairpins[46]) masquerade fully-random", _hairpin
    yield "masquerade fully-random", _masquerade
    first = rf"meta nfproto ipv[46] meta l4proto {proto} ct original {ip} daddr"
    yield rf"{first} \. ct original proto-dst vmap @(?P<lookup>sources-\S+)", _look_up_source
    yield rf"{original} @(?P<members>addresses[46]) {verdict}", _original_in
    yield rf"ct status dnat {verdict}", _if_translated
    yield rf"ct state invalid (?:{ip} saddr @pods[46] )?drop", _never
    yield "meta l4proto tcp reject with tcp reset", _reset
    yield r"meta l4proto \{ 1, 58 \} drop", _drop_icmp
    yield "reject with icmpx port-unreachable", _unreachable


_RULES = [(re.compile(form), evaluate) for form, evaluate in _rules()]


@cache
def _parsed(rule: str) -> tuple[Callable[..., _Verdict], dict[str, str]]:
    for form, evaluate in _RULES:
        if match := form.fullmatch(rule):
            return evaluate, match.groupdict()
    raise AssertionError(f"unknown form of rule: {rule}")


def jhash(key: bytes, seed: int) -> int:
    """The kernel's `jhash` (Bob Jenkins, lookup3) on a little-endian machine."""
    mask = 0xFFFFFFFF
    a = b = c = (0xDEADBEEF + len(key) + seed) & mask

    def rotated(x: int, k: int) -> int:
        return (x << k | x >> (32 - k)) & mask

    while len(key) > 12:
        a, b, c = ((x + int.from_bytes(key[i : i + 4], "little")) & mask for x, i in ((a, 0), (b, 4), (c, 8)))
        for k in (4, 6, 8, 16, 19, 4):
            a = ((a - c) & mask) ^ rotated(c, k)
            c = (c + b) & mask
            a, b, c = b, c, a
        key = key[12:]
    a, b, c = ((x + int.from_bytes(key[i : i + 4], "little")) & mask for x, i in ((a, 0), (b, 4), (c, 8)))
    for k in (14, 11, 25, 16, 4, 14, 24):
        c = ((c ^ b) - rotated(b, k)) & mask
        a, b, c = b, c, a
    # Seven turns leave the last one changed, which is `c`, in the middle.
    return b
