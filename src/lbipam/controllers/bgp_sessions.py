"""With whom does a node hold sessions, how, and which adverts does each carry?

Reads the node's configuration with all that it refers to, as a whole. This file looks at no Service.
"""

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from lbipam.controllers.bgp_routes import AdvertSet
from lbipam.controllers.cache import Cache
from lbipam.controllers.host import Address, Host
from lbipam.core.bgp.codes import Family
from lbipam.core.bgp.peers import Peer
from lbipam.kube import bgp, bgp_adverts, bgp_cluster, bgp_forms, bgp_legacy, forms
from lbipam.kube.kinds import Key


class PeerId(NamedTuple):
    """A peer of a node."""

    instance: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A session that should be held, and what it carries."""

    peer: Peer
    adverts: Mapping[Family, AdvertSet]
    bfd: bgp.Bfd | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """A virtual router: a speaker of its own."""

    local_asn: int
    router_id: ipaddress.IPv4Address
    listen_port: int | None
    """None: it only connects out."""
    sessions: Mapping[str, Session]


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """The instances of a node, and all adverts that any of their sessions carries."""

    instances: Mapping[str, Instance]
    adverts: tuple[bgp_adverts.Advert, ...]
    problems: tuple[tuple[str, str], ...]
    """What cannot be done: the instance, and why."""


_NO_ADVERTS: AdvertSet = frozenset()
NOTHING = Configuration(instances={}, adverts=(), problems=())


def read_configuration(
    cache: Cache, kinds: bgp_forms.Kinds, *, node: str, secrets_namespace: str, host: Host
) -> Configuration:
    """What a node's configuration asks for; nothing where it has none."""
    return _Reader(cache, kinds, node, secrets_namespace, host).read()


class _Reader:
    """Reads the configuration of one node, once."""

    def __init__(
        self, cache: Cache, kinds: bgp_forms.Kinds, node: str, secrets_namespace: str, host: Host
    ) -> None:
        self._cache = cache
        self._kinds = kinds
        self._key = Key("", node)
        self._node: forms.Node | None = cache.objects(forms.NODE).get(self._key)
        self._secrets_namespace = secrets_namespace
        self._host = host
        self._adverts: dict[bgp_adverts.Advert, int] = {}
        self._problems: list[tuple[str, str]] = []
        self._advertisements = tuple(
            bgp_adverts.read_advertisement(written)
            for _, written in sorted(cache.objects(self._kinds.advertisement).items())
        )

    def read(self) -> Configuration:
        written = self._cache.objects(self._kinds.node_config).get(self._key)
        if written is None:
            return NOTHING
        reading = bgp.read_node_config(written)
        self._problems += reading.problems
        legacy = self._legacy(written)
        instances = {
            instance.name: found
            for instance in reading.instances
            if (found := self._instance(instance, legacy)) is not None
        }
        return Configuration(
            instances=instances,
            adverts=tuple(self._adverts),
            problems=tuple(dict.fromkeys(self._problems)),
        )

    def _legacy(self, written: bgp_forms.NodeConfig) -> bgp_legacy.PolicyReading | None:
        """The policy that the configuration follows from, if it follows from one."""
        owner = bgp_cluster.owner_of(written)
        if owner is None or owner.kind != bgp_forms.PEERING_POLICY.kind:
            return None
        policy = self._cache.objects(bgp_forms.PEERING_POLICY).get(Key("", owner.name))
        if policy is None:
            return bgp_legacy.PolicyReading(sessions={})
        labels = (self._node.metadata.labels if self._node is not None else None) or {}
        reading = bgp_legacy.read_policy(policy, labels)
        self._problems += reading.problems
        return reading

    def _instance(self, instance: bgp.Instance, legacy: bgp_legacy.PolicyReading | None) -> Instance | None:
        router_id = instance.router_id or self._own_router_id()
        if router_id is None:
            self._problems.append((instance.name, "there is no routerID, nor an address to make one from"))
            return None
        sessions = {
            peer.name: session
            for peer in instance.peers
            if (session := self._session(instance.name, peer, legacy)) is not None
        }
        return Instance(
            local_asn=instance.local_asn,
            router_id=router_id,
            listen_port=instance.local_port,
            sessions=self._distinct(instance.name, sessions),
        )

    def _distinct(self, instance: str, sessions: Mapping[str, Session]) -> Mapping[str, Session]:
        """Without those that the router could not tell from others, and would end each other's connections."""
        ends: dict[tuple[object, ...], str] = {}
        found: dict[str, Session] = {}
        for name, session in sessions.items():
            wire = session.peer
            first = ends.setdefault((wire.address, wire.port, wire.local_address), name)
            if first == name:
                found[name] = session
            else:
                problem = f"{wire.address} is the address of peer {first}, too: the first counts"
                self._problems.append((instance, f"peer {name}: {problem}"))
        return found

    def _session(
        self, instance: str, peer: bgp.Peer, legacy: bgp_legacy.PolicyReading | None
    ) -> Session | None:
        """How to speak with a peer; None: not at all, as things are."""
        address = self._locate(instance, peer)
        plan = self._plan(instance, peer, legacy)
        if address is None or plan is None:
            return None
        settings, adverts = plan
        password = self._password(instance, settings.secret)
        if password is None:
            return None
        wire = Peer(
            address=address,
            asn=peer.asn,
            port=settings.port,
            local_address=peer.local_address,
            password=password,
            hold_seconds=settings.hold_seconds,
            keepalive_seconds=settings.keepalive_seconds,
            connect_retry_seconds=settings.connect_retry_seconds,
            restart_seconds=settings.restart_seconds,
            families=frozenset(adverts),
            hops=settings.multihop,
            secure_hops=settings.secure_hops,
        )
        return Session(peer=wire, adverts=adverts, bfd=settings.bfd)

    def _plan(
        self, instance: str, peer: bgp.Peer, legacy: bgp_legacy.PolicyReading | None
    ) -> tuple[bgp.PeerSettings, Mapping[Family, AdvertSet]] | None:
        """The settings of a peer, and the adverts of each of its families."""
        if legacy is not None:
            session = legacy.sessions.get((instance, peer.name))
            if session is None:
                return None
            adverts = self._numbered(session.adverts)
            return session.settings, {one.family: adverts for one in session.settings.families}
        settings = self._settings(instance, peer)
        if settings is None:
            return None
        carried = dict.fromkeys((one.family for one in settings.families), _NO_ADVERTS)
        for one in settings.families:
            carried[one.family] |= self._advertised(instance, one)
        return settings, carried

    def _settings(self, instance: str, peer: bgp.Peer) -> bgp.PeerSettings | None:
        if peer.config is None:
            return bgp.PeerSettings()
        written = self._cache.objects(self._kinds.peer_config).get(Key("", peer.config))
        if written is None:
            # Without its settings the session could be with the wrong port, or unsigned.
            self._problems.append(
                (instance, f"peer {peer.name}: there is no CiliumBGPPeerConfig {peer.config}")
            )
            return None
        reading = bgp.read_peer_config(written)
        self._problems += [(instance, problem) for problem in reading.problems]
        return reading.settings

    def _advertised(self, instance: str, family: bgp.FamilyAdverts) -> AdvertSet:
        if family.selector is None:
            return _NO_ADVERTS
        found: list[bgp_adverts.Advert] = []
        for advertisement in self._advertisements:
            if family.selector.matches(advertisement.labels):
                found += advertisement.adverts
                self._problems += [(instance, problem) for problem in advertisement.problems]
        return self._numbered(found)

    def _numbered(self, adverts: Iterable[bgp_adverts.Advert]) -> AdvertSet:
        return frozenset(self._adverts.setdefault(advert, len(self._adverts)) for advert in adverts)

    def _password(self, instance: str, secret: str | None) -> bytes | None:
        """With what sessions are signed; None: what is written cannot be used, and unsigned none is held."""
        if secret is None:
            return b""
        written = self._cache.objects(forms.SECRET).get(Key(self._secrets_namespace, secret))
        password = bgp.read_password(written)
        if len(password) > bgp.LONGEST_PASSWORD:
            problem = f"password has {len(password)} octets, and may have {bgp.LONGEST_PASSWORD}"
            self._problems.append((instance, f"Secret {secret}: the key {problem}: no session is held"))
            return None
        if not password:
            self._problems.append((instance, f"Secret {secret} has no password: sessions are not signed"))
        return password

    def _locate(self, instance: str, peer: bgp.Peer) -> Address | None:
        match peer.location:
            case bgp.FixedAddress(address=address):
                return address
            case bgp.GatewayAddress(family=family):
                route = self._host.gateway(family.version)
                if route is None or route.gateway.is_link_local:
                    self._problems.append(
                        (instance, f"peer {peer.name}: no default gateway of {family.name} to speak with")
                    )
                    return None
                return route.gateway

    def _own_router_id(self) -> ipaddress.IPv4Address | None:
        """The node's IPv4 address, or else what Cilium makes of the MAC of the interface it uses."""
        own = list(addresses(self._node))
        for address in own:
            if isinstance(address, ipaddress.IPv4Address):
                return address
        for interface in self._host.interfaces:
            if len(interface.mac) == 6 and any(address in own for address in interface.addresses):
                return ipaddress.IPv4Address(interface.mac[2:])
        return None


def addresses(node: forms.Node | None) -> Iterator[Address]:
    """The addresses of a node, internal ones first."""
    entries = node.status.addresses if node is not None else ()
    for wanted in ("InternalIP", "ExternalIP"):
        for entry in entries:
            if entry.type == wanted:
                try:
                    yield ipaddress.ip_address(entry.address)
                except ValueError:
                    continue
