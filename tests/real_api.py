"""A real Kubernetes API server with its etcd, on loopback, for tests and benchmarks.

The binaries lie in the folder that `KUBEBUILDER_ASSETS` names, as for every project that uses envtest.
"""

import contextlib
import os
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
from types import TracebackType
from typing import Self

_USUAL_PLACE = Path.home() / ".cache" / "envtest" / "bin"
_TOKEN = "a-token-for-tests"


def assets() -> Path | None:
    """Where the binaries are; None if they are not at hand."""
    named = os.environ.get("KUBEBUILDER_ASSETS")
    folder = Path(named) if named else _USUAL_PLACE
    needed = ("etcd", "kube-apiserver")
    return folder if all((folder / name).exists() for name in needed) else None


WHY_NOT = "needs a real API server: set KUBEBUILDER_ASSETS to a folder with etcd and kube-apiserver"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RealApi:
    """One etcd and one kube-apiserver; a context manager."""

    def __init__(
        self,
        *,
        service_cidrs: str = "10.96.0.0/16,fd00:96::/108",
        feature_gates: str = "IPv6DualStack=true",
        etcd_flags: Sequence[str] = (),
        api_flags: Sequence[str] = (),
    ) -> None:
        found = assets()
        assert found is not None, WHY_NOT
        self._assets = found
        self._folder = Path(tempfile.mkdtemp(prefix="real-api-"))
        self._etcd_port, self._peer_port, self._port = free_port(), free_port(), free_port()
        self._service_cidrs, self._feature_gates = service_cidrs, feature_gates
        self._etcd_flags, self._api_flags = etcd_flags, api_flags
        self._etcd: subprocess.Popen[bytes] | None = None
        self._api: subprocess.Popen[bytes] | None = None
        self.url = f"https://127.0.0.1:{self._port}"
        self.token = _TOKEN
        self.kubeconfig = self._folder / "kubeconfig"

    @property
    def ca_file(self) -> Path:
        return self._folder / "certs" / "apiserver.crt"

    @property
    def pid(self) -> int:
        """The API server's process."""
        assert self._api is not None
        return self._api.pid

    def __enter__(self) -> Self:
        try:
            self._write_files()
            self._start_etcd()
            self.start()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    def start(self) -> None:
        """Start the API server, on the port it had before, and wait until it is ready."""
        log = (self._folder / "apiserver.log").open("ab")
        with log:
            self._api = subprocess.Popen(
                [
                    self._assets / "kube-apiserver",
                    f"--etcd-servers=http://127.0.0.1:{self._etcd_port}",
                    "--bind-address=127.0.0.1",
                    f"--secure-port={self._port}",
                    "--insecure-port=0",
                    f"--cert-dir={self._folder / 'certs'}",
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
                ],
                stdout=log,
                stderr=log,
            )
        self._wait_until_ready(120)

    def kill(self) -> None:
        """End the API server at once, as `kill -9` does."""
        assert self._api is not None
        self._api.kill()
        self._api.wait()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Let the API server hang: connections stay open and nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)

    def _write_files(self) -> None:
        subprocess.run(
            ["openssl", "genrsa", "-out", self._folder / "sa.key", "2048"], check=True, capture_output=True
        )
        (self._folder / "tokens.csv").write_text(f'{_TOKEN},admin,admin,"system:masters"\n')
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

    def _start_etcd(self) -> None:
        client, peer = f"http://127.0.0.1:{self._etcd_port}", f"http://127.0.0.1:{self._peer_port}"
        log = (self._folder / "etcd.log").open("ab")
        with log:
            self._etcd = subprocess.Popen(
                [
                    self._assets / "etcd",
                    f"--data-dir={self._folder / 'etcd'}",
                    "--unsafe-no-fsync",
                    f"--listen-client-urls={client}",
                    f"--advertise-client-urls={client}",
                    f"--listen-peer-urls={peer}",
                    f"--initial-advertise-peer-urls={peer}",
                    f"--initial-cluster=default={peer}",
                    *self._etcd_flags,
                ],
                stdout=log,
                stderr=log,
            )

    def _wait_until_ready(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            assert self._api is not None
            if self._api.poll() is not None:
                log = (self._folder / "apiserver.log").read_text(errors="replace")
                raise AssertionError(f"kube-apiserver ended: {log[-2000:]}")
            if self._is_ready():
                return
            time.sleep(0.1)
        raise AssertionError(f"kube-apiserver is not ready after {seconds} s")

    def _is_ready(self) -> bool:
        if not self.ca_file.exists():
            return False
        context = ssl.create_default_context(cafile=str(self.ca_file))
        request = urllib.request.Request(
            f"{self.url}/readyz", headers={"Authorization": f"Bearer {self.token}"}
        )
        try:
            with urllib.request.urlopen(request, context=context, timeout=2) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False

    def _remove(self) -> None:
        for process in (self._api, self._etcd):
            if process is not None and process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGCONT)
                process.kill()
                process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)
