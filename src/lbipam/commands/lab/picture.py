"""What does the lab look like?

    python -m lbipam.commands.lab.picture > docs/topology.svg

Draws the hosts and wires with the addresses that `topology` gives them. This file measures no text: its boxes
are wide enough.
"""

from dataclasses import dataclass
from xml.sax.saxutils import escape

from lbipam.commands.lab.topology import (
    CLIENT,
    CONTROL_PLANE,
    NODE_ASN,
    PODS,
    ROUTER,
    ROUTER_ASN,
    WORKERS,
)

_WIDTH, _HEIGHT = 960, 380
_BOX_WIDTH, _LINE, _PAD = 210, 19, 14


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A host: its name, and what is to be known of it, at the place of its upper left corner."""

    x: int
    y: int
    name: str
    lines: tuple[str, ...]

    @property
    def height(self) -> int:
        return 2 * _PAD + _LINE * (len(self.lines) + 1)

    @property
    def middle(self) -> int:
        """Of its height."""
        return self.y + self.height // 2

    @property
    def right(self) -> int:
        return self.x + _BOX_WIDTH


def boxes() -> dict[str, Box]:
    """The hosts by name."""
    found = [
        Box(x=20, y=150, name="client", lines=(CLIENT, "curl 30.0.10.0:8080")),
        Box(
            x=260, y=140, name="router (FRR)", lines=(ROUTER, f"AS {ROUTER_ASN}, ECMP", "30.0.10.0/32 by BGP")
        ),
        Box(x=500, y=20, name="control plane", lines=(CONTROL_PLANE, "API, lbipam controller")),
    ]
    for number, (pod, worker) in enumerate(zip(PODS, WORKERS, strict=True)):
        y = 140 + 120 * number
        agent = (worker, f"lbipam agent, AS {NODE_ASN}", "BGP, BFD, nftables")
        found.append(Box(x=500, y=y, name=pod.node, lines=agent))
        found.append(Box(x=740, y=y + _LINE // 2, name=pod.name, lines=(pod.address, "HTTP on port 80")))
    return {one.name: one for one in found}


def _drawn(box: Box) -> str:
    text = [f'<text class="name" x="{box.x + _PAD}" y="{box.y + _PAD + 14}">{escape(box.name)}</text>']
    for number, line in enumerate(box.lines, start=1):
        y = box.y + _PAD + 14 + _LINE * number
        text.append(f'<text x="{box.x + _PAD}" y="{y}">{escape(line)}</text>')
    frame = f'<rect x="{box.x}" y="{box.y}" width="{_BOX_WIDTH}" height="{box.height}" rx="8"/>'
    return "\n".join([frame, *text])


def _wire(one: Box, other: Box) -> str:
    """From the right of one box to the left of the other, with one upright part between them."""
    turn = (one.right + other.x) // 2
    return f'<path d="M{one.right} {one.middle} H{turn} V{other.middle} H{other.x}"/>'


def svg() -> str:
    """The picture, readable on light and on dark grounds."""
    found = boxes()
    router, pairs = found["router (FRR)"], [(found[pod.node], found[pod.name]) for pod in PODS]
    lan = [found["control plane"], *(worker for worker, _ in pairs)]
    wires = [_wire(found["client"], router), *(_wire(router, host) for host in lan)]
    wires += [_wire(worker, pod) for worker, pod in pairs]
    style = (
        "rect{fill:#f6f8fa;stroke:#57606a;stroke-width:1.5}path{fill:none;stroke:#57606a;stroke-width:2}"
        "text{font:13px sans-serif;fill:#24292f}.name{font-weight:bold;font-size:15px}"
    )
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">'
    title = "<title>The lab: a client, a router, a control plane and two workers with a pod each</title>"
    ground = f'<path d="M0 0H{_WIDTH}V{_HEIGHT}H0Z" style="fill:#fff;stroke:none"/>'
    parts = [head, title, f"<style>{style}</style>", ground, *wires, *map(_drawn, found.values()), "</svg>"]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    print(svg(), end="")
