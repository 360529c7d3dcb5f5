"""With which certificate does the server prove who it is?

A certificate authority of its own, made afresh at every start and kept only in memory; its certificate goes
into the kubeconfig.
"""

import base64
import ipaddress
import ssl
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_LIFETIME = timedelta(days=365)
_CLOCK_SKEW = timedelta(minutes=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The server's TLS context, and the authority that clients are to trust."""

    context: ssl.SSLContext
    ca_pem: str
    server_pem: str
    """The server's key and certificate."""

    @property
    def ca_data(self) -> str:
        """The authority's certificate as a kubeconfig holds it."""
        return base64.b64encode(self.ca_pem.encode()).decode()


def identity(host: str) -> Identity:
    """Make an authority and a certificate for `host`, `localhost` and the names that pods know the API by."""
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca = _certificate("lbipam-ca", ca_key, ca_key, "lbipam-ca", names=None)
    certificate = _certificate("lbipam", key, ca_key, "lbipam-ca", names=_names(host))
    ca_pem = ca.public_bytes(serialization.Encoding.PEM).decode()
    key_pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    server_pem = (key_pem + certificate.public_bytes(serialization.Encoding.PEM)).decode()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    with tempfile.TemporaryDirectory() as folder:  # ssl reads keys from files only
        path = Path(folder) / "server.pem"
        path.touch(mode=0o600)
        path.write_text(server_pem, encoding="utf-8")
        context.load_cert_chain(path)
    return Identity(context=context, ca_pem=ca_pem, server_pem=server_pem)


def _names(host: str) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = [
        x509.DNSName(name) for name in ("localhost", "kubernetes", "kubernetes.default.svc")
    ]
    addresses = {"127.0.0.1", "::1", "10.96.0.1"}
    try:
        ipaddress.ip_address(host)
    except ValueError:
        names.append(x509.DNSName(host))
    else:
        addresses.add(host)
    return [*names, *(x509.IPAddress(ipaddress.ip_address(each)) for each in sorted(addresses))]


def _certificate(
    subject: str,
    key: ec.EllipticCurvePrivateKey,
    issuer_key: ec.EllipticCurvePrivateKey,
    issuer: str,
    *,
    names: list[x509.GeneralName] | None,
) -> x509.Certificate:
    """A certificate; one for an authority when it has no names."""
    now = datetime.now(UTC)
    is_authority = names is None
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + _LIFETIME)
        .add_extension(
            x509.BasicConstraints(ca=is_authority, path_length=0 if is_authority else None), critical=True
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
        )
        .add_extension(_key_usage(is_authority=is_authority), critical=True)
    )
    if names is not None:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False).add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False
        )
    return builder.sign(issuer_key, hashes.SHA256())


def _key_usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        encipher_only=False,
        decipher_only=False,
    )
