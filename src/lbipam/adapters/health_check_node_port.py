"""Tells load balancers whether this node has endpoints of a Service, on the Service's `healthCheckNodePort`.

One HTTP server for each port. The answer is kube-proxy's: status 200 if there is a ready endpoint on the
node and 503 if there is none, with the Service and the count in JSON and the count in the header
`X-Load-Balancing-Endpoint-Weight`. This file does not count endpoints.
"""

from collections.abc import Mapping

from aiohttp import web

from lbipam.core.datapath.services import HealthCheck


class HealthCheckNodePorts:
    """The servers, kept as wanted. One task at a time may call `serve`."""

    def __init__(self, host: str | None = None) -> None:
        """Listen on one address, or on every address of both families."""
        self._host = host
        self._checks: dict[int, HealthCheck] = {}
        self._sites: dict[int, web.TCPSite] = {}
        self._runner: web.AppRunner | None = None

    async def serve(self, checks: Mapping[int, HealthCheck]) -> Mapping[int, OSError]:
        """Answer on exactly these ports.

        Returns:
            The ports that could not be opened and why; the next call tries them again.
        """
        self._checks = dict(checks)
        for port in self._sites.keys() - checks.keys():
            await self._sites.pop(port).stop()
        refused: dict[int, OSError] = {}
        for port in sorted(checks.keys() - self._sites.keys()):
            try:
                self._sites[port] = await self._open(port)
            except OSError as problem:
                refused[port] = problem
        return refused

    async def close(self) -> None:
        """Stop answering."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        self._sites.clear()

    async def _open(self, port: int) -> web.TCPSite:
        if self._runner is None:
            application = web.Application()
            application.router.add_get("/{path:.*}", self._answer)
            self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)
            await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, port)
        await site.start()
        return site

    async def _answer(self, request: web.Request) -> web.Response:
        assert request.transport is not None
        check = self._checks.get(request.transport.get_extra_info("sockname")[1])
        if check is None:
            raise web.HTTPNotFound  # a connection from before the port was closed
        count = check.local_endpoints
        return web.json_response(
            {"service": {"namespace": check.namespace, "name": check.name}, "localEndpoints": count},
            status=200 if count else 503,
            headers={"X-Load-Balancing-Endpoint-Weight": f"{count}"},
        )
