"""A cluster whose Services have their addresses from another controller: what docs/operations.md promises."""

import json

from tests.worlds import World, eventually

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
