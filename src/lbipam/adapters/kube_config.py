"""Where the API server is and who we are.

A kubeconfig is read by `kubernetes_asyncio` (exec plugins, client certificates, proxies, `tls-server-name`),
imported only then; inside a cluster the service account's files are read here, and read again as they are
renewed. This file sends nothing.
"""

import asyncio
import os
import re
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import structlog

_log = structlog.get_logger()

_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_TOKEN_SECONDS = 60.0
_RENEW_SECONDS = 1.0

_BROKEN_FILE = (OSError, ValueError, KeyError, TypeError, AttributeError, AssertionError)
"""What the library raises, besides its own exception, for a file that is no kubeconfig."""


class ConfigError(Exception):
    """There is no usable way to the API server; the message is one line for the user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """All that it takes to talk to one API server as somebody."""

    url: str
    ssl: ssl.SSLContext | None
    """None for plain HTTP."""
    refresh: Callable[[], None] = lambda: None
    """Called before each new connection: takes into `ssl` what has changed of the files that it is made of."""
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
        return await _Kubeconfig(named, context).connection()
    usual = Path(os.environ.get("HOME", "/")) / ".kube" / "config"
    if usual.exists():
        return await _Kubeconfig(str(usual), context).connection()
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
        certificates = _Certificates(str(folder / "ca.crt"))
        namespace = (folder / "namespace").read_text(encoding="utf-8").strip()
        tokens = _TokenFile(folder / "token")
        tokens.read()
    except OSError as problem:
        raise ConfigError(f"the service account cannot be used: {problem}") from None
    return Connection(
        url=f"https://{f'[{host}]' if ':' in host else host}:{port}",
        ssl=certificates.context,
        refresh=certificates.refresh,
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
    """As for kubectl, a list may name files that are not there, as long as one is."""
    if not any(Path(path).expanduser().exists() for path in named.split(os.pathsep) if path):
        raise ConfigError(f"kubeconfig {named} does not exist")


class _Kubeconfig:
    """A kubeconfig, or several merged, as `kubernetes_asyncio` reads them."""

    def __init__(self, named: str, context: str | None) -> None:
        self._named, self._context = named, context
        self._loaded: Any = None
        self._certificates: _Certificates | None = None
        self._renewed_at = float("-inf")
        self._renewal: asyncio.Future[None] | None = None

    async def connection(self) -> Connection:
        loader = await self._load()
        loaded = self._loaded
        if loaded.host.startswith("https"):
            try:
                self._certificates = _Certificates(loaded.ssl_ca_cert, loaded.cert_file, loaded.key_file)
            except OSError as problem:  # ssl.SSLError is one
                raise self._unusable(problem) from None
            if not loaded.verify_ssl:
                self._certificates.context.check_hostname = False
                self._certificates.context.verify_mode = ssl.CERT_NONE
        return Connection(
            url=loaded.host.rstrip("/"),
            ssl=self._certificates.context if self._certificates is not None else None,
            refresh=self._refresh,
            token=self.token,
            server_name=loaded.tls_server_name or None,
            proxy=loaded.proxy or None,
            namespace=loader.current_context["context"].get("namespace") or "default",
        )

    async def token(self, renew: bool) -> str | None:  # noqa: FBT001 -- the shape of Connection.token
        if renew:
            if self._renewal is None or self._renewal.done():
                self._renewal = asyncio.ensure_future(self._renew())
            # A plugin that takes longer than whoever waits for it comes to its end for whoever asks next.
            await asyncio.shield(self._renewal)
        header: str | None = self._loaded.api_key.get("BearerToken")
        # A file may end with a line break, which would end the field of the request.
        return header.removeprefix("Bearer ").strip() if header else None

    async def _renew(self) -> None:
        """Run an exec plugin again, or read a renewed file; once for all requests that were refused together."""
        if time.monotonic() - self._renewed_at < _RENEW_SECONDS:
            return
        try:
            await self._load()
        except ConfigError as problem:
            _log.warning("credentials not renewed", problem=str(problem))
        self._renewed_at = time.monotonic()

    def _refresh(self) -> None:
        if self._certificates is not None:
            self._certificates.files = (
                self._loaded.ssl_ca_cert,
                self._loaded.cert_file,
                self._loaded.key_file,
            )
            self._certificates.refresh()

    async def _load(self) -> Any:
        import yaml  # noqa: PLC0415
        from kubernetes_asyncio.client import Configuration  # noqa: PLC0415 -- 37 MB that most runs need not
        from kubernetes_asyncio.config import ConfigException, load_kube_config  # noqa: PLC0415

        configuration = Configuration()
        _forget_lost_files()
        try:
            files, current = _read(self._named)
            loader = await load_kube_config(
                config_file=files,
                context=self._context or current,
                client_configuration=configuration,
                persist_config=False,
            )
        except (ConfigException, yaml.YAMLError, *_BROKEN_FILE) as problem:
            raise self._unusable(problem) from None
        host = configuration.host or ""
        if not (_is_url(host) and host.startswith(("http://", "https://"))):
            raise self._unusable(f"server {configuration.host!r} is no URL")
        if configuration.proxy and not _is_url(str(configuration.proxy)):
            raise self._unusable(f"proxy-url {configuration.proxy!r} is no URL")
        if not configuration.api_key.get("BearerToken", "").isascii():
            raise self._unusable("its token has characters that no token has")
        # The library would pass over it, and we would act with all rights of whoever impersonates.
        if "as" in (loader._user or ()):
            raise self._unusable("its user impersonates another (as), which is not supported")
        self._loaded = configuration
        return loader

    def _unusable(self, problem: object) -> ConfigError:
        # The library names a place by all that is there, tokens and keys included.
        told = re.sub(r"\{.*\}", "…", " ".join(str(problem).split())) or type(problem).__name__
        return ConfigError(f"kubeconfig {self._named} cannot be used: {told}")


def _read(named: str) -> tuple[str, str | None]:
    """Which files of a list say anything, and which context is current in them.

    As for kubectl, the first that names one decides; for the library the last would, of another cluster.
    """
    import yaml  # noqa: PLC0415

    files, current = [], None
    for path in named.split(os.pathsep):
        file = Path(path).expanduser()
        if not path or not file.exists():
            continue
        with file.open(encoding="utf-8") as stream:
            content = yaml.safe_load(stream)
        if content is not None:
            files.append(str(file))
            current = current or content.get("current-context")
    if not files:
        raise ValueError("it is empty")
    return os.pathsep.join(files), current


def _is_url(url: str) -> bool:
    """Whether a host is named, and a port that there is, if any."""
    try:
        parts = urlsplit(url)
        # As it is looked up: not every name is one.
        (parts.hostname or "").encode("idna")
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _forget_lost_files() -> None:
    """Let the library write anew what it keeps in temporary files, where such have been cleaned up."""
    from kubernetes_asyncio.config import kube_config  # noqa: PLC0415

    written = kube_config._temp_files
    for content, name in tuple(written.items()):
        if not Path(name).exists():
            del written[content]


class _Certificates:
    """Whom we trust and what we show, as the files have it, which may be renewed.

    An authority that its file no longer names is trusted until the process ends.
    """

    def __init__(self, authorities: str | None, shown: str | None = None, key: str | None = None) -> None:
        """Trust a file with authorities, or those that the machine trusts; and show a certificate.

        Raises:
            OSError: a file cannot be used.
        """
        self.files = (authorities, shown, key)
        self.context = ssl.create_default_context(cafile=authorities)
        # Python 3.13 refuses certificates without key identifiers; clusters have such, and all other clients take
        # them.
        self.context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        self._versions = self._look()
        self._load()

    def refresh(self) -> None:
        """Load the files again if they have changed."""
        try:
            versions = self._look()
            if versions != self._versions:
                self._load()
                self._versions = versions
        except OSError as problem:
            # Perhaps it is being replaced at this moment: so the next connection tries again.
            _log.warning("certificates not read again", problem=str(problem))

    def _look(self) -> list[tuple[str, int, int]]:
        named = [Path(name) for name in self.files if name]
        return [(str(path), path.stat().st_ino, path.stat().st_mtime_ns) for path in named]

    def _load(self) -> None:
        authorities, shown, key = self.files
        if authorities:
            self.context.load_verify_locations(authorities)
        if shown:
            self.context.load_cert_chain(shown, key)
