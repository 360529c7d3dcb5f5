import asyncio
import base64
import json
import os
import ssl
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from lbipam.adapters import kube_config
from lbipam.adapters.kube_client import ApiError, Client, UnreachableError
from lbipam.adapters.kube_config import ConfigError, connect, in_cluster
from tests.real_api import Authority, RealApi


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing in the environment points to a cluster."""
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def config(
    server: str = "http://127.0.0.1:1", user: dict[str, Any] | None = None, **cluster: Any
) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "one",
        "contexts": [
            {"name": "one", "context": {"cluster": "c", "user": "u", "namespace": "elsewhere"}},
            {"name": "two", "context": {"cluster": "c", "user": "u"}},
        ],
        "clusters": [{"name": "c", "cluster": {"server": server, **cluster}}],
        "users": [{"name": "u", "user": user or {"token": "secret"}}],
    }


def write(path: Path, content: Any) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return str(path)


# --- where the file is ------------------------------------------------------------------------------------


async def test_the_file_named_comes_before_the_environment_and_that_before_the_usual_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "home/.kube/config", config("http://127.0.0.1:3"))
    assert (await connect()).url == "http://127.0.0.1:3"
    monkeypatch.setenv("KUBECONFIG", write(tmp_path / "env", config("http://127.0.0.1:2")))
    assert (await connect()).url == "http://127.0.0.1:2"
    named = write(tmp_path / "named", config("http://127.0.0.1:1/"))
    assert (await connect(named)).url == "http://127.0.0.1:1"


async def test_a_list_of_files_is_merged_and_may_name_some_that_are_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = config()
    contexts = {**whole, "clusters": [], "users": []}
    rest = {**whole, "contexts": [], "current-context": ""}
    paths = [
        str(tmp_path / "absent"), write(tmp_path / "rest", rest), write(tmp_path / "contexts", contexts)
    ]  # fmt: skip
    monkeypatch.setenv("KUBECONFIG", os.pathsep.join(paths))
    connection = await connect()
    assert (connection.namespace, await connection.token(False)) == ("elsewhere", "secret")


@pytest.mark.parametrize("first", ["one", ""])
async def test_of_several_files_the_first_that_names_a_current_context_decides(
    tmp_path: Path, first: str
) -> None:
    content = {**config("http://127.0.0.1:1"), "current-context": first}
    other = {
        **config(),
        "current-context": "other",
        "contexts": [{"name": "other", "context": {"cluster": "other", "user": "u"}}],
        "clusters": [{"name": "other", "cluster": {"server": "http://127.0.0.1:2"}}],
    }
    files = [write(tmp_path / "first", content), write(tmp_path / "second", other)]
    assert (await connect(os.pathsep.join(files))).url == f"http://127.0.0.1:{1 if first else 2}"


@pytest.mark.parametrize("names", [("empty", "full"), ("full", "empty")])
async def test_one_of_several_files_may_be_empty(tmp_path: Path, names: tuple[str, str]) -> None:
    write(tmp_path / "empty", "")
    write(tmp_path / "full", config("http://127.0.0.1:1"))
    named = os.pathsep.join(str(tmp_path / name) for name in names)
    assert (await connect(named)).url == "http://127.0.0.1:1"


async def test_a_line_break_at_the_end_of_a_token_is_none_of_it(tmp_path: Path) -> None:
    user = {"tokenFile": write(tmp_path / "token", "secret\n")}
    connection = await connect(write(tmp_path / "config", config(user=user)))
    assert await connection.token(False) == "secret"


async def test_a_context_is_chosen_by_name_even_where_none_is_current(tmp_path: Path) -> None:
    content = config()
    del content["current-context"]
    connection = await connect(write(tmp_path / "config", content), "two")
    assert connection.namespace == "default"


async def test_without_a_kubeconfig_the_service_account_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "192.0.2.1")
    monkeypatch.setattr(kube_config, "_SERVICE_ACCOUNT", tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="service account"):
        await connect()


async def test_without_anything_the_user_is_told_what_to_do() -> None:
    with pytest.raises(ConfigError, match=r"--kubeconfig.*KUBECONFIG.*sandbox"):
        await connect()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[",
        "just text",
        "- a\n- list",
        "{}",
        {"apiVersion": "v1", "kind": "Config"},
        {**config(), "current-context": "absent"},
        {**config(), "current-context": ""},
        {**config(), "clusters": []},
        {**config(), "contexts": None},
        {**config(), "contexts": [{"name": "one"}]},
        config("https://127.0.0.1:1", None, **{"certificate-authority": "/absent/ca.crt"}),
        config("https://127.0.0.1:1", None, **{"certificate-authority-data": "bm9uc2Vuc2U="}),
        config("https://127.0.0.1:1", None, **{"certificate-authority-data": "no base64"}),
        config("https://127.0.0.1:1", {"client-certificate-data": "bm9uc2Vuc2U="}),
        config("127.0.0.1"),
        config("https://"),
        config("https://127.0.0.1:65536"),
        config("https://::1:6443"),
        config("https://[::1:6443"),
        config("https://two..dots"),
        config("http://127.0.0.1:1", None, **{"proxy-url": "http://127.0.0.1:65536"}),
        config(user={"token": "s\u20accret"}),
        config(user={"exec": {"command": "/absent/plugin", "apiVersion": "client.authentication.k8s.io/v1"}}),
        config(user={"exec": {"command": "false", "apiVersion": "client.authentication.k8s.io/v1"}}),
        config(user={"exec": {"command": "true", "apiVersion": "client.authentication.k8s.io/v1"}}),
        config(user={"tokenFile": "/absent/token"}),
        config(user={"token": "secret", "as": "somebody-with-less-rights"}),
    ],
    ids=str,
)
async def test_a_broken_file_is_told_in_one_line(tmp_path: Path, content: Any) -> None:
    with pytest.raises(ConfigError) as told:
        await connect(write(tmp_path / "config", content))
    assert "\n" not in str(told.value)
    assert str(tmp_path / "config") in str(told.value)


async def test_no_secret_is_told_with_what_is_wrong(tmp_path: Path) -> None:
    content = config("https://127.0.0.1:1", {"token": "hunter2", "client-certificate-data": None})
    with pytest.raises(ConfigError, match="client-certificate-data") as told:
        await connect(write(tmp_path / "config", content))
    assert "hunter2" not in str(told.value)
    broken = write(tmp_path / "broken", yaml.safe_dump(config()).replace("token: secret", "token: 'hunter2"))
    with pytest.raises(ConfigError, match="broken") as told:
        await connect(broken)
    assert "hunter2" not in str(told.value)


async def test_an_empty_proxy_url_is_none(tmp_path: Path) -> None:
    content = config("http://127.0.0.1:1", None, **{"proxy-url": ""})
    assert (await connect(write(tmp_path / "config", content))).proxy is None


async def test_a_context_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="absent"):
        await connect(write(tmp_path / "config", config()), "absent")
    with pytest.raises(ConfigError, match="does not exist"):
        await connect(str(tmp_path / "no-file"))


def test_the_library_is_imported_only_for_a_kubeconfig() -> None:
    program = (
        "import sys, lbipam.adapters.kube_config, lbipam.adapters.kube_client;"
        "sys.exit('kubernetes_asyncio' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


# --- in a cluster -----------------------------------------------------------------------------------------


@pytest.fixture
def account(tmp_path: Path, real_api: RealApi, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A service account's files for the real server, with a token that it does not know."""
    folder = tmp_path / "serviceaccount"
    folder.mkdir()
    (folder / "ca.crt").write_bytes(real_api.ca_pem)
    (folder / "namespace").write_text("mine\n")
    (folder / "token").write_text("outdated\n")
    host, port = real_api.url.removeprefix("https://").split(":")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", port)
    return folder


async def test_a_token_that_is_refused_is_read_again(account: Path, real_api: RealApi) -> None:
    connection = in_cluster(account)
    assert (connection.url, connection.namespace) == (real_api.url, "mine")
    async with Client(connection) as client:
        with pytest.raises(ApiError) as refusal:
            await client.request("GET", "/api/v1/namespaces")
        assert refusal.value.code == 401
        (account / "token").write_text(f"{real_api.token}\n")
        assert b"NamespaceList" in await client.request("GET", "/api/v1/namespaces")


async def test_a_token_is_read_again_after_a_minute(account: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = in_cluster(account)
    (account / "token").write_text("renewed")
    assert await connection.token(False) == "outdated"
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 61)
    assert await connection.token(False) == "renewed"
    (account / "token").unlink()
    assert await connection.token(True) == "renewed"


def test_ipv6_addresses_of_the_server_are_bracketed(account: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00:96::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    assert in_cluster(account).url == "https://[fd00:96::1]:443"


# --- as whom ----------------------------------------------------------------------------------------------


async def user_of(kubeconfig: str) -> bytes:
    async with Client(await connect(kubeconfig)) as client:
        return await client.request("GET", "/api/v1/namespaces/default")


async def test_client_certificates_prove_who_we_are(tmp_path: Path, real_api: RealApi) -> None:
    user = {
        "client-certificate": str(real_api.client_cert_file),
        "client-key": str(real_api.client_key_file),
    }
    ca = {"certificate-authority": str(real_api.ca_file)}
    path = write(tmp_path / "config", config(real_api.url, user, **ca))
    assert b'"Namespace"' in await user_of(path)
    assert await (await connect(path)).token(False) is None


async def test_a_client_certificate_that_is_renewed_in_its_files_is_shown(
    tmp_path: Path, real_api: RealApi
) -> None:
    """Servers keep a connection open whose certificate they do not know, and refuse each request on it."""
    shown, key = tmp_path / "client.crt", tmp_path / "client.key"
    shown.write_bytes(Authority("127.0.0.1").issue(key, "somebody"))
    user = {"client-certificate": str(shown), "client-key": str(key)}
    ca = {"certificate-authority": str(real_api.ca_file)}
    async with Client(await connect(write(tmp_path / "config", config(real_api.url, user, **ca)))) as client:
        with pytest.raises(ApiError, match="401"):
            await client.request("GET", "/api/v1/namespaces")
        shown.write_bytes(real_api.client_cert_file.read_bytes())
        key.write_bytes(real_api.client_key_file.read_bytes())
        assert b"NamespaceList" in await client.request("GET", "/api/v1/namespaces")


async def test_the_certificate_of_the_server_is_checked(tmp_path: Path, real_api: RealApi) -> None:
    user = {"token": real_api.token}
    ca = {"certificate-authority": str(real_api.ca_file)}
    with pytest.raises(UnreachableError, match="certificate"):
        await user_of(write(tmp_path / "none", config(real_api.url, user)))
    wrong = config(real_api.url, user, **ca, **{"tls-server-name": "example.org"})
    with pytest.raises(UnreachableError, match=r"example\.org"):
        await user_of(write(tmp_path / "wrong", wrong))
    right = config(real_api.url, user, **ca, **{"tls-server-name": "kubernetes"})
    assert b'"Namespace"' in await user_of(write(tmp_path / "right", right))
    insecure = config(real_api.url, user, **{"insecure-skip-tls-verify": True})
    connection = await connect(write(tmp_path / "insecure", insecure))
    assert connection.ssl is not None
    assert connection.ssl.verify_mode is ssl.CERT_NONE
    assert b'"Namespace"' in await user_of(str(tmp_path / "insecure"))


@asynccontextmanager
async def secured(
    folder: Path, authority: Authority
) -> AsyncIterator[tuple[str, Callable[[Authority], None]]]:
    """A server whose authority is in `ca.crt`, and what lets it show a certificate of another."""
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)

    def show(issuer: Authority) -> None:
        (folder / "server.crt").write_bytes(issuer.issue(folder / "server.key", "server"))
        ours.load_cert_chain(folder / "server.crt", folder / "server.key")

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}")
        await writer.drain()
        writer.close()

    show(authority)
    (folder / "ca.crt").write_bytes(authority.pem)
    async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=ours) as server:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}", show


async def test_certificates_without_key_identifiers_are_good_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many clusters have such, and Python 3.13 takes them no longer by default."""
    authority = Authority("127.0.0.1", key_identifiers=False)
    usual = ssl.create_default_context

    def strict(*, cafile: str) -> ssl.SSLContext:
        context = usual(cafile=cafile)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    async with secured(tmp_path, authority) as (url, _):
        monkeypatch.setattr(ssl, "create_default_context", strict)
        path = write(
            tmp_path / "config", config(url, {}, **{"certificate-authority": str(tmp_path / "ca.crt")})
        )
        assert await user_of(path) == b"{}"


async def test_an_authority_that_is_renewed_in_its_file_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ca.crt", "namespace", "token"):
        (tmp_path / name).write_text("x")
    ca = {"certificate-authority": str(tmp_path / "ca.crt")}
    async with secured(tmp_path, Authority("127.0.0.1")) as (url, show):
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", url.rpartition(":")[2])
        for connection in (
            in_cluster(tmp_path),
            await connect(write(tmp_path / "config", config(url, None, **ca))),
        ):
            async with Client(connection) as client:
                await client.request("GET", "/x")
                renewed = Authority("127.0.0.1")
                show(renewed)
                (tmp_path / "ca.crt").write_text("half of i")
                with pytest.raises(UnreachableError, match="certificate"):
                    await client.request("GET", "/x")
                (tmp_path / "ca.crt").write_bytes(renewed.pem)
                assert await client.request("GET", "/x") == b"{}"


def write_plugin(folder: Path) -> tuple[Path, Path, Path]:
    """A plugin, whence it has its token (it waits for a pipe), and where it notes that it ran."""
    token, runs = folder / "token", folder / "runs"
    token.write_text("outdated")
    credential = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential"}
    plugin = folder / "plugin"
    plugin.write_text(
        f"#!{sys.executable}\n"
        "import json, os, pathlib\n"
        "assert json.loads(os.environ['KUBERNETES_EXEC_INFO'])['kind'] == 'ExecCredential'\n"
        f"pathlib.Path({str(runs)!r}).open('a').write('x')\n"
        f"credential = {json.dumps(credential)}\n"
        f"token = pathlib.Path({str(token)!r}).read_text()\n"
        "print(json.dumps({**credential, 'status': {'token': token}}))\n"
    )
    plugin.chmod(plugin.stat().st_mode | stat.S_IXUSR)
    return plugin, token, runs


def asking(plugin: Path, real_api: RealApi) -> dict[str, Any]:
    user = {"exec": {"command": str(plugin), "apiVersion": "client.authentication.k8s.io/v1"}}
    return config(real_api.url, user, **{"certificate-authority": str(real_api.ca_file)})


async def test_an_exec_plugin_is_run_again_once_when_its_token_is_refused(
    tmp_path: Path, real_api: RealApi
) -> None:
    plugin, token, runs = write_plugin(tmp_path)
    connection = await connect(write(tmp_path / "config", asking(plugin, real_api)))
    token.write_text(real_api.token)
    async with Client(connection) as client:
        answers = await asyncio.gather(*(client.request("GET", "/api/v1/namespaces") for _ in range(5)))
        assert all(b"NamespaceList" in answer for answer in answers)
        assert runs.read_text() == "xx"
        plugin.unlink()
        # It cannot be renewed now; what there is goes on being used.
        assert await connection.token(True) == real_api.token


async def test_credentials_are_renewed_though_the_temporary_files_were_cleaned_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    plugin, token, _ = write_plugin(tmp_path)
    user = {"exec": {"command": str(plugin), "apiVersion": "client.authentication.k8s.io/v1"}}
    authority = base64.b64encode(Authority("127.0.0.1").pem).decode()
    content = config("https://127.0.0.1:1", user, **{"certificate-authority-data": authority})
    connection = await connect(write(tmp_path / "config", content))
    for file in (tmp_path / "temporary").iterdir():
        file.unlink()
    token.write_text("renewed")
    assert await connection.token(True) == "renewed"


async def test_an_exec_plugin_that_takes_longer_than_a_request_comes_to_its_end(
    tmp_path: Path, real_api: RealApi
) -> None:
    plugin, token, runs = write_plugin(tmp_path)
    async with Client(await connect(write(tmp_path / "config", asking(plugin, real_api)))) as client:
        token.unlink()
        os.mkfifo(token)
        for _ in range(2):
            with pytest.raises(UnreachableError, match="no answer in time"):
                await client.request("GET", "/api/v1/namespaces", seconds=0.5)
        await asyncio.to_thread(token.write_text, real_api.token)
        assert b"NamespaceList" in await client.request("GET", "/api/v1/namespaces")
    assert runs.read_text() == "xx"


async def test_a_proxy_is_asked_for_the_way(tmp_path: Path, real_api: RealApi) -> None:
    asked: list[str] = []
    ended = asyncio.Event()

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[0].decode())
        host, port = asked[-1].split()[1].split(":")
        upstream_reader, upstream_writer = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(
            pipe(reader, upstream_writer), pipe(upstream_reader, writer), return_exceptions=True
        )
        for one in (writer, upstream_writer):
            one.close()
        ended.set()

    proxy = await asyncio.start_server(tunnel, "127.0.0.1", 0)
    async with proxy:
        port = proxy.sockets[0].getsockname()[1]
        content = config(
            real_api.url,
            {"token": real_api.token},
            **{"certificate-authority": str(real_api.ca_file), "proxy-url": f"http://127.0.0.1:{port}"},
        )
        assert b'"Namespace"' in await user_of(write(tmp_path / "config", content))
        await asyncio.wait_for(ended.wait(), 10)
    assert asked == [f"CONNECT {real_api.url.removeprefix('https://')} HTTP/1.1"]
