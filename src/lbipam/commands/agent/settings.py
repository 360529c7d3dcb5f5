"""What is an agent told when it starts?

`lbipam agent` reads it from the command line, and hands it over to the process that it turns into. This file parses
nothing.
"""

from dataclasses import dataclass, field

from lbipam.core.l2 import election

START = "LBIPAM_AGENT_START"
"""The environment variable in which it is handed over, as JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSettings:
    """What an agent is told on its command line."""

    node: str
    bgp: bool = True
    l2: bool = True
    carries_traffic: bool = False
    cluster_cidrs: tuple[str, ...] = ()
    """The blocks of all pods, where `Node.spec.podCIDRs` does not tell."""
    namespace: str = "kube-system"
    """Where the Leases of all agents lie."""
    secrets_namespace: str = "kube-system"
    """Where the secrets of BGP peers lie."""
    announce_without_endpoints: bool = True
    drain_seconds: float = 10.0
    l2_timing: election.Timing = field(
        default_factory=lambda: election.Timing(duration_seconds=3.0, renew_deadline_seconds=2.0)
    )
    l2_renew_seconds: float = 1.0
    l2_port: int = 0
    """Where the agents of other nodes are heard; 0: nowhere."""
    metrics_bind: tuple[str, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Where the cluster is, and what to do there."""

    kubeconfig: str | None
    context: str | None
    log_level: str
    settings: AgentSettings
