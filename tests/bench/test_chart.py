"""Does the chart show every line where it belongs?"""

from xml.etree import ElementTree

from bench import chart

_SVG = "{http://www.w3.org/2000/svg}"


def test_every_line_is_drawn_with_its_name_and_its_sizes() -> None:
    lines = {"allocate": [(1_000, 10.0), (50_000, 11.0)], "full & more": [(1_000, 8.0), (50_000, 8.0)]}
    picture = ElementTree.fromstring(chart.svg(lines))
    paths = [one for one in picture.iter(f"{_SVG}path") if one.get("class") == "line"]
    texts = [one.text for one in picture.iter(f"{_SVG}text")]
    assert len(paths) == 2
    assert {"allocate", "full & more", "1,000", "50,000"} <= set(texts)


def test_a_cost_that_does_not_grow_is_a_level_line() -> None:
    picture = ElementTree.fromstring(chart.svg({"full": [(1_000, 8.0), (10_000, 8.0), (50_000, 8.0)]}))
    (line,) = (one for one in picture.iter(f"{_SVG}path") if one.get("class") == "line")
    points = line.get("d", "").removeprefix("M").split("L")
    assert len(points) == 3
    assert len({point.split()[1] for point in points}) == 1
