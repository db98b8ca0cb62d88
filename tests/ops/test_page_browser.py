"""The operator page in a real browser: its figures are those of `status --json`, it is live, it kills with the token
and only with it, and no request leaves the machine.

The browser is Debian's Chromium, as in `tests/research/test_report_page.py`.
"""

import asyncio
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
from playwright.sync_api import Page, sync_playwright

from mmdaemon.clock import Clock
from mmdaemon.core.types import NS, GuardState
from mmdaemon.daemon.pace import sleep_ns
from mmdaemon.daemon.page_view import base_of, row_of
from mmdaemon.daemon.supervisor import Daemon
from mmdaemon.journal.state_dir import open_dir
from mmdaemon.ops.control import Answer, ControlServer, Request, Say
from mmdaemon.ops.page import About, History, PageServer, Row
from mmdaemon.ops.status import BreakView, Status
from mmdaemon.ops.token import read_token, unknown
from mmdaemon.research.session import play
from mmdaemon.settings import load
from mmdaemon.venues.simulated.market import SyntheticMarket
from mmdaemon.venues.simulated.stretches import Stretch
from mmdaemon.venues.simulated.venue import SimulatedVenue
from tests.cli.conftest import EAGER, START_TS_NS
from tests.cli.test_service import Bot, environment
from tests.ops.samples import picture
from tests.research.test_report_page import NEEDED, PAINTED

PATIENCE_MS = 60_000
CANVASES = 6
"""Price, ribbons, inventory, PnL, markouts, latency."""
CONFIG = """
[run]
crash_loop_starts = 0
[venue]
in_flight_max_s = 1.0
[simulated]
fills = "touch"
maker_fee_bps = -1.0
taker_fee_bps = 1.0
[cost]
min_edge_bps = 0.0
taker_probability = 0.0
[quotes]
band_gain = 0.0
resume_s = 0.0
[regimes.neutral_high_vol]
spread_min_bps = 0.1
levels_max = 3
skew_gain = 0.0
[metrics]
enabled = false
[page]
enabled = true
port = 0
"""


SHADED = """() => {
  const { u } = Drawing.charts[0], [t, ask, bid, fair] = u.data;
  const quoted = t.map((_, i) => i).filter(i => t[i + 1] > t[i] && [i - 1, i, i + 1].every(
    k => ask[k] != null && bid[k] != null));
  return quoted.filter(i => {
    const x = Math.round(u.valToPos(t[i] + 0.5, 'x', true));
    const y = Math.round(u.valToPos((ask[i] + fair[i]) / 2, 'y', true));
    const data = u.ctx.getImageData(x - 1, y - 1, 3, 3).data;
    return data.every((v, k) => k % 4 !== 3 || v > 20);
  }).length / quoted.length;
}"""
"""Of squares of nine pixels between fair value and our ask, the share that is filled throughout."""


MARKED = """() => {
  const { u, el } = Drawing.charts[0], told = new Set(), tip = el.querySelector('.tip');
  for (let left = 0; left < u.over.clientWidth; left += 5) for (let top = 0; top < u.over.clientHeight; top += 5) {
    u.setCursor({ left, top });
    if (!tip.hidden) told.add(tip.textContent);
  }
  return [...told];
}"""
"""What pointing at fills in the price plot tells, while the pointer is over it."""


@contextmanager
def opened(url: str, *, width: int = 1280, scheme: str = "light") -> Generator[tuple[Page, list[str], list[str]]]:
    """The page in a browser that reaches this machine alone, with (hosts asked, complaints) as they come."""
    chromium = shutil.which("chromium")
    if chromium is None:
        if os.environ.get(NEEDED) == "1":
            pytest.fail(f"{NEEDED}=1, and there is no `chromium` on the PATH")
        pytest.skip("no chromium on the PATH (Debian: apt-get install chromium)")
    hosts: list[str] = []
    complaints: list[str] = []

    def elsewhere(address: str) -> bool:
        return urlsplit(address).netloc != urlsplit(url).netloc

    with sync_playwright() as browsers:
        browser = browsers.chromium.launch(
            executable_path=chromium,
            args=["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"],
        )
        context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme=scheme,  # pyright: ignore[reportArgumentType]
        )
        context.route(elsewhere, lambda route: route.abort())
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("request", lambda request: hosts.append(urlsplit(request.url).netloc))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(url)
        page.wait_for_selector("html[data-drawn=yes]", state="attached")
        page.wait_for_timeout(200)  # uPlot paints in the next frame
        yield page, hosts, complaints
        assert set(hosts) == {urlsplit(url).netloc}
        assert context.cookies() == []
        assert page.evaluate("localStorage.length + sessionStorage.length") == 0
        context.close()
        browser.close()


# --- a scripted run, held at one moment -------------------------------------------------------------------------------


class Held:
    """A daemon as it stood at one moment, behind both of its doors."""

    def __init__(self, folder: Path, status: Status, history: History, last: Row, base: str) -> None:
        self.state = folder
        self.url = ""
        self._status = status
        self._history = history
        self._last = last
        self._base = base

    async def handle(self, _request: Request, _say: Say) -> Answer:
        return Answer(True, 0, [], self._status)

    @contextmanager
    def served(self) -> Generator[None]:
        up, stop = threading.Event(), asyncio.Event()
        loops: list[asyncio.AbstractEventLoop] = []

        async def serve() -> None:
            loops.append(asyncio.get_running_loop())
            control = ControlServer(self.state / "control.sock", self.handle)
            about = About(self._base, "USDT", "/state/token")
            page = PageServer(
                self._history, lambda: self._last, lambda: self._status, self.handle, unknown(), about, 0, print
            )
            await control.start()
            await page.start()
            self.url = f"http://127.0.0.1:{page.port}/"
            up.set()
            await stop.wait()
            await page.close()
            await control.close(grace_s=0.0)

        thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
        thread.start()
        assert up.wait(30)
        try:
            yield
        finally:
            loops[0].call_soon_threadsafe(stop.set)
            thread.join(30)


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Generator[Held]:
    folder = tmp_path_factory.mktemp("held") / "state"
    settings = load(None, EAGER, {}).settings
    market = SyntheticMarket(seed=7, start_ts_ns=START_TS_NS, schedule=((Stretch.BURSTING, 600), (Stretch.CALM, 60)))
    kept: list[tuple[Status, History, Row, str]] = []
    said: list[History] = []

    async def script(daemon: Daemon, _venue: SimulatedVenue, clock: Clock) -> str:
        history = History(600, clock.wall_ns)
        said.append(history)
        begun = clock.mono_ns()
        last = row_of(daemon.state, daemon.params, begun, clock.wall_ns())

        def is_telling() -> bool:
            sides = {v.side for v in daemon.parts.recorder.markouts.views() if v.horizon_s == 5 and v.count}
            quotes = daemon.state.guard.state is GuardState.RUNNING and daemon.state.decision is not None
            return len(sides) == 2 and quotes and bool(daemon.state.position.position_lots)

        while clock.mono_ns() - begun < 120 * NS or not is_telling():
            await sleep_ns(clock, NS)
            last = row_of(daemon.state, daemon.params, clock.mono_ns(), clock.wall_ns())
            history.sample(last)
        kept.append((daemon.parts.status(), history, last, base_of(daemon.params.instrument)))
        return "the script is over"

    state_dir = open_dir(folder, {}).lock()
    try:
        log: Any = lambda name, fields: said[0].note(name, fields) if said else None  # noqa: E731
        play(settings, state_dir, market, script, bot_tag="test", log=log)
    finally:
        state_dir.release()
    made = Held(folder, *kept[0])
    with made.served():
        yield made


def _at(data: Any, key: str) -> Any:
    for step in key.split("."):
        data = data[int(step)] if isinstance(data, list) else data[step]
    return data


def _agrees(value: Any, exact: str, shown: str, kind: str) -> bool:
    """What is shown is the value, rounded to the places that are shown."""
    if value is None:
        return (exact, shown) == ("", "unknown")
    if kind in {"text", "state"}:
        return exact == value and shown == (value.replace("_", " ") if kind == "state" else value)
    if kind == "up":
        return shown == ("up" if value else "DOWN")
    if float(exact) != float(value):
        return False
    number, _, unit = shown.replace(",", "").partition(" ")
    if kind == "span" or unit not in {"", "s", "ms", "%"}:
        return True
    places = len(number.partition(".")[2])
    scale = {"ms": 1e3, "%": 100.0}.get(unit, 1.0)
    rounding = 0.5 * 10**-places if kind not in {"px", "held"} else 0.5e-8 * float(value)
    return abs(float(number) - scale * float(value)) <= rounding * 1.000_001


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_offline_it_shows_what_status_says_of_a_scripted_run_and_draws_everything(
    held: Held, width: int, scheme: str
) -> None:
    command = [sys.executable, "-m", "mmdaemon", "status", "--json", "--state-dir", str(held.state)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment(), check=False)
    status = json.loads(done.stdout)
    with opened(held.url, width=width, scheme=scheme) as (page, _, complaints):
        figures: list[list[str]] = page.evaluate(
            "[...document.querySelectorAll('[data-key]')]"
            ".map(e => [e.dataset.key, e.dataset.exact, e.textContent, e.dataset.as])"
        )
        heard = list(complaints)
        shaded = page.evaluate(SHADED)
        painted = [canvas.evaluate(PAINTED) for canvas in page.query_selector_all("canvas")]
        too_wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        fair: int = page.evaluate("Drawing.charts[0].u.data[3].filter(v => v != null).length")
        log = page.locator("#notes").inner_text()
    assert heard == []
    wrong = [each for each in figures if not _agrees(_at(status, each[0]), *each[1:])]
    assert wrong == []
    keys = {each[0] for each in figures}
    assert {
        "guard",
        "position",
        "pnl.total",
        "equity",
        "fair",
        "quotes.0.addends_bps.half",
        "edge_bps.buy.exit",
    } <= keys
    assert {f"markouts.{i}.count" for i in range(len(status["markouts"]))} <= keys
    assert len(keys) > 80
    assert status["quotes"]
    assert len(painted) == CANVASES
    assert min(painted) > 8, "a plot is blank"
    assert fair >= 100
    assert shaded > 0.9, "the band between our quotes is not drawn"
    assert "→ running" in log
    assert too_wide <= 0


@pytest.mark.timeout(300)
def test_what_is_unknown_says_so_and_what_a_venue_says_stays_text(tmp_path: Path) -> None:
    attack = "<img src=x onerror=\"document.title='owned'\"></script><script>document.title='owned'</script>"
    status = picture(
        **dict.fromkeys(
            ("fair", "bid", "ask", "mark", "book_age_s", "loop_lag_s", "sigma_bps", "health", "average_px")
        ),
        position="0",
        **{key: {} for key in ("pnl", "edge_bps", "sides", "links")},
        **{key: [] for key in ("quotes", "markouts")},
        why_not_quoting=[attack],
        gate_closed=attack,
        absent={"buy": attack},
        breaks=[BreakView(attack, attack, True, attack, 1)],
    )
    names = [name for name in Row.__struct_fields__ if name not in {"ts_ms", "guard", "regime", "position"}]
    bare = Row(ts_ms=1e12, guard="starting", regime="up", position=0.0, **dict.fromkeys(names))
    history = History(60, lambda: 10**18)
    history.note("request_failed", {attack: attack})
    history.sample(bare)
    held = Held(tmp_path, status, history, bare, "BTC")
    with held.served(), opened(held.url) as (page, _, complaints):
        for key in ("fair", "pnl.total", "pnl.day", "book_age_s", "links.public", "mark"):
            assert page.locator(f"[data-key='{key}']").first.inner_text() == "unknown", key
        assert page.locator("[data-key=average_px]").inner_text() == "none", "it is flat"
        assert page.locator("#why li").inner_text() == attack
        assert page.locator("#gate").inner_text() == f"Gate closed: {attack}"
        assert page.locator("[data-key='breaks.0.detail']").inner_text() == attack
        assert attack in page.locator("#notes").inner_text()
        assert page.locator("#read").inner_text() == "The venue's truth was not read yet."
        assert "No fill is old enough" in page.locator("#markout-plot").inner_text()
        assert page.locator("img").count() == 0
        assert "owned" not in page.title()
    assert complaints == []


@pytest.mark.timeout(300)
def test_by_keyboard_and_for_a_reader_of_screens(held: Held) -> None:
    with opened(held.url) as (page, hosts, complaints):
        page.keyboard.press("Tab")
        kill = page.get_by_role("button", name="Kill…")
        assert kill.evaluate("e => e === document.activeElement")
        page.keyboard.press("Enter")
        dialog = page.get_by_role("dialog", name="Kill BTCUSDT")
        dialog.wait_for()
        token = dialog.get_by_label("Token")
        assert token.evaluate("e => e === document.activeElement")
        assert token.get_attribute("type") == "password"
        assert "/state/token" in dialog.inner_text()
        page.keyboard.type("not it")
        page.keyboard.press("Escape")
        dialog.wait_for(state="hidden")
        kill.click()
        assert token.input_value() == ""
        page.keyboard.press("Escape")
        figures = page.get_by_role("figure")
        assert [figures.nth(i).get_attribute("aria-label") for i in range(figures.count())] == [
            "Price", "Guard and regime", "Inventory", "PnL", "Markout after our fills", "Share answered within",
        ]  # fmt: skip
        for name in ("Ladder", "Required edge", "Markouts", "Latency", "Open breaks", "Log"):
            assert page.get_by_role("region", name=name, exact=True).last.get_attribute("tabindex") == "0"
        nameless = page.evaluate(
            "[...document.querySelectorAll('button, input')]"
            ".filter(e => !(e.labels && e.labels.length) && !e.textContent.trim()).length"
        )
        assert nameless == 0
        page.get_by_role("button", name="5 min", exact=True).click()
        assert page.get_by_role("button", name="5 min", exact=True).get_attribute("aria-pressed") == "true"
    assert complaints == []
    assert len(hosts) == 2, "the document and its stream"


# --- a daemon ---------------------------------------------------------------------------------------------------------


@pytest.mark.timeout(300)
def test_live_with_orders_and_a_position_it_kills_by_the_token_alone_and_says_when_it_is_not_live(
    tmp_path: Path,
) -> None:
    config, state = tmp_path / "bot.toml", tmp_path / "state"
    config.write_text(CONFIG)
    command = [sys.executable, "-m", "mmdaemon", "run", "--config", str(config), "--state-dir", str(state)]
    log = (tmp_path / "log").open("ab")
    with log, subprocess.Popen(command, stderr=log, env=environment()) as process:
        try:
            with ThreadPoolExecutor(1) as apart:  # playwright has a loop in this thread, and so has each question
                _live(Bot(process, state), state, lambda ask: apart.submit(ask).result())
        finally:
            if process.poll() is None:
                process.kill()
    said = (tmp_path / "log").read_text()
    assert said.count("page_token_refused") == 1
    assert read_token(state).secret.reveal() not in said


def until(page: Page, expression: str) -> None:
    """Playwright's own waiting evaluates text in the page, which its content policy does not let it."""
    deadline = time.monotonic() + PATIENCE_MS / 1e3
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, f"never {expression}"
        page.wait_for_timeout(50)


def _live(bot: Bot, state: Path, apart: Callable[[Callable[[], Any]], Any]) -> None:
    before = bot.trading()
    with opened(f"http://127.0.0.1:{before.page_port}/") as (page, _, _complaints):
        until(page, "document.getElementById('live').className === 'live'")
        span = "document.querySelector('[data-key=uptime_s]').dataset.exact"
        seen = float(page.evaluate(span))
        until(page, f"Number({span}) > {seen} + 1.5")
        rows = "Drawing.charts[0].u.data[0].length"
        drawn = page.evaluate(rows)
        until(page, f"{rows} > {drawn}")
        until(page, "document.querySelectorAll('#quotes th.buy').length > 0")

        page.evaluate("document.getElementById('plots').scrollIntoView()")
        page.locator(".panel .u-over").first.hover()
        first = set(page.evaluate(MARKED))
        deadline = time.monotonic() + PATIENCE_MS / 1e3
        while not (new := set(page.evaluate(MARKED)) - first):
            assert time.monotonic() < deadline, "no fill that came since is in the plot"
            page.wait_for_timeout(100)
        assert re.match(r"(bought|sold) [\d.]+ BTC at [\d,.]+\nfee -?[\d.]+ USDT\nposition ", new.pop())

        def throw(token: str) -> str:
            page.get_by_label("Token").fill(token)
            page.get_by_role("button", name="Kill now").click()
            until(page, "!document.getElementById('throw').disabled")
            return page.locator("#done").inner_text()

        page.get_by_role("button", name="Kill…").click()
        page.get_by_label("Reason").fill("drill by page")
        assert "this is not the token; nothing was done" in throw("x" * 43)
        assert apart(bot.status).kill == "armed"
        done = throw(read_token(state).secret.reveal())
        assert "gate closed; cancelling everything" in done
        assert "nothing rests" in done
        page.get_by_role("button", name="Close").click()
        after = apart(lambda: bot.wait_for("killed", lambda s: s.kill == "killed"))
        assert (after.guard, after.open_orders) == ("hard_stop", 0)
        assert after.position not in {"0", "-0"}, "a kill does not flatten unless asked to"
        until(page, "document.querySelector('[data-key=kill]').textContent === 'killed'")
        told = apart(bot.status)
        for key in ("guard", "kill", "position", "open_orders", "counts.fills_buy", "counts.fills_sell", "pnl.fees"):
            exact = page.locator(f"[data-key='{key}']").first.get_attribute("data-exact")
            assert exact == str(_at(msgspec.to_builtins(told), key)), key
        assert page.locator("#why li").first.inner_text()
        assert page.locator("#state").get_attribute("data-guard") == "hard_stop"
        assert "hard stop" in page.title()
        with closing(sqlite3.connect(state / "journal.sqlite")) as db:
            actions = db.execute("SELECT action, reason, who FROM operator_actions").fetchall()
        assert [(action, reason) for action, reason, _ in actions] == [("kill", "drill by page")]
        assert actions[0][2].startswith("page 127.0.0.1:")
        assert bot.stop() == 0
        until(page, "document.getElementById('live').textContent.startsWith('NOT LIVE')")
        assert "nothing heard for" in page.locator("#live").inner_text()
