"""What does a cluster hold, at this moment or in a file?

Reads objects once, for commands that show and then end. This file prints nothing.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml

from lbipam.adapters.kube_client import ApiError, Client
from lbipam.commands.served import served_pool_kind
from lbipam.kube import forms
from lbipam.kube.ipam import IP_POOL, IP_RESERVATION
from lbipam.kube.kinds import Kind, KubeObject

WORLD = (IP_POOL, IP_RESERVATION, forms.NAMESPACE, forms.SERVICE)
"""The kinds that decide about addresses."""

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Manifest = dict[str, Any]


class ManifestError(Exception):
    """A file cannot be understood; the message is one line for the user."""


async def read_world(client: Client) -> list[Manifest]:
    """Every object that decides about addresses, as the server tells it."""
    pools = await served_pool_kind(client)
    return await read_manifests(client, (pools, *(kind for kind in WORLD if kind is not IP_POOL)))


async def read_manifests(client: Client, kinds: Iterable[Kind]) -> list[Manifest]:
    """Every object of these kinds as the server tells it; a kind that it does not know has none."""
    found: list[Manifest] = []
    for kind in kinds:
        params = {"limit": "500"}
        while True:
            try:
                body = await client.request("GET", kind.path(), params=params)
            except ApiError as problem:
                if problem.code == 404:
                    break
                raise
            page = msgspec.json.decode(body)
            head = {"apiVersion": kind.api_version, "kind": kind.kind}
            found += [head | item for item in page["items"]]
            if not page["metadata"].get("continue"):
                break
            params["continue"] = page["metadata"]["continue"]
    return found


def load_manifests(paths: Iterable[Path]) -> list[Manifest]:
    """The objects in YAML or JSON files, Lists taken apart; as for kubectl, `-` is standard input.

    Raises:
        ManifestError: a file cannot be read, or holds something that is no object.
    """
    found: list[Manifest] = []
    for path in paths:
        try:
            with (Path("/dev/stdin") if path == Path("-") else path).open(encoding="utf-8") as file:
                documents = list(yaml.load_all(file, Loader=_Loader))
        except OSError as problem:
            raise ManifestError(f"{path}: {problem.strerror}") from None
        except UnicodeDecodeError:
            raise ManifestError(f"{path}: not a text in UTF-8") from None
        except yaml.YAMLError as problem:
            raise ManifestError(f"{path}: {' '.join(str(problem).split())}") from None
        for document in documents:
            found += _objects(path, document)
    return found


def _objects(path: Path, document: Any) -> list[Manifest]:
    match document:
        case None:
            return []
        case {"kind": str(kind), "items": items} if kind.endswith("List"):
            if isinstance(items, list | None):
                return [one for item in items or () for one in _objects(path, item)]
            raise ManifestError(f"{path}: the items of a {kind} are no list")
        case {"kind": str(), "metadata": dict()}:
            return [document]
    raise ManifestError(f"{path}: a document is no Kubernetes object: it has no kind or no metadata")


def kind_of(manifest: Mapping[str, Any]) -> Kind | None:
    """Which of the kinds that decide about addresses an object is of, whatever its version."""
    group = str(manifest.get("apiVersion", "")).rpartition("/")[0]
    return next((one for one in WORLD if (one.group, one.kind) == (group, manifest["kind"])), None)


def to_forms(manifests: Iterable[Manifest]) -> dict[Kind, list[KubeObject]]:
    """Objects decoded, by kind; those of other kinds are left out.

    Raises:
        ManifestError: one has a field of the wrong type.
    """
    found: dict[Kind, list[KubeObject]] = {kind: [] for kind in WORLD}
    for manifest in manifests:
        kind = kind_of(manifest)
        if kind is not None:
            found[kind].append(to_form(kind, manifest))
    return found


def to_form(kind: Kind, manifest: Manifest) -> KubeObject:
    """One object decoded.

    Raises:
        ManifestError: it has a field of the wrong type, or of one that JSON does not have.
    """
    try:
        # By way of JSON, so that dates which YAML has read come out as they do from the API.
        form: KubeObject = msgspec.json.decode(msgspec.json.encode(manifest), type=kind.form)
    except (msgspec.ValidationError, TypeError) as problem:
        name = manifest["metadata"].get("name", "?")
        raise ManifestError(f"{kind.kind} {name}: {problem}") from None
    return form
