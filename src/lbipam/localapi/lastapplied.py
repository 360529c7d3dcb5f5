"""What does it mean for an apply that kubectl has applied the object on its own side before?

Such an object carries what was applied as an annotation. When kubectl changes over to server-side apply, it is
not in conflict with itself, and the annotation goes on to tell what it applied last
(apimachinery's `lastappliedmanager.go` and `lastappliedupdater.go`). Who may opt out names another manager.
"""

from typing import Any

import msgspec

from lbipam.localapi import fieldsets
from lbipam.localapi.fieldsets import Fields
from lbipam.localapi.resources import Object
from lbipam.localapi.wishes import Wish

ANNOTATION = "kubectl.kubernetes.io/last-applied-configuration"
_MANAGER = "kubectl"


def takeable(wish: Wish, live: Object) -> Fields:
    """The fields that stand as kubectl applied them, so that it may take them over from whoever owns them."""
    told = _noted(wish, live)
    if not told:
        return {}
    try:
        said: Any = msgspec.json.decode(told)
    except msgspec.DecodeError:
        return {}
    if not isinstance(said, dict) or said.get("apiVersion") != wish.api_version:
        return {}
    changed, gone = fieldsets.compared(said, live, wish.form)
    stated = fieldsets.owned(said, wish.form)
    return fieldsets.difference(fieldsets.difference(stated, changed), gone)


def keep(wish: Wish, live: Object, config: Object, value: Object) -> None:
    """Write down in `value` what is applied now, if it was written down in the live object."""
    if _noted(wish, live):
        stated = {"apiVersion": wish.api_version, "kind": wish.resource.kind, **config}
        text = msgspec.json.encode(stated, order="sorted").decode() + "\n"
        value["metadata"].setdefault("annotations", {})[ANNOTATION] = text


def _noted(wish: Wish, live: Object) -> str:
    annotations: dict[str, str] = live["metadata"].get("annotations", {})
    return annotations.get(ANNOTATION, "") if wish.manager == _MANAGER else ""
