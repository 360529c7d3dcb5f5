"""What goes along when a Namespace, a CustomResourceDefinition or a Service is deleted?

The contents of a Namespace, the objects of a CRD, and a Service's Endpoints. The first two stay, marked as
going, until the last of what they hold is gone; objects with finalizers are waited for. In a cluster,
controllers do this.
"""

import asyncio

from lbipam.localapi import crds
from lbipam.localapi.api import Api
from lbipam.localapi.resources import Object, Resource
from lbipam.localapi.store import Key


class Removals:
    """Namespaces and CRDs that are going."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._namespaces: set[str] = set()
        self._definitions: dict[tuple[str, str], str] = {}
        """Group and plural name of the resource to the name of its CRD."""

    def namespace_changed(self, new: Object | None, _old: Object | None) -> None:
        """A Namespace was written or is gone (`None`)."""
        if new is not None and "deletionTimestamp" in new["metadata"]:
            name = new["metadata"]["name"]
            if name not in self._namespaces:
                self._namespaces.add(name)
                asyncio.get_running_loop().call_soon(self._empty_namespace, name)

    def definition_changed(self, new: Object | None, old: Object | None) -> None:
        """A CRD was written or is gone (`None`)."""
        registry = self._api.registry
        if new is None:
            assert old is not None, "what is gone was there"
            group, plural = old["spec"]["group"], old["spec"]["names"]["plural"]
            registry.remove(group, plural)
            self._api.store.drop(group, plural)
            return
        group, plural = new["spec"]["group"], new["spec"]["names"]["plural"]
        if "deletionTimestamp" in new["metadata"]:
            if (group, plural) not in self._definitions:
                self._definitions[(group, plural)] = new["metadata"]["name"]
                asyncio.get_running_loop().call_soon(self._empty_definition, group, plural)
        elif crds.is_established(new):
            registry.add(crds.resource_of(new))

    def removed(self, resource: Resource, key: Key) -> None:
        """An object is gone."""
        if not resource.group and resource.plural == "services":
            endpoints = self._api.registry.find("", "endpoints")
            assert endpoints is not None, "Endpoints are built in"
            if key in self._api.collection(endpoints).objects:
                self._api.delete(endpoints, key, {}, dry_run=False)
        if key.namespace in self._namespaces:
            self._finish_namespace(key.namespace)
        if (resource.group, resource.plural) in self._definitions:
            self._finish_definition(resource.group, resource.plural)

    def _empty_namespace(self, name: str) -> None:
        for resource in [each for each in self._api.registry if each.namespaced]:
            for stored in list(self._api.collection(resource).in_namespace(name)):
                if stored.key in self._api.collection(resource).objects:
                    self._api.delete(resource, stored.key, {}, dry_run=False)
        self._finish_namespace(name)

    def _finish_namespace(self, name: str) -> None:
        if name not in self._namespaces:
            return
        namespaced = (each for each in self._api.registry if each.namespaced)
        if any(next(self._api.collection(each).in_namespace(name), None) for each in namespaced):
            return
        self._namespaces.discard(name)
        self._api.release("", "namespaces", Key("", name), "kubernetes")

    def _empty_definition(self, group: str, plural: str) -> None:
        resource = self._api.registry.find(group, plural)
        if resource is not None:
            for stored in list(self._api.collection(resource).objects.values()):
                self._api.delete(resource, stored.key, {}, dry_run=False)
        self._finish_definition(group, plural)

    def _finish_definition(self, group: str, plural: str) -> None:
        if (group, plural) in self._definitions and not self._api.store.collection(group, plural).objects:
            name = self._definitions.pop((group, plural))
            self._api.release(crds.GROUP, crds.PLURAL, Key("", name), crds.CLEANUP)
