"""Tells load balancers whether this node has endpoints of a Service, on the Service's `healthCheckNodePort`.

One HTTP server for each port. The answer is kube-proxy's: status 200 if there is a ready endpoint on the
node and 503 if there is none, with the Service and the count in JSON and the count in the header
`X-Load-Balancing-Endpoint-Weight`. This file does not count endpoints.
"""

from collections.abc import Mapping
from http import HTTPStatus

import msgspec

from lbipam.adapters.http_server import NOT_FOUND, HttpServer, Reply
from lbipam.core.datapath.services import HealthCheck


class HealthCheckNodePorts:
    """The servers, kept as wanted. One task at a time may call `serve`."""

    def __init__(self, host: str | None = None) -> None:
        """Listen on one address, or on every address of both families."""
        self._host = host
        self._checks: dict[int, HealthCheck] = {}
        self._open: set[int] = set()
        self._server = HttpServer(self._answer)

    async def serve(self, checks: Mapping[int, HealthCheck]) -> Mapping[int, OSError]:
        """Answer on exactly these ports.

        Returns:
            The ports that could not be opened and why; the next call tries them again.
        """
        self._checks = dict(checks)
        for port in self._open - checks.keys():
            self._open.remove(port)
            self._server.leave(port)
        refused: dict[int, OSError] = {}
        for port in sorted(checks.keys() - self._open):
            try:
                await self._server.listen(self._host, port)
            except OSError as problem:
                refused[port] = problem
            else:
                self._open.add(port)
        return refused

    async def close(self) -> None:
        """Stop answering."""
        self._server.close()
        self._open.clear()

    def _answer(self, _: str, port: int) -> Reply:
        check = self._checks.get(port)
        if check is None:
            return NOT_FOUND  # a connection from before the port was closed
        count = check.local_endpoints
        told = {"service": {"namespace": check.namespace, "name": check.name}, "localEndpoints": count}
        return Reply(
            status=HTTPStatus.OK if count else HTTPStatus.SERVICE_UNAVAILABLE,
            body=msgspec.json.encode(told),
            content_type="application/json; charset=utf-8",
            fields={"X-Load-Balancing-Endpoint-Weight": f"{count}"},
        )
