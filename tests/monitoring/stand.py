"""Prometheus, Alertmanager and whom they tell, on free loopback ports, each a process as Debian ships it."""

import asyncio
import json
import os
import shutil
import socket
import subprocess
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest
from aiohttp import web

from mmdaemon.ops import alerting
from tests.monitoring.rule_cases import MONITORING, RULES

NEEDED: Final = "MMDAEMON_NEED_PROMETHEUS"
TOOLS: Final = ("prometheus", "promtool", "prometheus-alertmanager", "amtool")
TOKEN: Final = "4711:canary-token-that-nobody-shows"
PATIENCE_S: Final = 60


def need(*tools: str) -> None:
    """Skip where Debian's packages are not installed; where they must be, fail."""
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        why = f"no {', '.join(missing)}: apt-get install --no-install-recommends prometheus prometheus-alertmanager"
        if os.environ.get(NEEDED):
            pytest.fail(f"{why} ({NEEDED} is set)")
        pytest.skip(why)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def checked(*command: str | Path) -> str:
    """What a tool says; it must be content."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def asked(url: str, body: object = None) -> Any:
    request = Request(url, None if body is None else json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urlopen(request, timeout=10) as answer:
        return json.load(answer)


class Listener:
    """A Slack-compatible webhook, Telegram's API and a dead man's address: all that Alertmanager may tell."""

    def __init__(self) -> None:
        self.slack: list[dict[str, Any]] = []
        self.telegram: list[dict[str, Any]] = []
        self.alive = 0
        self.port = 0

    @asynccontextmanager
    async def open(self) -> AsyncGenerator["Listener"]:
        app = web.Application()
        app.router.add_post("/services/T0/B0/hook", self._slack)
        app.router.add_post(f"/bot{TOKEN}/sendMessage", self._telegram)
        app.router.add_post("/alive", self._alive)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.port = int(runner.addresses[0][1])
            yield self
        finally:
            await runner.cleanup()

    async def _slack(self, request: web.Request) -> web.Response:
        self.slack += (await request.json())["attachments"]
        return web.Response(text="ok")

    async def _telegram(self, request: web.Request) -> web.Response:
        self.telegram.append(await request.json())
        message = {"message_id": 1, "date": 1, "chat": {"id": -1001, "type": "group"}, "text": "."}
        return web.json_response({"ok": True, "result": message})

    async def _alive(self, _request: web.Request) -> web.Response:
        self.alive += 1
        return web.Response()

    def told(self, alert: str, bot: str, *, over: bool = False) -> bool:
        """Whether Slack was told of it: that it is, or that it is over."""
        title = f"{'over' if over else 'critical'}: {alert} {bot}"
        return any(each["title"] == title for each in self.slack)


class Stand:
    """Both running, and what Prometheus says."""

    def __init__(self, url: str, listener: Listener, folder: Path) -> None:
        self.url, self.listener, self._folder = url, listener, folder

    async def query(self, expression: str) -> list[dict[str, Any]]:
        request = f"{self.url}/api/v1/query"
        body = await asyncio.to_thread(_posted, request, expression)
        return body["data"]["result"]

    async def firing(self) -> set[tuple[str, str]]:
        """(alert, bot)."""
        body = await asyncio.to_thread(asked, f"{self.url}/api/v1/alerts")
        return {
            (each["labels"]["alertname"], each["labels"].get("bot", ""))
            for each in body["data"]["alerts"]
            if each["state"] == "firing"
        }

    async def until_told(self, bot: str, *alerts: str, within_s: float = PATIENCE_S) -> None:
        """Each fires in Prometheus, and Slack was told."""
        seen: set[str] = set()

        async def holds() -> bool:
            firing = await self.firing()
            seen.update(alert for alert in alerts if (alert, bot) in firing)
            return seen >= set(alerts) and all(self.listener.told(alert, bot) for alert in alerts)

        await until(holds, within_s, lambda: f"{bot}: {alerts}, fired {seen}; {self.said()}")

    async def until_over(self, bot: str, *alerts: str, within_s: float = 2 * PATIENCE_S) -> None:
        """None fires any more, and Slack was told that."""

        async def holds() -> bool:
            firing = await self.firing()
            return all((alert, bot) not in firing and self.listener.told(alert, bot, over=True) for alert in alerts)

        await until(holds, within_s, lambda: f"{bot}: {alerts} are not over; {self.said()}")

    def said(self) -> str:
        titles = [each["title"] for each in self.listener.slack]
        logs = [(self._folder / f"{name}.log").read_text()[-800:] for name in ("prometheus", "alertmanager")]
        return f"told {titles} {logs}"


def _posted(url: str, expression: str) -> Any:
    from urllib.parse import urlencode

    with urlopen(Request(url, urlencode({"query": expression}).encode()), timeout=10) as answer:
        return json.load(answer)


async def until(
    holds: Callable[[], Awaitable[bool]], within_s: float, else_say: Callable[[], str] = lambda: "never"
) -> None:
    """Patience, not a measurement."""
    end = asyncio.get_running_loop().time() + within_s
    while not await holds():
        assert asyncio.get_running_loop().time() < end, f"not within {within_s:g} s: {else_say()}"
        await asyncio.sleep(0.3)


@asynccontextmanager
async def stand(folder: Path, bots: dict[str, int]) -> AsyncGenerator[Stand]:
    """Both of them, over the daemons at these ports. The rules are the shipped file; the shipped configuration of
    Alertmanager is filled as it is for a desk, and only waits less between messages of one alert."""
    async with Listener().open() as listener:
        tells, asks = free_port(), free_port()
        targets = [{"targets": [f"127.0.0.1:{port}"], "labels": {"bot": bot}} for bot, port in bots.items()]
        configuration = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(RULES)],
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{tells}"]}]}]},
            "scrape_configs": [{"job_name": "mmdaemon", "static_configs": targets}],
        }
        (folder / "prometheus.yml").write_text(json.dumps(configuration))  # which is YAML too
        (folder / "alertmanager.yml").write_text(filled(folder, listener.port))
        checked("promtool", "check", "config", folder / "prometheus.yml")
        checked("amtool", "check-config", folder / "alertmanager.yml")
        prometheus = (
            *("prometheus", f"--config.file={folder / 'prometheus.yml'}"),
            *(f"--storage.tsdb.path={folder / 'tsdb'}", f"--web.listen-address=127.0.0.1:{asks}"),
            "--log.level=warn",
        )
        alertmanager = (
            *("prometheus-alertmanager", f"--config.file={folder / 'alertmanager.yml'}"),
            *(f"--storage.path={folder / 'silences'}", f"--web.listen-address=127.0.0.1:{tells}"),
            *("--cluster.listen-address=", "--log.level=warn"),
        )
        async with process(folder / "alertmanager.log", *alertmanager), process(folder / "prometheus.log", *prometheus):
            for port in (tells, asks):
                await until(lambda port=port: _is_ready(port), PATIENCE_S)
            yield Stand(f"http://127.0.0.1:{asks}", listener, folder)


def filled(folder: Path, port: int) -> str:
    credentials = folder / "credentials"
    credentials.mkdir()
    address = f"http://127.0.0.1:{port}"
    texts = {
        "slack_url": f"{address}/services/T0/B0/hook",
        "telegram_bot_token": TOKEN,
        "telegram_chat_id": "-1001",
        "deadman_url": f"{address}/alive",
    }
    for name, text in texts.items():
        (credentials / name).write_text(f"{text}\n")
        (credentials / name).chmod(0o600)
    template = (MONITORING / "alertmanager.yml").read_text(encoding="utf-8")
    text = alerting.fill(template, credentials, address).text
    for interval in ("30s", "1m"):
        text = text.replace(f"group_interval: {interval}", "group_interval: 1s")
    return text


@asynccontextmanager
async def process(log: Path, *command: str) -> AsyncGenerator[None]:
    with log.open("wb") as out:
        started = await asyncio.create_subprocess_exec(*command, stdout=out, stderr=out)
        try:
            yield
        finally:
            if started.returncode is None:
                started.terminate()
                try:
                    async with asyncio.timeout(20):
                        await started.wait()
                except TimeoutError:
                    started.kill()
                    await started.wait()


async def _is_ready(port: int) -> bool:
    with suppress(URLError, ConnectionError, TimeoutError):
        return await asyncio.to_thread(_status, f"http://127.0.0.1:{port}/-/ready") == 200
    return False


def _status(url: str) -> int:
    with urlopen(url, timeout=5) as answer:
        return int(answer.status)
