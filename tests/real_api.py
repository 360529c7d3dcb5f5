"""A real Kubernetes API server with its etcd, on loopback, for tests and benchmarks.

The binaries lie in the folder that `KUBEBUILDER_ASSETS` names, as for every project that uses envtest. A test
may kill, stop and restart the server. This file sends no requests but for readiness.
"""

import contextlib
import datetime
import ipaddress
import os
import random
import re
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_USUAL_PLACE = Path.home() / ".cache" / "envtest" / "bin"
_TOKEN = "a-token-for-tests"
_READY_SECONDS = 120.0
_SERVER_PORTS = (20_000, 32_000)
"""Below what `net.ipv4.ip_local_port_range` is by default."""

# Lives as long as its standard input: when the test process dies, however it dies, so do the servers.
_WATCHMAN = 'cat >/dev/null; for p in "$1"/*.pid; do [ -f "$p" ] && kill -9 $(cat "$p"); done; rm -rf "$1"'

WHY_NOT = "needs a real API server: set KUBEBUILDER_ASSETS to a folder with etcd and kube-apiserver"


def assets() -> Path | None:
    """Where the binaries are; None if they are not at hand."""
    named = os.environ.get("KUBEBUILDER_ASSETS")
    folder = Path(named) if named else _USUAL_PLACE
    needed = ("etcd", "kube-apiserver")
    return folder if all((folder / name).exists() for name in needed) else None


class RealApi:
    """One etcd and one kube-apiserver; a context manager.

    Args:
        host: The address of ours that the API server listens on.
        service_cidrs: The ranges of cluster IPs.
        feature_gates: Of kube-apiserver.
        etcd_flags: More flags for etcd, such as `--quota-backend-bytes`.
        api_flags: More flags for kube-apiserver.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        service_cidrs: str = "10.96.0.0/16,fd00:96::/108",
        feature_gates: str = "IPv6DualStack=true",
        etcd_flags: Sequence[str] = (),
        api_flags: Sequence[str] = (),
    ) -> None:
        found = assets()
        assert found is not None, WHY_NOT
        self._assets = found
        self._host = host
        self._service_cidrs, self._feature_gates = service_cidrs, feature_gates
        self._etcd_flags, self._api_flags = etcd_flags, api_flags
        self._etcd: subprocess.Popen[bytes] | None = None
        self._api: subprocess.Popen[bytes] | None = None
        self.token = _TOKEN
        """The bearer token of a member of `system:masters`."""

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix=f"real-api-{os.getpid()}-"))
        self._watchman = subprocess.Popen(
            ["/bin/sh", "-c", _WATCHMAN, "watchman", str(self._folder)],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            self._etcd_port, self._peer_port, self._port = free_ports(3)
            self.url = f"https://{self._host}:{self._port}"
            self._write_files()
            self._start_etcd()
            self.start()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._remove()

    @property
    def pid(self) -> int:
        """The API server's process."""
        assert self._api is not None, "the API server does not run"
        return self._api.pid

    @property
    def pids(self) -> tuple[int, int]:
        """The processes of the API server and its etcd."""
        assert self._etcd is not None, "etcd does not run"
        return self.pid, self._etcd.pid

    @property
    def ca_pem(self) -> bytes:
        """The certificate of the authority that issued the server's certificate."""
        return self.ca_file.read_bytes()

    # --- faults ------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the API server, on the port it had before, and wait until it is ready."""
        assert self._api is None, "the API server runs already"
        self._api = self._run(
            "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{self._etcd_port}",
            f"--bind-address={self._host}",
            f"--secure-port={self._port}",
            "--insecure-port=0",
            f"--cert-dir={self._folder}",
            f"--tls-cert-file={self._folder / 'server.crt'}",
            f"--tls-private-key-file={self._folder / 'server.key'}",
            f"--client-ca-file={self.ca_file}",
            f"--service-account-key-file={self._folder / 'sa.key'}",
            f"--service-account-signing-key-file={self._folder / 'sa.key'}",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--api-audiences=api",
            f"--token-auth-file={self._folder / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            f"--service-cluster-ip-range={self._service_cidrs}",
            f"--feature-gates={self._feature_gates}",
            "--disable-admission-plugins=ServiceAccount",
            *self._api_flags,
        )
        self._wait_until_ready()

    def kill(self) -> None:
        """End the API server at once, as `kill -9` does; etcd keeps what it has."""
        if self._api is not None:
            self._api.kill()
            self._api.wait()
            self._api = None
            (self._folder / "kube-apiserver.pid").unlink()

    def restart(self) -> None:
        """Kill the API server, start it again and wait until it is ready."""
        self.kill()
        self.start()

    def pause(self) -> None:
        """Let the API server hang (SIGSTOP): connections stay open and nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let the API server go on (SIGCONT)."""
        os.kill(self.pid, signal.SIGCONT)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """The API server hangs inside of the block."""
        self.pause()
        try:
            yield
        finally:
            self.resume()

    def ensure_ready(self) -> None:
        """Undo whatever fault is left over."""
        if self._api is None or self._api.poll() is not None:
            self.restart()
        else:
            self.resume()
            self._wait_until_ready()

    # --- files and processes -----------------------------------------------------------------------------

    def _run(self, program: str, *flags: str) -> subprocess.Popen[bytes]:
        with (self._folder / f"{program}.log").open("ab") as log:
            process = subprocess.Popen(
                [self._assets / program, *flags],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        (self._folder / f"{program}.pid").write_text(str(process.pid))
        return process

    def _start_etcd(self) -> None:
        client, peer = f"http://127.0.0.1:{self._etcd_port}", f"http://127.0.0.1:{self._peer_port}"
        self._etcd = self._run(
            "etcd",
            f"--data-dir={self._folder / 'etcd'}",
            "--unsafe-no-fsync",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            *self._etcd_flags,
        )

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        while time.monotonic() < deadline and self._api is not None and self._api.poll() is None:
            if self._is_ready():
                return
            time.sleep(0.1)
        log = (self._folder / "kube-apiserver.log").read_text(errors="replace")
        crashes = [line for line in log.splitlines() if re.match(r"F\d{4} |panic: |fatal error: ", line)]
        raise AssertionError("\n".join(("kube-apiserver is not ready:", *crashes[-3:], log[-2000:])))

    def _is_ready(self) -> bool:
        return all(self._answers(path) for path in ("/readyz", "/api/v1/namespaces/default"))

    def _answers(self, path: str) -> bool:
        context = ssl.create_default_context(cafile=str(self.ca_file))
        request = urllib.request.Request(self.url + path, headers={"Authorization": f"Bearer {self.token}"})
        try:
            with urllib.request.urlopen(request, context=context, timeout=2):
                return True
        except urllib.error.HTTPError as refusal:
            refusal.close()
            return False
        except OSError:
            return False

    def _write_files(self) -> None:
        folder = self._folder
        self.ca_file = folder / "ca.crt"
        self.client_cert_file, self.client_key_file = folder / "client.crt", folder / "client.key"
        authority = Authority(self._host)
        self.ca_file.write_bytes(authority.pem)
        (folder / "server.crt").write_bytes(authority.issue(folder / "server.key", "real-api"))
        self.client_cert_file.write_bytes(
            authority.issue(self.client_key_file, "client-cert-admin", organization="system:masters")
        )
        (folder / "sa.key").write_bytes(_key_pem(rsa.generate_private_key(65537, 2048)))
        (folder / "tokens.csv").write_text(f'{_TOKEN},admin,admin,"system:masters"\n')
        self.kubeconfig = folder / "kubeconfig"
        self.kubeconfig.write_text(
            f"""apiVersion: v1
kind: Config
clusters:
- name: real
  cluster: {{server: "{self.url}", certificate-authority: "{self.ca_file}"}}
users:
- name: admin
  user: {{token: {_TOKEN}}}
contexts:
- name: real
  context: {{cluster: real, user: admin}}
current-context: real
"""
        )

    def _remove(self) -> None:
        for process in (self._api, self._etcd):
            if process is not None:
                process.kill()
                process.wait()
        for pid in self._folder.glob("*.pid"):
            pid.unlink()
        assert self._watchman.stdin is not None
        self._watchman.stdin.close()
        self._watchman.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


def free_ports(count: int) -> list[int]:
    """Ports on which a server can start again after it was killed.

    They lie outside of the range from which the kernel takes ports for connections: a client that asks a dead
    server again and again is sooner or later given the very port it asks for, and so connects to itself, and
    the server cannot have its port back.
    """
    found: set[int] = set()
    while len(found) < count:
        port = random.randrange(*_SERVER_PORTS)
        with contextlib.suppress(OSError), socket.socket() as one:
            one.bind(("127.0.0.1", port))
            found.add(port)
    return list(found)


def _key_pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )


_SIGNS_CERTIFICATES = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


class Authority:
    """A certificate authority that lives for one day, for servers at one address.

    Args:
        host: The address.
        key_identifiers: Certificates tell whose key signed them, as they should and often do not.
    """

    def __init__(self, host: str, *, key_identifiers: bool = True) -> None:
        self._key_identifiers = key_identifiers
        self._host = ipaddress.ip_address(host)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "real-api-ca")])
        certificate = (
            self._builder(self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_SIGNS_CERTIFICATES, critical=True)
        )
        self.pem = self._signed(certificate)

    def issue(self, key_file: Path, name: str, organization: str = "") -> bytes:
        """A certificate for servers (the address, localhost, kubernetes) and clients; its key goes to the file."""
        key = ec.generate_private_key(ec.SECP256R1())
        key_file.write_bytes(_key_pem(key))
        subject = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
        if organization:
            subject.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
        names = [x509.DNSName("localhost"), x509.DNSName("kubernetes")]
        address = x509.IPAddress(self._host)
        certificate = (
            self._builder(x509.Name(subject), key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([*names, address]), critical=False)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
        )
        return self._signed(certificate)

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
        )
        if not self._key_identifiers:
            return certificate
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return certificate.add_extension(
            x509.SubjectKeyIdentifier.from_public_key(key), critical=False
        ).add_extension(issuer, critical=False)

    def _signed(self, certificate: x509.CertificateBuilder) -> bytes:
        return certificate.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
