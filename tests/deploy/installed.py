"""A real API server on which `deploy/` is installed, and which remembers who asked it for what."""

import contextlib
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tests.real_api import RealApi
from tests.worlds import KUBECTL, LBIPAM, World, eventually

DEPLOY = Path(__file__).parents[2] / "deploy"
NAMESPACE = "lbipam-system"

_AUDIT = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "Metadata", "userGroups": [f"system:serviceaccounts:{NAMESPACE}"]},
        {"level": "None"},
    ],
}


class Permission(NamedTuple):
    """One thing that a role lets its subjects do."""

    role: str
    verb: str
    resource: str
    """With its group and subresource, as `kubectl auth can-i` spells it."""


def rendered(folder: str = "") -> list[dict[str, Any]]:
    """The objects of a kustomization below `deploy/`."""
    done = subprocess.run(
        [KUBECTL, "kustomize", DEPLOY / folder], capture_output=True, text=True, timeout=60, check=True
    )
    return list(yaml.safe_load_all(done.stdout))


def one(objects: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    """The object of this kind and name."""
    (found,) = (each for each in objects if (each["kind"], each["metadata"]["name"]) == (kind, name))
    return found


def arguments(objects: list[dict[str, Any]], kind: str, name: str) -> list[str]:
    """What the container of a workload is started with, as the kubelet makes it."""
    (container,) = one(objects, kind, name)["spec"]["template"]["spec"]["containers"]
    return [word.replace("$(NAMESPACE)", NAMESPACE) for word in container["args"]]


@dataclass
class Installed:
    """A cluster with everything of `deploy/` but the processes."""

    world: World
    objects: list[dict[str, Any]]
    log: Path

    def kubeconfig(self, account: str) -> Path:
        """A kubeconfig with a token of a service account."""
        config = yaml.safe_load(self.world.kubeconfig.read_text())
        token = self.world.kubectl("create", "token", account, "--namespace", NAMESPACE).strip()
        config["users"][0]["user"] = {"token": token}
        config["contexts"][0]["context"]["namespace"] = NAMESPACE
        path = self.world.folder / f"{account}.kubeconfig"
        path.write_text(yaml.safe_dump(config))
        return path

    def granted(self, account: str) -> set[Permission]:
        """All that its roles let a service account do."""
        found: set[Permission] = set()
        for each in self.objects:
            if each["kind"] in ("ClusterRole", "Role") and each["metadata"]["name"] == account:
                for rule in each["rules"]:
                    (group,) = rule["apiGroups"]
                    found |= {
                        Permission(each["kind"], verb, _spelled(group, resource))
                        for resource in rule["resources"]
                        for verb in rule["verbs"]
                    }
        return found

    def used(self, account: str) -> set[Permission]:
        """What a service account has been let do, each by the role that let it.

        A server-side apply that creates needs leave for both.
        """
        found: set[Permission] = set()
        for request in self._requests(account):
            why = request["annotations"]["authorization.k8s.io/reason"]
            role = re.search(rf'of (ClusterRole|Role) "{account}', why)
            if role is not None:
                verbs = {request["verb"], "create"} if _has_created(request) else {request["verb"]}
                found |= {Permission(role[1], verb, _what(request)) for verb in verbs}
        return found

    def forbidden(self, account: str) -> list[str]:
        """What a service account has asked for in vain, for want of leave."""
        return [
            f"{request['verb']} {_what(request)}: {request['requestURI']}"
            for request in self._requests(account)
            if request["annotations"]["authorization.k8s.io/decision"] == "forbid"
        ]

    def _requests(self, account: str) -> Iterator[dict[str, Any]]:
        for line in self.log.read_text().splitlines(keepends=True):
            request = json.loads(line) if line.endswith("\n") else {"user": {"username": ""}}
            if request["user"]["username"] == f"system:serviceaccount:{NAMESPACE}:{account}":
                yield request

    def uses_all_that_it_may(self, account: str, *, stop: Callable[[], object]) -> None:
        """Wait until a service account has used every permission, and see that it lacked none.

        Its process is stopped meanwhile: the server notes a watch when it ends.
        """
        granted = self.granted(account)
        at_once = {each for each in granted if each.verb != "watch"}
        with contextlib.suppress(AssertionError):
            eventually(lambda: self.used(account) >= at_once)
            stop()
            eventually(lambda: self.used(account) >= granted)
        idle = granted - self.used(account)
        assert not idle, f"{account} does not need {sorted(idle)}"
        assert not self.forbidden(account), f"{account} needs {self.forbidden(account)}"


def _spelled(group: str, resource: str) -> str:
    name, slash, subresource = resource.partition("/")
    return f"{name}.{group}{slash}{subresource}" if group else resource


def _has_created(request: dict[str, Any]) -> bool:
    return bool(request.get("responseStatus", {}).get("code") == 201)


def _what(request: dict[str, Any]) -> str:
    asked = request.get("objectRef", {})
    subresource = f"/{asked['subresource']}" if "subresource" in asked else ""
    return _spelled(asked.get("apiGroup", ""), f"{asked.get('resource', '')}{subresource}")


@contextmanager
def installation(folder: Path, *, host: str = "127.0.0.1") -> Iterator[Installed]:
    """Install `deploy/` on a server of its own, as docs/operations.md says for one that is old."""
    policy, log = folder / "audit.yaml", folder / "audit.log"
    policy.write_text(yaml.safe_dump(_AUDIT))
    log.touch()
    flags = (f"--audit-policy-file={policy}", f"--audit-log-path={log}")
    with RealApi(host=host, api_flags=flags) as api:
        world = World("installed", api.kubeconfig, folder)
        crds = subprocess.run(
            [LBIPAM, "crds", "--without-cel"], capture_output=True, text=True, timeout=60, check=True
        ).stdout
        world.kubectl("apply", "-f", "-", stdin=crds)
        world.kubectl("wait", "--for=condition=established", "crd", "--all", "--timeout=30s")
        objects = [each for each in rendered("nftables") if each["kind"] != "CustomResourceDefinition"]
        world.kubectl("apply", "--namespace", NAMESPACE, "-f", "-", stdin=yaml.safe_dump_all(objects))
        try:
            yield Installed(world, objects, log)
        finally:
            for process in world.processes:
                process.stop()
