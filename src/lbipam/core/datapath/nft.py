"""A ruleset as nft text; the difference between two rulesets.

`Table` remembers what stands in the kernel and what is wanted there, and says which one transaction leads from
one to the other; the kernel takes a transaction whole or not at all. What the kernel reports is read back only to
begin with or to make sure. This file does not run anything.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import TypeAlias

from lbipam.core.datapath import chains, ruleset
from lbipam.core.datapath.frontends import Frontend
from lbipam.core.datapath.report import NOTHING, Report
from lbipam.core.datapath.ruleset import Element, Update
from lbipam.core.datapath.services import IPAddress, Node, Protocol

TABLE = "inet lbipam"
"""Family and name of the only table that is ever touched."""

_PIECE = 1000
"""Elements of one command: the library takes 1.5 KB for each until their transaction is over."""

Part: TypeAlias = Element | chains.Chain
"""What several frontends may need."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forget:
    """Conntrack entries to delete: those to an address and port, but for those that lead to `keep`.

    Rules see only a connection's first packet, and a datagram flow has no end that would make a new first one.
    """

    address: IPAddress
    protocol: Protocol
    port: int
    keep: frozenset[tuple[IPAddress, int]]
    """Address and port of the endpoints that may go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What leads to what is wanted, and what has to be done once that stands."""

    transaction: str
    """nft commands; empty: nothing to change."""
    claims: Mapping[str, tuple[Frontend, ...]]
    """The frontends with a changed set of claimants, who has it first; none: nobody any more."""
    uses: Mapping[Part, int]
    """How many frontends more (or less) need each shared part."""
    forget: tuple[Forget, ...] = ()
    unlearn: tuple[Frontend, ...] = ()
    """Frontends with affinity that may have learned clients of endpoints they lost."""
    foundation: Iterator[str] = field(default_factory=lambda: iter(()))
    """Transactions to be run before, where there is no table yet: all but its hooks, so that no packet meets a
    part of it. Each is written when it is asked for: together they take tens of megabytes."""


@dataclass(slots=True)
class _Parts:
    """Commands in the order in which they can be carried out."""

    declare: list[str] = field(default_factory=list)
    rules: list[str] = field(default_factory=list)
    deleted: list[Element] = field(default_factory=list)
    added: list[Element] = field(default_factory=list)
    hooks: list[str] = field(default_factory=list)
    flush: list[str] = field(default_factory=list)
    drop: list[str] = field(default_factory=list)

    def at_once(self) -> str:
        """One transaction."""
        return "\n".join(
            [
                *self.declare,
                *self.rules,
                *_deletions(self.deleted),
                *_additions(self.added),
                *self.hooks,
                *self.flush,
                *self.drop,
            ]
        )

    def foundation(self, elements: Iterable[Element]) -> Iterator[str]:
        """What goes before the hooks of a new table with these elements."""
        yield "\n".join([*self.declare, *self.rules])
        yield from _additions(elements)

    def write_chain(self, chain: chains.Chain) -> None:
        hook = f" {{ {chain.hook} }}" if chain.hook else ""
        declare, rules = (self.hooks, self.hooks) if chain.hook else (self.declare, self.rules)
        declare += [f"add chain {TABLE} {chain.name}{hook}", f"flush chain {TABLE} {chain.name}"]
        rules += [f"add rule {TABLE} {chain.name} {rule}" for rule in chain.rules]

    def drop_chain(self, name: str) -> None:
        self.flush.append(f"flush chain {TABLE} {name}")
        self.drop.append(f"delete chain {TABLE} {name}")

    def add_set(self, declared: chains.Set) -> None:
        self.declare.append(f"add {declared.kind} {TABLE} {declared.name} {{ {declared.body} }}")


class Table:
    """What should stand in the kernel and what does, and the transactions from one to the other.

    Services may claim the same address, protocol and port; the first by kind of address, namespace and name
    has it, and the next when that one goes.
    """

    def __init__(self) -> None:
        self.node: Node | None = None
        """None: nothing is wanted yet."""
        self.is_known = False
        """Whether it is known what stands."""
        self._services: dict[str, tuple[Frontend, ...]] = {}
        self._replaced: dict[str, tuple[Frontend, ...]] = {}
        """What stands of Services that are wanted otherwise."""
        self._node_addresses: tuple[IPAddress, ...] = ()
        self._nodes: tuple[Element, ...] = ()
        self._refused: tuple[Element, ...] | None = None
        """None: those that stand."""
        self._of_node_standing: tuple[Element, ...] = ()
        self._claims: dict[str, tuple[Frontend, ...]] = {}
        self._uses: Counter[Part] = Counter()

    def leave_out(self, services: Iterable[str]) -> None:
        """Want nothing of these Services until they change."""
        self._want_services(dict.fromkeys(services, ()))

    def want(self, update: Update) -> None:
        """Take in what should stand; nothing is done about it before `change` or `repair`."""
        self._want_services(update.services)
        if (update.node, update.nodes) != (self.node, self._node_addresses):
            self.node, self._node_addresses = update.node, update.nodes
            self._nodes = tuple(ruleset.node_elements(update))
        if update.refused is not None:
            self._refused = tuple(ruleset.refused_elements(update.refused))

    def _want_services(self, services: Mapping[str, tuple[Frontend, ...]]) -> None:
        for name, frontends in services.items():
            self._replaced.setdefault(name, self._services.get(name, ()))
            if frontends:
                self._services[name] = frontends
            else:
                self._services.pop(name, None)

    @property
    def services(self) -> Collection[str]:
        """The Services of which anything is wanted."""
        return self._services.keys()

    @property
    def changed(self) -> Collection[str]:
        """Those of them that may be wanted otherwise than they stand."""
        return self._replaced.keys() & self._services.keys()

    def trial(self, services: Iterable[str]) -> str:
        """What would make a table with these Services only, for the kernel to say whether it would take them."""
        assert self.node is not None
        table = Table()
        table.want(Update(node=self.node, services={name: self._services[name] for name in services}))
        return table.change().transaction

    @property
    def _of_node(self) -> tuple[Element, ...]:
        """The elements that no frontend brings."""
        return (*self._nodes, *(self._refused or ()))

    def change(self) -> Change:
        """The transaction to what is wanted; if it is unknown what stands, it replaces the whole table."""
        if not self.is_known:
            return self._replacement()
        claims = self._changed_claims()
        before = [old[0] for key in claims if (old := self._claims.get(key))]
        after = [new[0] for new in claims.values() if new]
        uses = _uses(after)
        uses.subtract(_uses(before))
        parts = _Parts()
        _alter_shared(parts, self._uses, uses)
        _alter_chains(parts, before, after)
        _alter_elements(parts, _own_elements(before), _own_elements(after))
        if self._of_node != self._of_node_standing:
            _alter_elements(parts, self._of_node_standing, self._of_node)
        sticky = {f.key for f in before if f.affinity_seconds}
        return Change(
            transaction=parts.at_once(),
            claims=claims,
            uses=uses,
            forget=tuple(_forget(before, after)),
            unlearn=tuple(f for f in after if f.affinity_seconds and f.key in sticky),
        )

    def repair(self, report: Report) -> Change:
        """The transaction from what the kernel reports; chains are written anew, since rules are not compared."""
        self.lose()
        is_new = not report.chains and not report.sets
        if self._refused is None:
            self._refused = tuple(filter(ruleset.is_refused, report.elements))
        claims, every = self._all_claims()
        uses = _uses(every)
        parts = _Parts(declare=[f"add table {TABLE}"])
        sets = {s.name: s for s in (*chains.fixed_sets(), *_own_sets(every))}
        for declared in sets.values():
            parts.add_set(declared)
        all_chains = {c.name: c for c in (*chains.fixed_chains(), *_shared(uses), *_own_chains(every))}
        for chain in all_chains.values():
            parts.write_chain(chain)
        for name in report.chains - all_chains.keys():
            parts.drop_chain(name)
        for name, kind in report.sets.items():
            if name not in sets:
                parts.drop.append(f"delete {kind} {TABLE} {name}")
        elements = self._elements(uses, every)
        forget = tuple(_forget((), every))
        if is_new:
            return Change(
                transaction="\n".join(parts.hooks),
                claims=claims,
                uses=uses,
                forget=forget,
                foundation=parts.foundation(elements),
            )
        _alter_elements(parts, report.elements, elements)
        return Change(
            transaction=parts.at_once(),
            claims=claims,
            uses=uses,
            forget=forget,
            unlearn=tuple(f for f in every if f.affinity_seconds),
        )

    def commit(self, change: Change) -> None:
        """The kernel has taken the change to what is wanted."""
        self._claims.update(change.claims)
        for key in [key for key, claimants in change.claims.items() if not claimants]:
            del self._claims[key]
        self._uses.update(change.uses)
        for part in [part for part in change.uses if not self._uses[part]]:
            del self._uses[part]
        self._replaced.clear()
        self._of_node_standing = self._of_node
        self.is_known = True

    def stands(self, frontend: Frontend) -> bool:
        """Whether it has its address and port, by rules that stand."""
        return self._claims.get(frontend.key, ())[:1] == (frontend,)

    def lose(self) -> None:
        """What stands is unknown from now on."""
        self.is_known = False
        self._claims.clear()
        self._uses.clear()

    def _replacement(self) -> Change:
        """A new table, at once, in place of one that may be there."""
        anew = self.repair(NOTHING)
        gone = (f"add table {TABLE}", f"delete table {TABLE}")
        transaction = "\n".join((*gone, *anew.foundation, anew.transaction))
        return replace(anew, transaction=transaction, foundation=iter(()))

    def _elements(self, uses: Iterable[Part], every: Iterable[Frontend]) -> Iterator[Element]:
        yield from self._of_node
        yield from (part for part in uses if isinstance(part, Element))
        yield from _own_elements(every)

    def _changed_claims(self) -> dict[str, tuple[Frontend, ...]]:
        claims: dict[str, tuple[Frontend, ...]] = {}
        for name, replaced in sorted(self._replaced.items()):
            was, wanted = {f.key: f for f in replaced}, {f.key: f for f in self._services.get(name, ())}
            for key in sorted(was.keys() | wanted.keys()):
                if was.get(key) == wanted.get(key):
                    continue
                others = [f for f in claims.get(key, self._claims.get(key, ())) if f.service != name]
                mine = [wanted[key]] if key in wanted else []
                claims[key] = tuple(sorted((*others, *mine), key=attrgetter("claim")))
        return claims

    def _all_claims(self) -> tuple[dict[str, tuple[Frontend, ...]], tuple[Frontend, ...]]:
        """Who claims each frontend, and who has it."""
        claims: dict[str, tuple[Frontend, ...]] = {}
        for frontends in self._services.values():
            for frontend in frontends:
                claims[frontend.key] = (*claims.get(frontend.key, ()), frontend)
        for key, claimants in claims.items():
            if len(claimants) > 1:
                claims[key] = tuple(sorted(claimants, key=attrgetter("claim")))
        return claims, tuple(claimants[0] for claimants in claims.values())


def _uses(frontends: Iterable[Frontend]) -> Counter[Part]:
    uses: Counter[Part] = Counter()
    for frontend in frontends:
        for chain in chains.shared_chains(frontend):
            uses[chain] += 1
        for element in ruleset.shared_elements(frontend):
            uses[element] += 1
    return uses


def _alter_shared(parts: _Parts, standing: Counter[Part], uses: Counter[Part]) -> None:
    for part, difference in uses.items():
        was, will_be = standing[part] > 0, standing[part] + difference > 0
        if was == will_be:
            continue
        match part:
            case Element():
                (parts.added if will_be else parts.deleted).append(part)
            case chains.Chain():
                if will_be:
                    parts.write_chain(part)
                else:
                    parts.drop_chain(part.name)


def _alter_chains(parts: _Parts, before: Iterable[Frontend], after: Iterable[Frontend]) -> None:
    """The chains and maps of frontends with affinity."""
    old_sets, new_sets = set(_own_sets(before)), set(_own_sets(after))
    for declared in new_sets - old_sets:
        parts.add_set(declared)
    for declared in old_sets - new_sets:
        parts.drop.append(f"delete {declared.kind} {TABLE} {declared.name}")
    old = {chain.name: chain for chain in _own_chains(before)}
    new = {chain.name: chain for chain in _own_chains(after)}
    for name, chain in new.items():
        if old.get(name) != chain:
            parts.write_chain(chain)
    for name in old.keys() - new.keys():
        parts.drop_chain(name)


def _alter_elements(parts: _Parts, standing: Iterable[Element], wanted: Iterable[Element]) -> None:
    left = set(standing)
    for element in wanted:
        if element in left:
            left.remove(element)
        else:
            parts.added.append(element)
    parts.deleted += left


def _additions(elements: Iterable[Element]) -> Iterator[str]:
    """Commands that add them, so many with each as the library should take at a time."""
    waiting: defaultdict[str, list[str]] = defaultdict(list)
    for name, key, data in elements:
        texts = waiting[name]
        texts.append(f"{key} : {data}" if data else key)
        if len(texts) == _PIECE:
            yield f"add element {TABLE} {name} {{ {', '.join(waiting.pop(name))} }}"
    for name, texts in waiting.items():
        yield f"add element {TABLE} {name} {{ {', '.join(texts)} }}"


def _deletions(elements: Iterable[Element]) -> Iterator[str]:
    """Commands that delete them."""
    waiting: defaultdict[str, list[str]] = defaultdict(list)
    for name, key, _ in elements:
        waiting[name].append(key)
    for name, keys in waiting.items():
        yield f"delete element {TABLE} {name} {{ {', '.join(keys)} }}"


def _forget(before: Iterable[Frontend], after: Iterable[Frontend]) -> Iterator[Forget]:
    """What datagram flows may outlive; a connection of TCP ends by itself when its endpoint does."""
    served = {f.key: _targets(f) for f in before if f.protocol is not Protocol.TCP}
    wanted = {f.key: f for f in after if f.protocol is not Protocol.TCP}
    for key, frontend in wanted.items():
        keep = _targets(frontend)
        if not served.get(key) or served[key] - keep:
            yield _forgotten(frontend, keep)
    for frontend in before:
        if frontend.key in served and frontend.key not in wanted:
            yield _forgotten(frontend, frozenset())


def _targets(frontend: Frontend) -> frozenset[tuple[IPAddress, int]]:
    every = (*frontend.slots, *frontend.draining)
    return frozenset((endpoint.address, endpoint.port) for endpoint in every)


def _forgotten(frontend: Frontend, keep: frozenset[tuple[IPAddress, int]]) -> Forget:
    return Forget(address=frontend.address, protocol=frontend.protocol, port=frontend.port, keep=keep)


def _own_elements(frontends: Iterable[Frontend]) -> Iterator[Element]:
    return (element for frontend in frontends for element in ruleset.own_elements(frontend))


def _own_chains(frontends: Iterable[Frontend]) -> Iterator[chains.Chain]:
    return (chain for frontend in frontends for chain in chains.own_chains(frontend))


def _own_sets(frontends: Iterable[Frontend]) -> Iterator[chains.Set]:
    return (declared for frontend in frontends for declared in chains.own_sets(frontend))


def _shared(uses: Iterable[Part]) -> Iterator[chains.Chain]:
    return (part for part in uses if isinstance(part, chains.Chain))
