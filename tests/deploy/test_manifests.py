"""The manifests of `deploy/` and the Dockerfile agree with the program, and API servers take them."""

import re
import tomllib
from typing import Any

import pytest
import typer.main
import yaml

from lbipam.commands.cli import app
from lbipam.kube.crds import catalog
from tests.deploy.installed import DEPLOY, NAMESPACE, arguments, one, rendered
from tests.worlds import World

OVERLAYS = ["", "nftables"]
WORKLOADS = [("Deployment", "lbipam-controller"), ("DaemonSet", "lbipam-agent")]


def container(objects: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = one(objects, kind, name)["spec"]["template"]["spec"]["containers"][0]
    return found


def test_the_definitions_are_those_that_the_program_prints() -> None:
    written = (DEPLOY / "base" / "crds.yaml").read_text()
    assert list(yaml.safe_load_all(written)) == list(catalog.all_crds()), "run 'make docs'"


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize(("kind", "name"), WORKLOADS)
def test_the_program_understands_its_arguments(
    overlay: str, kind: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = rendered(overlay)
    for variable in container(objects, kind, name)["env"]:
        monkeypatch.setenv(variable["name"], "worker-1")
    command, *flags = arguments(objects, kind, name)
    group: Any = typer.main.get_command(app)
    context = group.commands[command].make_context(command, flags)
    port = container(objects, kind, name)["ports"][0]["containerPort"]
    assert context.params["metrics_bind"] == f":{port}"
    assert context.params["bgp_secrets_namespace"] == NAMESPACE


def test_agents_that_carry_traffic_need_no_cluster_ip_to_begin_with() -> None:
    agent = container(rendered("nftables"), *WORKLOADS[1])
    assert agent["envFrom"] == [{"configMapRef": {"name": "lbipam-api-server", "optional": True}}]


def test_only_the_overlay_carries_traffic() -> None:
    told = [arguments(rendered(overlay), *WORKLOADS[1]) for overlay in OVERLAYS]
    assert told[1] == [*told[0], "--datapath=nftables"]


def test_a_server_that_knows_cel_takes_the_definitions(embedded_cluster: World) -> None:
    printed = embedded_cluster.kubectl(
        "apply", "--dry-run=server", "-f", "-", stdin=(DEPLOY / "base" / "crds.yaml").read_text()
    )
    assert len(printed.splitlines()) == len(catalog.all_crds())


@pytest.mark.parametrize("example", sorted(path.name for path in (DEPLOY / "examples").iterdir()))
def test_servers_take_the_examples_as_they_are(embedded_cluster: World, example: str) -> None:
    path = DEPLOY / "examples" / example
    printed = embedded_cluster.kubectl("apply", "--dry-run=server", "-f", str(path))
    assert len(printed.splitlines()) == len(list(yaml.safe_load_all(path.read_text())))


@pytest.mark.real_api
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_real_api_server_takes_the_manifests(real_cluster: World, overlay: str) -> None:
    objects = [each for each in rendered(overlay) if each["kind"] != "CustomResourceDefinition"]
    with real_cluster.clean():
        (namespace,) = (each for each in objects if each["kind"] == "Namespace")
        real_cluster.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(namespace))
        printed = real_cluster.kubectl(
            "apply", "--dry-run=server", "-n", NAMESPACE, "-f", "-", stdin=yaml.safe_dump_all(objects)
        )
        assert len(printed.splitlines()) == len(objects)


def test_all_that_the_image_is_made_of_exists() -> None:
    root = DEPLOY.parent
    dockerfile = (root / "Dockerfile").read_text()
    project = tomllib.loads((root / "pyproject.toml").read_text())
    copied = [
        word for line in re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile, re.M) for word in line.split()
    ]
    assert {"pyproject.toml", "uv.lock", "src"} <= set(copied)
    for word in copied:
        assert (root / word).exists(), word
        assert f"!{word}" in (root / ".dockerignore").read_text().split(), f"{word} is ignored"
    entry = re.search(r'^ENTRYPOINT \["[^"]+/bin/([\w-]+)"\]$', dockerfile, re.M)
    assert entry is not None
    assert entry[1] in project["project"]["scripts"]
    for kind, name in WORKLOADS:
        assert container(rendered(), kind, name)["image"] == f"lbipam:{project['project']['version']}"
