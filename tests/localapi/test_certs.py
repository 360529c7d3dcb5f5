import ssl

import pytest
from cryptography import x509

from lbipam.localapi import certs


def test_the_authority_is_new_each_time() -> None:
    assert certs.identity("127.0.0.1").ca_pem != certs.identity("127.0.0.1").ca_pem


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "api.example"])
def test_clients_that_trust_the_authority_trust_the_server(host: str) -> None:
    identity = certs.identity(host)
    client = ssl.create_default_context(cadata=identity.ca_pem)
    ours, theirs = ssl.MemoryBIO(), ssl.MemoryBIO()
    server_side = identity.context.wrap_bio(theirs, ours, server_side=True)
    client_side = client.wrap_bio(ours, theirs, server_hostname=host)
    for side in (client_side, server_side, client_side, server_side):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    assert client_side.version() == "TLSv1.3"
    der = client_side.getpeercert(binary_form=True)
    assert der is not None
    names = x509.load_der_x509_certificate(der).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert "localhost" in names.value.get_values_for_type(x509.DNSName)
