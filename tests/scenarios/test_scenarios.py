"""Whole behaviours as manifests: each file beside this one is a story, told in memory and on both APIs.

A file is a list of YAML documents, taken one after another. A Kubernetes object is applied. `delete` names
objects (`service/app`). `expect` says, once all has come to rest, what each Service has:

    expect:
      app: [30.0.10.0]                                  its addresses, and that it is satisfied
      web: {reason: no_pool, message: …}                what it is refused; its addresses, if it has any
      pool red-pool: {IPsAvailable: "255"}              messages of a pool's conditions

The word `here` stands for the namespace.
"""

import json
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from lbipam.commands import cluster
from lbipam.controllers.rehearsal import Rehearsal
from lbipam.kube import forms
from lbipam.kube.ipam import IP_POOL
from lbipam.kube.kinds import Key
from tests.worlds import World, eventually

FILES = sorted(Path(__file__).parent.glob("*.yaml"))

Seen = dict[str, Any]


def documents(file: Path, namespace: str) -> Iterator[dict[str, Any]]:
    text = re.sub(r"\bhere\b", namespace, file.read_text())
    return (one for one in yaml.safe_load_all(text) if one)


def whole(expected: Any) -> Any:
    """What is left out of an expectation of a Service."""
    if isinstance(expected, list):
        return {"addresses": expected, "reason": "satisfied", "message": ""}
    return {"addresses": [], **expected}


def agrees(seen: Seen, expected: dict[str, Any]) -> bool:
    for name, outcome in expected.items():
        wanted = outcome if name.startswith("pool ") else whole(outcome)
        if any(seen[name].get(field) != value for field, value in wanted.items()):
            return False
    return True


def seen_in(objects: dict[str, dict[str, Any]], expected: dict[str, Any]) -> Seen:
    """What objects tell of what is expected, as it is written in an expectation."""
    found: Seen = {}
    for name in expected:
        conditions = objects[name].get("status", {}).get("conditions", [])
        if name.startswith("pool "):
            found[name] = {one["type"].partition("/")[2]: one["message"] for one in conditions}
            continue
        of_ours = [one for one in conditions if one["type"] == "cilium.io/IPAMRequestSatisfied"]
        ingress = objects[name]["status"]["loadBalancer"].get("ingress", [])
        found[name] = {"addresses": [one["ip"] for one in ingress]}
        found[name] |= {field: of_ours[0][field] for field in ("reason", "message") if of_ours}
    return found


# --- in memory ---------------------------------------------------------------------------------------------


class Memory:
    """A rehearsal to which manifests are applied."""

    def __init__(self) -> None:
        self.made = Rehearsal(now=1000.0)
        self.made.begin({})

    def apply(self, manifest: dict[str, Any]) -> None:
        kind = cluster.kind_of(manifest)
        assert kind is not None, manifest
        form: Any = cluster.to_form(kind, manifest)
        metadata = form.metadata
        if kind.namespaced and not metadata.namespace:
            metadata = msgspec.structs.replace(metadata, namespace="here")
        known: Any = self.made.cache.objects(kind).get(Key(metadata.namespace, metadata.name))
        uid = known.metadata.uid if known else f"uid-{metadata.name}-{len(self.made.writes)}"
        form = msgspec.structs.replace(form, metadata=msgspec.structs.replace(metadata, uid=uid))
        if known and hasattr(form, "status"):
            form = msgspec.structs.replace(form, status=known.status)
        self.made.put(kind, form)
        self.made.settle()

    def delete(self, name: str) -> None:
        what, _, name = name.partition("/")
        kind = next(one for one in cluster.WORLD if what in (one.kind.lower(), *SHORT.get(one.kind, ())))
        self.made.remove(kind, Key("here" if kind.namespaced else "", name))
        self.made.settle()

    def seen(self, expected: dict[str, Any]) -> Seen:
        objects = {}
        for name in expected:
            pool = name.removeprefix("pool ")
            kind, key = (IP_POOL, Key("", pool)) if pool != name else (forms.SERVICE, Key("here", name))
            objects[name] = json.loads(msgspec.json.encode(self.made.cache.objects(kind)[key]))
        return seen_in(objects, expected)


SHORT = {"CiliumLoadBalancerIPPool": ("ippool",), "IPReservation": ("ipres",)}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_story_in_memory(file: Path) -> None:
    memory = Memory()
    for number, document in enumerate(documents(file, "here")):
        if "expect" in document:
            seen = memory.seen(document["expect"])
            assert agrees(seen, document["expect"]), f"document {number}: {seen}"
        elif "delete" in document:
            for name in document["delete"]:
                memory.delete(name)
        else:
            memory.apply(document)


# --- with kubectl and a controller -------------------------------------------------------------------------


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_story_on_a_cluster(file: Path, world: World) -> None:
    world.controller()
    for number, document in enumerate(documents(file, world.namespace)):
        if "expect" in document:
            expected = document["expect"]
            try:
                eventually(partial(holds, world, expected))
            except AssertionError:
                pytest.fail(f"document {number}: {ask(world, expected)}")
        elif "delete" in document:
            for name in document["delete"]:
                world.kubectl("delete", name)
        else:
            world.apply(json.dumps(document, default=str))


def holds(world: World, expected: dict[str, Any]) -> bool:
    return agrees(ask(world, expected), expected)


def ask(world: World, expected: dict[str, Any]) -> Seen:
    objects = {
        name: world.get("ippool", name.removeprefix("pool "))
        if name.startswith("pool ")
        else world.get("service", name)
        for name in expected
    }
    return seen_in(objects, expected)
