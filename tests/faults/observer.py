"""What does somebody see who only watches Services?

Lists and watches on its own, with nothing of lbipam's, and notes at every event two Services that show one
address without leave to share it, and one that has lost an address though its wish stayed.
"""

import http.client
import json
import ssl
import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

_UNSEEN = "given while nobody looked, perhaps for a wish that has changed since"

SHARING_KEY = "lbipam.cilium.io/sharing-key"


class Observer(threading.Thread):
    """Watches until stopped; `wrongs` tells what it saw."""

    def __init__(self, url: str, token: str, context: ssl.SSLContext) -> None:
        super().__init__(name="observer", daemon=True)
        self.wrongs: list[str] = []
        self.events = 0
        self._server = urlsplit(url).netloc
        self._token = token
        self._context = context
        self._services: dict[tuple[str, str], Mapping[str, Any]] = {}
        self._given_for: dict[tuple[str, str], dict[str, object]] = {}
        """The wish for which each address was given: a Service that has changed it may have to move."""
        self._shown_by: defaultdict[str, set[tuple[str, str]]] = defaultdict(set)
        self._ended = threading.Event()

    def stop(self) -> None:
        self._ended.set()
        self.join(timeout=15)
        assert not self.is_alive()

    def run(self) -> None:
        while not self._ended.is_set():
            try:
                self._follow()
            except (OSError, http.client.HTTPException, ValueError, KeyError):
                time.sleep(0.2)

    def _ask(self, connection: http.client.HTTPSConnection, query: str) -> http.client.HTTPResponse:
        headers = {"Authorization": f"Bearer {self._token}"}
        connection.request("GET", f"/api/v1/services{query}", headers=headers)
        answer = connection.getresponse()
        if answer.status != 200:
            raise OSError(f"the server answers {answer.status}")
        return answer

    def _follow(self) -> None:
        connection = http.client.HTTPSConnection(self._server, timeout=2, context=self._context)
        try:
            told = json.loads(self._ask(connection, "").read())
            found = {_key(one): one for one in told["items"]}
            for key in self._services.keys() - found.keys():
                self._remove(key)
            for key, one in found.items():
                self._show(key, one)
            for one in found.values():
                self._see(one, given_for=_UNSEEN)
            version = told["metadata"]["resourceVersion"]
            answer = self._ask(connection, f"?watch=true&resourceVersion={version}")
            while not self._ended.is_set():
                line = answer.readline()
                if not line:
                    return
                event = json.loads(line)
                if event["type"] == "DELETED":
                    self._remove(_key(event["object"]))
                elif event["type"] in ("ADDED", "MODIFIED"):
                    self._see(event["object"], given_for=_wish(event["object"]))
                else:
                    return
        finally:
            connection.close()

    def _see(self, service: Mapping[str, Any], *, given_for: object) -> None:
        """Judge a Service as it is now; `given_for` is the wish for which it has what is new."""
        self.events += 1
        key = _key(service)
        before = self._services.get(key)
        self._show(key, service)
        known, shown, wish = self._given_for.get(key, {}), _addresses(service), _wish(service)
        for address, given in known.items():
            if address not in shown and given == wish and not _asks_for_others(service, address):
                self.wrongs.append(f"{key} lost {address}: {json.dumps(before)} → {json.dumps(service)}")
        self._given_for[key] = {address: known.get(address, given_for) for address in shown}
        for address in shown:
            for other in self._shown_by[address] - {key}:
                if not _may_share(service, self._services[other]):
                    self.wrongs.append(f"{key} and {other} both show {address}")

    def _show(self, key: tuple[str, str], service: Mapping[str, Any]) -> None:
        for address in _addresses(self._services.get(key, {})):
            self._shown_by[address].discard(key)
        for address in _addresses(service):
            self._shown_by[address].add(key)
        self._services[key] = service

    def _remove(self, key: tuple[str, str]) -> None:
        self._show(key, {})
        del self._services[key]


def _key(service: Mapping[str, Any]) -> tuple[str, str]:
    return service["metadata"]["namespace"], service["metadata"]["name"]


def _addresses(service: Mapping[str, Any]) -> set[str]:
    return {one["ip"] for one in service.get("status", {}).get("loadBalancer", {}).get("ingress", [])}


def _wish(service: Mapping[str, Any]) -> tuple[object, ...]:
    metadata = service["metadata"]
    return metadata["uid"], metadata.get("labels"), metadata.get("annotations"), service["spec"]


def _asks_for_others(service: Mapping[str, Any], address: str) -> bool:
    """Whether a Service names addresses, and not this one: it has it only until it can have those."""
    named = (service["metadata"].get("annotations") or {}).get("lbipam.cilium.io/ips", "")
    return bool(named) and address not in named.split(",")


def _may_share(one: Mapping[str, Any], two: Mapping[str, Any]) -> bool:
    keys = {(each["metadata"].get("annotations") or {}).get(SHARING_KEY) for each in (one, two)}
    ports = [{port["port"] for port in each["spec"]["ports"]} for each in (one, two)]
    same_namespace = one["metadata"]["namespace"] == two["metadata"]["namespace"]
    return len(keys) == 1 and None not in keys and same_namespace and not ports[0] & ports[1]
