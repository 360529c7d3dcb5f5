"""A cluster whose Services have their addresses from another controller: what docs/operations.md promises."""

import json
from collections.abc import Mapping

from tests.worlds import World, eventually, service

POOL = """
apiVersion: cilium.io/v2
kind: CiliumLoadBalancerIPPool
metadata: {name: main}
spec: {blocks: [{cidr: 10.0.0.0/24}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: LoadBalancer, ports: [{port: 80}]}
"""


def write_list(world: World, balancer: object, *arguments: str) -> None:
    patch = json.dumps({"status": {"loadBalancer": balancer}})
    world.kubectl(
        "patch", "service", "web", "--subresource=status", "--type=merge", "--patch", patch, *arguments
    )


def test_services_and_pools_that_cilium_wrote_to_are_served(world: World) -> None:
    def by_cilium(resource: str, name: str, shown: Mapping[str, object], **condition: str) -> None:
        told = {
            "lastTransitionTime": "2026-01-01T00:00:00Z",
            "reason": "noreason",
            "message": "",
            **condition,
        }
        whole = [{"op": "add", "path": "/status", "value": {**shown, "conditions": [told]}}]
        words = ("--subresource=status", "--type=json", "--field-manager=cilium-operator-lb-ipam")
        world.kubectl("patch", resource, name, *words, "--patch", json.dumps(whole))

    world.apply(POOL)
    world.apply(service("waits"))
    satisfied = "cilium.io/IPAMRequestSatisfied"
    given = {"loadBalancer": {"ingress": [{"ip": "10.0.0.9"}]}}
    by_cilium("service", "web", given, type=satisfied, status="True", reason="satisfied")
    by_cilium("service", "waits", {}, type=satisfied, status="False", reason="no_pool")
    by_cilium("ippool", "main", {}, type="cilium.io/IPsUsed", status="Unknown", message="1")
    world.controller()
    eventually(lambda: world.condition("waits")[1] == "satisfied")
    assert world.addresses("waits") == ["10.0.0.0"]
    assert world.addresses("web") == ["10.0.0.9"]

    def used() -> list[str]:
        found = world.get("ippool", "main")["status"]["conditions"]
        return [one["message"] for one in found if one["type"] == "cilium.io/IPsUsed"]

    eventually(lambda: used() == ["2"])


def test_services_keep_what_another_controller_gave_and_are_handed_over(world: World) -> None:
    world.apply(POOL)
    write_list(world, {"ingress": [{"ip": "10.0.0.9"}]}, "--field-manager=controller")
    world.controller()
    eventually(lambda: world.condition("web")[1] == "satisfied")
    assert world.addresses("web") == ["10.0.0.9"]

    world.kubectl("annotate", "service", "web", "lbipam.cilium.io/ips=10.0.0.15")
    eventually(lambda: world.condition("web")[1] == "managed_elsewhere")
    assert world.addresses("web") == ["10.0.0.9"]
    world.kubectl("annotate", "service", "web", "lbipam.cilium.io/ips-")

    write_list(world, None)
    eventually(lambda: world.condition("web")[1] == "satisfied")
    eventually(lambda: world.addresses("web") == ["10.0.0.9"])
    world.kubectl("annotate", "service", "web", "lbipam.cilium.io/ips=10.0.0.15")
    eventually(lambda: world.addresses("web") == ["10.0.0.15"])
