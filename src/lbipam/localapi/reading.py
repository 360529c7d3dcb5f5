"""How does the server understand the object that a client sends?

Fields that the schema does not know are dropped, told or refused, as the client wishes; values of a type that
the kind cannot hold are refused. Whether the values make sense is judged later.
"""

from typing import Any

from lbipam.localapi import decoding, fieldsets, refusals, schema
from lbipam.localapi.resources import Object
from lbipam.localapi.store import Key
from lbipam.localapi.wishes import Wish


def understood(wish: Wish, value: Object) -> Object:
    """The object without unknown fields, and with the defaults of its schema; `value` may be changed."""
    value, unknown = _pruned(wish, value)
    if unknown and wish.validation == "Strict":
        told = ", ".join(f'unknown field "{path}"' for path in unknown)
        raise refusals.bad_request(_cannot_be_handled(wish, f"strict decoding error: {told}"))
    if unknown and wish.validation == "Warn":
        wish.warnings.extend(f'unknown field "{path}"' for path in unknown)
    if wish.resource.custom:
        schema.set_defaults(value, wish.form)
    return value


def configuration(wish: Wish, key: Key, config: Any) -> Object:
    """What a client applies; nobody could own an unknown field, nor one of two items of one key: they are refused."""
    if not isinstance(config, dict) or not isinstance(config.get("metadata", {}), dict):
        raise refusals.bad_request("error decoding YAML: the body is no object")
    if (config.pop("apiVersion", ""), config.pop("kind", "")) != (wish.api_version, wish.resource.kind):
        raise refusals.bad_request("apiVersion and kind of the applied object must be those of the request")
    metadata = config.setdefault("metadata", {})
    if metadata.pop("managedFields", None):
        raise refusals.bad_request("metadata.managedFields must be nil")
    if metadata.get("name", key.name) != key.name:
        raise other_name(metadata["name"], key)
    metadata.pop("creationTimestamp", None)
    value, unknown = _pruned(wish, config)
    unclear = [f".{path}: field not declared in schema" for path in unknown]
    unclear += fieldsets.unclear_items(value, wish.form)
    if unclear:
        what = f"{key.namespace}/{key.name}; {wish.api_version}, Kind={wish.resource.kind}"
        raise refusals.untyped(f"failed to create typed patch object ({what}): " + "\n".join(unclear))
    return value


def other_name(name: str, key: Key) -> refusals.ApiError:
    """The refusal of an object whose name is another than its path says, or that has none."""
    if not name:
        return refusals.bad_request(
            f"the name of the object ({key.name} based on URL) was undeterminable: name must be provided"
        )
    return refusals.bad_request(
        f"the name of the object ({name}) does not match the name on the URL ({key.name})"
    )


def other_namespace(namespace: str, key: Key) -> refusals.ApiError:
    """The refusal of an object whose Namespace is another than its path says."""
    return refusals.bad_request(
        f"the namespace of the object ({namespace}) does not match the namespace on the request ({key.namespace})"
    )


def _pruned(wish: Wish, value: Object) -> tuple[Object, list[str]]:
    """The object without what its schema does not know, and the paths of that."""
    unknown: list[str] = []
    form = wish.form
    try:
        if wish.resource.custom:
            unknown += schema.prune(value, form)
            metadata_form = form.properties["metadata"]
            metadata = decoding.read(value["metadata"], metadata_form, "metadata", "ObjectMeta", [])
            return {**value, "metadata": metadata}, unknown
        kept: Object = decoding.read(value, form, "", wish.resource.kind, unknown)
    except decoding.WrongTypeError as wrong:
        raise refusals.bad_request(_cannot_be_handled(wish, str(wrong))) from wrong
    return kept, unknown


def _cannot_be_handled(wish: Wish, why: str) -> str:
    kind = wish.resource.kind
    return f'{kind} in version "{wish.version}" cannot be handled as a {kind}: {why}'
