"""Where the API server is and who we are.

A kubeconfig is read by `kubernetes_asyncio` (exec plugins, client certificates, proxies, `tls-server-name`),
imported only then; inside a cluster the service account's files are read here, and read again as they are
renewed. This file sends nothing.
"""

import os
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_TOKEN_SECONDS = 60.0


class ConfigError(Exception):
    """There is no usable way to the API server; the message is one line for the user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """All that it takes to talk to one API server as somebody."""

    url: str
    ssl: ssl.SSLContext | None
    """None for plain HTTP."""
    token: Callable[[bool], Awaitable[str | None]]
    """Gives the bearer token, if there is one; True asks for a new one, after a 401."""
    server_name: str | None = None
    """The name that the server's certificate must carry, if not its host."""
    proxy: str | None = None
    namespace: str = "default"
    """Where our own objects go if nothing else is said."""


async def connect(kubeconfig: str | None = None, context: str | None = None) -> Connection:
    """Find the API server as kubectl does: the file named, `$KUBECONFIG`, `~/.kube/config`, else in-cluster.

    Raises:
        ConfigError: nothing is found, or what is found cannot be used.
    """
    named = kubeconfig or os.environ.get("KUBECONFIG")
    if named:
        _must_exist(named)
        return await _from_kubeconfig(named, context)
    usual = Path.home() / ".kube" / "config"
    if usual.exists():
        return await _from_kubeconfig(str(usual), context)
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        return in_cluster(_SERVICE_ACCOUNT)
    raise ConfigError(
        "no cluster: give --kubeconfig, set KUBECONFIG, or have a ~/.kube/config "
        "('lbipam sandbox' starts a cluster to try)"
    )


def in_cluster(folder: Path) -> Connection:
    """The API server as a Pod sees it.

    Args:
        folder: Where the service account's token, CA and namespace lie.

    Raises:
        ConfigError: a file is missing, or no server is named in the environment.
    """
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise ConfigError("not inside a cluster: KUBERNETES_SERVICE_HOST is not set")
    try:
        context = ssl.create_default_context(cafile=str(folder / "ca.crt"))
        namespace = (folder / "namespace").read_text(encoding="utf-8").strip()
        tokens = _TokenFile(folder / "token")
        tokens.read()
    except OSError as problem:
        raise ConfigError(f"the service account cannot be used: {problem}") from None
    return Connection(
        url=f"https://{f'[{host}]' if ':' in host else host}:{port}",
        ssl=context,
        token=tokens.token,
        namespace=namespace,
    )


class _TokenFile:
    """A token that the kubelet renews in its file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._token = ""
        self._read_at = 0.0

    def read(self) -> None:
        self._token = self._path.read_text(encoding="utf-8").strip()
        self._read_at = time.monotonic()

    async def token(self, renew: bool) -> str | None:  # noqa: FBT001 -- the shape of Connection.token
        if renew or time.monotonic() - self._read_at > _TOKEN_SECONDS:
            try:
                self.read()
            except OSError:
                # Being replaced at this moment: the old one serves until it is refused.
                return self._token
        return self._token


def _must_exist(named: str) -> None:
    for path in named.split(os.pathsep):
        if path and not Path(path).expanduser().exists():
            raise ConfigError(f"kubeconfig {path} does not exist")


async def _from_kubeconfig(named: str, context: str | None) -> Connection:
    from kubernetes_asyncio.client import Configuration  # noqa: PLC0415 -- 37 MB that most runs do not need
    from kubernetes_asyncio.config import (  # noqa: PLC0415
        ConfigException,
        list_kube_config_contexts,
        load_kube_config,
    )

    async def load() -> Any:
        configuration = Configuration()
        await load_kube_config(config_file=named, context=context, client_configuration=configuration)
        return configuration

    try:
        loaded = await load()
        contexts, active = list_kube_config_contexts(config_file=named)
        chosen: Any = next((one for one in contexts or () if one["name"] == context), active)
        return Connection(
            url=loaded.host.rstrip("/"),
            ssl=_ssl_context(loaded) if loaded.host.startswith("https") else None,
            token=_kubeconfig_token(loaded, load),
            server_name=getattr(loaded, "tls_server_name", None),
            proxy=loaded.proxy,
            namespace=chosen["context"].get("namespace") or "default",
        )
    except (ConfigException, OSError, ssl.SSLError, KeyError, TypeError, ValueError) as problem:
        raise ConfigError(f"kubeconfig {named} cannot be used: {problem}") from None


def _ssl_context(loaded: Any) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=loaded.ssl_ca_cert)
    if not loaded.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if loaded.cert_file:
        context.load_cert_chain(loaded.cert_file, loaded.key_file)
    return context


def _kubeconfig_token(
    loaded: Any, load: Callable[[], Awaitable[Any]]
) -> Callable[[bool], Awaitable[str | None]]:
    current = loaded

    async def token(renew: bool) -> str | None:  # noqa: FBT001
        nonlocal current
        if renew:
            # Runs an exec plugin again, or reads a renewed file.
            current = await load()
        header: str | None = current.api_key.get("BearerToken")
        return header.removeprefix("Bearer ") if header else None

    return token
