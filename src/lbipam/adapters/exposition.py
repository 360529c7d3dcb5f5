"""How are samples written, so that Prometheus reads them?

The text format, version 0.0.4, for gauges and counters. A process that counts nothing in histograms need not hold
the library of Prometheus in memory, which takes along servers and parsers. This file counts nothing.
"""

from collections.abc import Callable, Iterable

from lbipam.controllers.ports import Sample, SampleType

_SUFFIXES = {SampleType.GAUGE: "", SampleType.COUNTER: "_total"}
_IN_HELP = str.maketrans({"\\": "\\\\", "\n": "\\n"})
_IN_LABEL = {**_IN_HELP, ord('"'): '\\"'}


class Samples:
    """What is counted elsewhere: asked for at each scrape, so that there is no second copy to go stale."""

    content_type = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(self, collect: Callable[[], Iterable[Sample]]) -> None:
        self._collect = collect

    def render(self) -> bytes:
        """The text of `/metrics`."""
        families: dict[str, list[str]] = {}
        for sample in self._collect():
            name = f"{sample.name}{_SUFFIXES[sample.type]}"
            lines = families.get(name)
            if lines is None:
                help_ = sample.help.translate(_IN_HELP)
                lines = families[name] = [f"# HELP {name} {help_}", f"# TYPE {name} {sample.type.value}"]
            lines.append(f"{name}{_labels(sample)} {float(sample.value)!r}")
        return "".join(f"{line}\n" for lines in families.values() for line in lines).encode()


def _labels(sample: Sample) -> str:
    pairs = (f'{name}="{value.translate(_IN_LABEL)}"' for name, value in sample.labels.items())
    return f"{{{','.join(pairs)}}}" if sample.labels else ""
