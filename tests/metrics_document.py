"""What does docs/metrics.md tell of a process, and what does the process show beyond that?"""

import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

DOCUMENT = Path(__file__).parent.parent / "docs" / "metrics.md"
MEND = "docs/metrics.md is made from the source: run 'make docs'"

_ROW = re.compile(r"^\| `(?P<name>\w+)` \| (?P<type>\w+) \| (?P<labels>[^|]*) \|", re.MULTILINE)


def told(process: str) -> set[tuple[str, str, frozenset[str]]]:
    """Name, type and labels of every metric of `controller` or `agent`."""
    (section,) = re.findall(rf"^## The {process}\n(.*?)^## ", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    return {
        (row["name"], row["type"], frozenset(re.findall(r"\w+", row["labels"])))
        for row in _ROW.finditer(section)
    }


def shown(exposition: str) -> set[tuple[str, str, frozenset[str]]]:
    """The same of what `/metrics` answered; of a family without a sample nobody can tell the labels."""
    found: set[tuple[str, str, frozenset[str]]] = set()
    for family in text_string_to_metric_families(exposition):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        for sample in family.samples:
            if not sample.name.endswith("_created"):
                found.add((name, family.type, frozenset(sample.labels) - {"le"}))
    return found
