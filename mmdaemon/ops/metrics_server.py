"""`/metrics` and `/healthz` over HTTP, on 127.0.0.1 and nowhere else."""

import errno
from collections.abc import Callable, Mapping

from aiohttp import web
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

from mmdaemon.ops.metrics import HOST, Reading, StatusCollector
from mmdaemon.ops.status import Status


class MetricsError(Exception):
    """The metrics cannot be served. The message says what to do."""


def _no_counts() -> Mapping[str, int]:
    return {}


def _none_dropped() -> int:
    return 0


class MetricsServer:
    """`/metrics` and `/healthz` on 127.0.0.1. `port` is the one it got, once started; 0 before.

    `control` gives `ControlServer.counts`, `notify` `Notify.counts`, `logs_dropped` the log's. `/healthz` answers 200
    with guard and kill state while the loop turns and a status can be made: whether it quotes is a matter for
    `mmdaemon status` and alerts.
    """

    def __init__(
        self,
        status: Callable[[], Status],
        port: int,
        *,
        control: Callable[[], Mapping[str, int]] = _no_counts,
        logs_dropped: Callable[[], int] = _none_dropped,
        notify: Callable[[], Mapping[str, int]] = _no_counts,
    ) -> None:
        self.port = 0
        self._asked_port = port
        self._status = status
        self._registry = CollectorRegistry()
        self._registry.register(StatusCollector(lambda: Reading(status(), control(), logs_dropped(), notify())))
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen.

        Raises:
            MetricsError: the port is taken, or not ours to take.
        """
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/healthz", self._healthz)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await web.TCPSite(runner, HOST, self._asked_port).start()
        except OSError as error:
            await runner.cleanup()
            raise MetricsError(_refusal(self._asked_port, error)) from None
        self._runner = runner
        self.port = int(runner.addresses[0][1])

    async def close(self) -> None:
        runner, self._runner, self.port = self._runner, None, 0
        if runner is not None:
            await runner.cleanup()

    async def _metrics(self, _request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _healthz(self, _request: web.Request) -> web.Response:
        status = self._status()
        return web.json_response({"guard": status.guard, "kill": status.kill, "uptime_s": status.uptime_s})


def _refusal(port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"metrics port {port} on {HOST} is in use, perhaps by another mmdaemon: set metrics.port to a free one, or "
            "to 0 for any (shown by `mmdaemon status`)"
        )
    return f"metrics port {port} on {HOST}: {error.strerror or error}; set metrics.port to another, or to 0 for any"
