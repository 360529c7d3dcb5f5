"""What are users told of a Service whose addresses have been decided on?

As Events on the Service, each a sentence. This file does not know whether the decision has been written.
"""

from collections.abc import Iterator, Sequence

from lbipam.controllers.ports import EmitEvent, Severity
from lbipam.core.ipam.addresses import Address, format_address
from lbipam.core.ipam.allocation import Decision
from lbipam.kube import forms, ipam_status
from lbipam.kube.ipam import Managed


def decided(
    service: forms.Service, reading: Managed, decision: Decision, ours: Sequence[Address]
) -> Iterator[EmitEvent]:
    """What came of its request: given, taken away, refused.

    Args:
        service: As last seen.
        reading: What it asks for, and what of that cannot be understood.
        decision: What it gets.
        ours: What it had from us.
    """
    if decision.granted:
        given = ", ".join(format_address(address) for address in decision.granted)
        yield _event(service, Severity.NORMAL, "Allocated", f"Allocated {given}")
    for dropped in decision.dropped:
        if dropped.address in ours:
            message = f"Released {format_address(dropped.address)}: {dropped.why}"
            yield _event(service, Severity.NORMAL, "Released", message)
    for address in decision.superseded:
        message = f"Released {format_address(address)}: it is no longer asked for"
        yield _event(service, Severity.NORMAL, "Released", message)
    sentences = [*reading.problems, *map(ipam_status.sentence, decision.refusals)]
    for sentence in dict.fromkeys(sentences):
        yield refused(service, sentence)


def refused(service: forms.Service, why: str) -> EmitEvent:
    """It does not get all that it asks for."""
    return _event(service, Severity.WARNING, "Refused", why)


def _event(of: forms.Service, severity: Severity, reason: str, message: str) -> EmitEvent:
    return EmitEvent(
        kind=forms.SERVICE,
        key=of.metadata.key,
        uid=of.metadata.uid,
        severity=severity,
        reason=reason,
        message=message,
    )
