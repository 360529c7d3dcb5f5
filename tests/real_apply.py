"""Writes against the real API server, for tests of bodies that only a server can judge."""

import json
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import pytest

from lbipam.kube.crds import catalog
from tests.real_api import RealApi


def request(
    api: RealApi, method: str, path: str, body: object = None, *, content_type: str = "application/json"
) -> Any:
    """One request; the answer's object.

    Raises:
        urllib.error.HTTPError: the server refuses.
    """
    asked = urllib.request.Request(
        api.url + path,
        data=msgspec.json.encode(body) if body is not None else None,
        method=method,
        headers={"Content-Type": content_type, "Authorization": f"Bearer {api.token}"},
    )
    context = ssl.create_default_context(cafile=str(api.ca_file))
    with urllib.request.urlopen(asked, context=context, timeout=30) as answer:
        return json.load(answer)


def apply(api: RealApi, path: str, body: Mapping[str, Any], *, manager: str = "lbipam") -> Any:
    """What the object is after a server-side apply; a refusal fails the test with the server's words."""
    return _patch(api, f"{path}?fieldManager={manager}", body, "application/apply-patch+yaml")


def patch(api: RealApi, path: str, operations: Sequence[Mapping[str, Any]]) -> Any:
    """What the object is after a JSON patch; a refusal fails the test with the server's words."""
    return _patch(api, path, operations, "application/json-patch+json")


def _patch(api: RealApi, path: str, body: object, content_type: str) -> Any:
    try:
        return request(api, "PATCH", path, body, content_type=content_type)
    except urllib.error.HTTPError as refusal:
        with refusal:
            pytest.fail(json.loads(refusal.read())["message"])


def define(api: RealApi, crds: Iterable[dict[str, Any]] | None = None) -> None:
    """Make the server know these kinds, or all of lbipam's, and wait until it serves them.

    It accepts a definition before it serves the kind: an early request is answered with 404.
    """
    deadline = time.monotonic() + 30
    for crd in map(catalog.without_rules, catalog.all_crds() if crds is None else crds):
        name, spec = crd["metadata"]["name"], crd["spec"]
        apply(api, f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}", crd, manager="tests")
        for version in spec["versions"]:
            path = f"/apis/{spec['group']}/{version['name']}/{spec['names']['plural']}"
            while not _serves(api, path):
                assert time.monotonic() < deadline, f"{path} is not served"


def _serves(api: RealApi, path: str) -> bool:
    try:
        request(api, "GET", path)
    except urllib.error.HTTPError as refusal:
        refusal.close()
        return False
    return True
