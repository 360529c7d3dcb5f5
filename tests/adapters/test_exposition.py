"""What Prometheus reads of samples; its own library reads the same of them, and writes the same."""

from math import inf

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from lbipam.adapters.exposition import Samples
from lbipam.adapters.metrics import Metrics
from lbipam.controllers.ports import Sample, SampleType

TEXTS = st.text(st.characters(codec="utf-8"), max_size=8)
SAMPLES = st.builds(
    Sample,
    name=st.sampled_from(["lbipam_a", "lbipam_b"]),
    help=st.just('Says "a\\nb", as \\ does.\nAnd more.'),
    value=st.floats(allow_nan=False),
    labels=st.builds(lambda one, other: {"one": one, "other": other}, TEXTS, TEXTS),
    type=st.just(SampleType.GAUGE),
)


def read(text: bytes) -> dict[str, tuple[str, str, list[tuple[str, dict[str, str], float]]]]:
    """Families by name: type, help, samples."""
    return {
        one.name: (
            one.type,
            one.documentation,
            [(each.name, each.labels, each.value) for each in one.samples],
        )
        for one in text_string_to_metric_families(text.decode())
    }


@given(st.lists(SAMPLES, max_size=6))
def test_prometheus_reads_what_its_own_library_would_have_written(samples: list[Sample]) -> None:
    theirs = read(Metrics(lambda: samples).render())
    ours = read(Samples(lambda: samples).render())
    assert ours == {name: told for name, told in theirs.items() if name in {one.name for one in samples}}


def test_counters_and_samples_without_labels() -> None:
    samples = [
        Sample(name="lbipam_breaks", help="How often.", value=3, type=SampleType.COUNTER),
        Sample(name="lbipam_left", help="How much.", value=inf),
    ]
    ours = Samples(lambda: samples).render()
    assert ours == (
        b"# HELP lbipam_breaks_total How often.\n# TYPE lbipam_breaks_total counter\nlbipam_breaks_total 3.0\n"
        b"# HELP lbipam_left How much.\n# TYPE lbipam_left gauge\nlbipam_left inf\n"
    )
    assert read(ours)["lbipam_breaks"] == ("counter", "How often.", [("lbipam_breaks_total", {}, 3.0)])
