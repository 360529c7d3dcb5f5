"""What has been told to users lately?

The fields of Events that are read back, which is little: Events are for people. This file writes none.
"""

from lbipam.kube.forms import Form, Metadata
from lbipam.kube.kinds import Kind


class Event(Form, frozen=True):
    """`corev1.Event`."""

    metadata: Metadata
    reason: str = ""
    message: str = ""
    last_timestamp: str | None = None
    """When it happened last."""


EVENT = Kind(group="", version="v1", kind="Event", plural="events", namespaced=True, form=Event)
