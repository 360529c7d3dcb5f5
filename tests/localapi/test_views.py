import pytest

from lbipam.localapi import views
from lbipam.localapi.refusals import ApiError
from lbipam.localapi.views import Form
from tests.localapi.conftest import SERVICES, Client


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", Form.WHOLE),
        ("*/*", Form.WHOLE),
        ("application/json", Form.WHOLE),
        ("application/vnd.kubernetes.protobuf,application/json", Form.WHOLE),
        ("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", Form.TABLE),
        ("application/json; as=PartialObjectMetadata; g=meta.k8s.io; v=v1", Form.METADATA),
        ("application/json;as=Odd,application/json", Form.WHOLE),
    ],
)
def test_the_first_form_that_can_be_given_is(accept: str, form: Form) -> None:
    assert views.form_of(accept) is form


def test_a_form_that_cannot_be_given_is_refused() -> None:
    with pytest.raises(ApiError) as refused:
        views.form_of("application/vnd.kubernetes.protobuf")
    assert refused.value.code == 406


async def test_metadata_alone_can_be_asked_for(client: Client) -> None:
    partial = {"Accept": "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"}
    found = await client.get(SERVICES, **partial)
    assert (found["kind"], set(found["items"][0])) == (
        "PartialObjectMetadataList",
        {"kind", "apiVersion", "metadata"},
    )
    code, _ = await client.ask("GET", SERVICES, Accept="application/vnd.kubernetes.protobuf")
    assert code == 406
