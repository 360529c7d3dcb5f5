"""A real Kubernetes API server as the lab's control plane.

etcd and kube-apiserver, from the folder that `KUBEBUILDER_ASSETS` names, as envtest installs them. This file
knows what they are told; `topology` runs them.
"""

import os
import secrets
from collections.abc import Sequence
from pathlib import Path

import yaml

from lbipam.commands.lab.namespaces import LabError

PROGRAMS = ("etcd", "kube-apiserver")

_USUAL_PLACES = (Path("/usr/local/kubebuilder/bin"), Path.home() / ".cache" / "envtest" / "bin")
_ETCD = "http://127.0.0.1:2379"
_ETCD_PEER = "http://127.0.0.1:2380"
_PORT = 6443


def binaries() -> Path:
    """The folder with both programs.

    Raises:
        LabError: they are not there; the message says how to get them.
    """
    named = os.environ.get("KUBEBUILDER_ASSETS")
    for folder in (Path(named),) if named else _USUAL_PLACES:
        if all((folder / program).exists() for program in PROGRAMS):
            return folder
    raise LabError(
        "--real-api needs etcd and kube-apiserver: install them with `setup-envtest use -p path` "
        "(sigs.k8s.io/controller-runtime) and let KUBEBUILDER_ASSETS name their folder"
    )


def etcd_flags(folder: Path) -> Sequence[str]:
    """What etcd is told: to keep its data in a folder, and to serve on the loopback of its namespace."""
    return (
        f"--data-dir={folder / 'etcd'}",
        "--unsafe-no-fsync",
        f"--listen-client-urls={_ETCD}",
        f"--advertise-client-urls={_ETCD}",
        f"--listen-peer-urls={_ETCD_PEER}",
        f"--initial-advertise-peer-urls={_ETCD_PEER}",
        f"--initial-cluster=default={_ETCD_PEER}",
    )


def server_flags(folder: Path, host: str) -> Sequence[str]:
    """What kube-apiserver is told, once `write_files` has been called."""
    identity = folder / "server.pem"
    return (
        f"--etcd-servers={_ETCD}",
        f"--bind-address={host}",
        f"--advertise-address={host}",
        f"--secure-port={_PORT}",
        f"--cert-dir={folder}",
        f"--tls-cert-file={identity}",
        f"--tls-private-key-file={identity}",
        f"--service-account-key-file={identity}",
        f"--service-account-signing-key-file={identity}",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--api-audiences=api",
        f"--token-auth-file={folder / 'tokens.csv'}",
        "--authorization-mode=RBAC",
        "--service-cluster-ip-range=10.96.0.0/16",
        "--disable-admission-plugins=ServiceAccount",
    )


def write_files(folder: Path, host: str, kubeconfig: Path) -> None:
    """Make certificates, an administrator's token, and a kubeconfig that holds both."""
    from lbipam.localapi import certs  # noqa: PLC0415 -- most commands need no cryptography

    identity, token = certs.identity(host), secrets.token_urlsafe(24)
    for name, text in (
        ("server.pem", identity.server_pem),
        ("tokens.csv", f"{token},admin,admin,system:masters\n"),
    ):
        path = folder / name
        path.touch(mode=0o600)
        path.write_text(text, encoding="utf-8")
    (folder / "ca.crt").write_text(identity.ca_pem, encoding="utf-8")
    cluster = {"server": f"https://{host}:{_PORT}", "certificate-authority-data": identity.ca_data}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "lab", "cluster": cluster}],
        "users": [{"name": "admin", "user": {"token": token}}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "admin"}}],
        "current-context": "lab",
    }
    kubeconfig.touch(mode=0o600)
    kubeconfig.write_text(yaml.safe_dump(config), encoding="utf-8")
