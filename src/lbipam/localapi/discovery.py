"""What does the server tell of the resources that it has?

Both forms: the aggregated discovery of newer clients (`apidiscovery.k8s.io/v2`) and the older lists of
groups, versions and resources. Schemas are told in `openapi`.
"""

from typing import Any

from lbipam.localapi.resources import Registry, Resource

_VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
_STATUS_VERBS = ["get", "patch", "update"]

REVIEWS = {
    "authorization.k8s.io": (
        ("selfsubjectaccessreviews", "SelfSubjectAccessReview"),
        ("selfsubjectrulesreviews", "SelfSubjectRulesReview"),
        ("subjectaccessreviews", "SubjectAccessReview"),
    ),
    "authentication.k8s.io": (("selfsubjectreviews", "SelfSubjectReview"),),
}
"""Resources that are answered rather than stored, by group."""


def _served(resource: Resource) -> list[str]:
    """The versions that are served, the most stable and newest first."""
    names = [version.name for version in resource.versions.values() if version.served]
    return sorted(names, key=stability, reverse=True)


def stability(version: str) -> tuple[int, int, int]:
    """How Kubernetes orders versions: stable before beta before alpha, then by number."""
    number, _, rest = version.removeprefix("v").partition("alpha")
    rank, below = 0, rest
    if not rest:
        number, _, below = number.partition("beta")
        rank = 1 if below else 2
    return rank, int(number) if number.isdecimal() else 0, int(below) if below.isdecimal() else 0


def group_versions(registry: Registry) -> dict[str, list[str]]:
    """The versions of each group, preferred first; the core group is the empty name."""
    groups: dict[str, set[str]] = {group: {"v1"} for group in REVIEWS}
    for group, resources in registry.groups().items():
        groups.setdefault(group, set()).update(name for each in resources for name in _served(each))
    return {group: sorted(names, key=stability, reverse=True) for group, names in groups.items()}


def aggregated(registry: Registry, *, core: bool) -> dict[str, Any]:
    """The `APIGroupDiscoveryList` of the core group or of all others."""
    items = [
        {
            "metadata": {"name": group, "creationTimestamp": None},
            "versions": [
                {
                    "version": version,
                    "freshness": "Current",
                    "resources": _discovered(registry, group, version),
                }
                for version in versions
            ],
        }
        for group, versions in group_versions(registry).items()
        if (not group) is core
    ]
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": items,
    }


def _discovered(registry: Registry, group: str, version: str) -> list[dict[str, Any]]:
    told = []
    for resource in registry.groups().get(group, ()):
        if version not in _served(resource):
            continue
        kind = {"group": group, "version": version, "kind": resource.kind}
        item: dict[str, Any] = {
            "resource": resource.plural,
            "responseKind": kind,
            "scope": "Namespaced" if resource.namespaced else "Cluster",
            "singularResource": resource.singular,
            "verbs": _verbs(resource),
            **_other_names(resource),
        }
        if resource.has_status:
            item["subresources"] = [{"subresource": "status", "responseKind": kind, "verbs": _STATUS_VERBS}]
        told.append(item)
    for plural, kind_name in REVIEWS.get(group, ()):
        kind = {"group": group, "version": version, "kind": kind_name}
        told.append(
            {
                "resource": plural,
                "responseKind": kind,
                "scope": "Cluster",
                "singularResource": kind_name.lower(),
                "verbs": ["create"],
            }
        )
    return told


def _verbs(resource: Resource) -> list[str]:
    return _VERBS if resource.deletes_many else [verb for verb in _VERBS if verb != "deletecollection"]


def _other_names(resource: Resource) -> dict[str, list[str]]:
    """Short names and categories, where there are any."""
    names = {"shortNames": list(resource.short_names), "categories": list(resource.categories)}
    return {field: each for field, each in names.items() if each}


def core_versions(address: str) -> dict[str, Any]:
    """The answer to `/api` in the older form."""
    return {
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
    }


def group_list(registry: Registry) -> dict[str, Any]:
    """The answer to `/apis` in the older form."""
    groups = [group(registry, name) for name in group_versions(registry) if name]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def group(registry: Registry, name: str) -> dict[str, Any] | None:
    """The answer to `/apis/NAME`, or `None` when there is no such group."""
    versions = group_versions(registry).get(name)
    if not versions:
        return None
    told = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {
        "kind": "APIGroup",
        "apiVersion": "v1",
        "name": name,
        "versions": told,
        "preferredVersion": told[0],
    }


def resource_list(registry: Registry, group_name: str, version: str) -> dict[str, Any] | None:
    """The resources of one version of a group in the older form, or `None` when it is not served."""
    if version not in group_versions(registry).get(group_name, ()):
        return None
    told = []
    for resource in registry.groups().get(group_name, ()):
        if version not in _served(resource):
            continue
        item: dict[str, Any] = {
            "name": resource.plural,
            "singularName": resource.singular,
            "namespaced": resource.namespaced,
            "kind": resource.kind,
            "verbs": _verbs(resource),
            **_other_names(resource),
        }
        told.append(item)
        if resource.has_status:
            told.append(
                {
                    "name": f"{resource.plural}/status",
                    "singularName": "",
                    "namespaced": resource.namespaced,
                    "kind": resource.kind,
                    "verbs": _STATUS_VERBS,
                }
            )
    for plural, kind in REVIEWS.get(group_name, ()):
        told.append(
            {
                "name": plural,
                "singularName": kind.lower(),
                "namespaced": False,
                "kind": kind,
                "verbs": ["create"],
            }
        )
    api_version = f"{group_name}/{version}" if group_name else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": api_version, "resources": told}
