"""How does the cost of a decision grow with the number of Services? A picture, as SVG."""

import math
from collections.abc import Mapping, Sequence
from html import escape

_WIDTH, _HEIGHT = 760, 380
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 150, 30, 50
_STYLE = "text{font:13px sans-serif;fill:#24292f}.grid{stroke:#d0d7de}.line{fill:none;stroke-width:2.5}"
_COLOURS = ("#0969da", "#1a7f37", "#cf222e", "#8250df", "#9a6700", "#57606a")


def svg(lines: Mapping[str, Sequence[tuple[int, float]]]) -> str:
    """Lines of microseconds over numbers of Services; the numbers on a logarithmic axis."""
    sizes = sorted({size for line in lines.values() for size, _ in line})
    most = 5 * math.ceil(max(value for line in lines.values() for _, value in line) / 5)

    def x(size: int) -> float:
        span = math.log(sizes[-1] / sizes[0]) or 1.0
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * math.log(size / sizes[0]) / span

    def y(value: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * value / most

    right = _WIDTH - _RIGHT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">',
        "<title>CPU per decision over the number of Services already placed</title>",
        f"<style>{_STYLE}</style>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
        f'<text x="{_LEFT - 50}" y="{_TOP - 10}">µs of CPU per operation</text>',
        f'<text x="{right - 150}" y="{_HEIGHT - 10}">Services already placed</text>',
    ]
    for value in range(0, most + 1, 5):
        parts.append(f'<path class="grid" d="M{_LEFT} {y(value):.1f}H{right}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{value}</text>')
    parts += [
        f'<text x="{x(size):.1f}" y="{_HEIGHT - 30}" text-anchor="middle">{size:,}</text>' for size in sizes
    ]
    ends: list[float] = []
    for colour, (name, line) in zip(_COLOURS, _from_above(lines), strict=False):
        path = "L".join(f"{x(size):.1f} {y(value):.1f}" for size, value in line)
        parts.append(f'<path class="line" stroke="{colour}" d="M{path}"/>')
        # Names of lines that end close to one another are moved apart.
        end = max(y(line[-1][1]) + 4, ends[-1] + 16 if ends else 0)
        ends.append(end)
        parts.append(f'<text x="{right + 8}" y="{end:.1f}" style="fill:{colour}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _from_above(
    lines: Mapping[str, Sequence[tuple[int, float]]],
) -> list[tuple[str, Sequence[tuple[int, float]]]]:
    return sorted(lines.items(), key=lambda item: -item[1][-1][1])
