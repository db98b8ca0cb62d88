"""The page: its text is the JSON's, what the journal says stays text, and a browser without a network draws it all.

The browser is Debian's Chromium, found as `chromium` on the PATH; where there is none those tests are skipped, unless
`MMDAEMON_NEED_CHROMIUM=1` makes that a failure.
"""

import base64
import hashlib
import html
import json
import os
import re
import shutil
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest
from playwright.sync_api import Page, sync_playwright

from mmdaemon.core.events import OperatorAction
from mmdaemon.journal import rows
from mmdaemon.ops import drawing
from mmdaemon.research.report import write_report
from tests.journal.samples import INSTRUMENT, WALL_NS, fill, write
from tests.research.report_journals import at_s, bare_journal, change, decision_rows, made, minute, play_both, seen

HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">&amp;'\""
NEEDED = "MMDAEMON_NEED_CHROMIUM"
PANELS = 10
"""Canvases: price, ribbons, inventory, PnL, two edges, what moves both quotes, fill ratio, latency, markouts."""

Json = dict[str, object]


@pytest.fixture(scope="module")
def page_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    write_report(play_both(folder / "state"), folder / "report.html", 1)
    return folder / "report.html"


@pytest.fixture
def hostile_path(tmp_path: Path) -> Path:
    """A journal whose every text is an attack."""
    journal = bare_journal(tmp_path)
    action = OperatorAction(*at_s(3), None, "pause", HOSTILE, HOSTILE)
    write(
        journal,
        [
            rows.operator_row(1, 9, action, HOSTILE),
            rows.kill_row(1, *at_s(4), "killed", HOSTILE, {"said": HOSTILE}),  # pyright: ignore[reportArgumentType]
            rows.break_seen_row(1, 9, at_s(3)[1], HOSTILE, "reconcile", True, HOSTILE),
            *decision_rows((4, seen(2), made(990, 1010))),
            rows.fill_row(1, 5, fill(HOSTILE, HOSTILE), INSTRUMENT, 1000),
            minute(60, 12),
        ],
    )
    change(journal, "UPDATE runs SET provenance = ?, version = ?", json.dumps({HOSTILE: HOSTILE}), HOSTILE)
    write_report(journal, tmp_path / "hostile.html")
    return tmp_path / "hostile.html"


class Keyed(HTMLParser):
    """Text of every element with a `data-key`, and the content of each script and style, as a browser splits them."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.said: dict[str, str] = {}
        self.blocks: list[tuple[str, str]] = []
        self.policy = ""
        self._open: list[str | None] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        given = dict(attrs)
        if given.get("http-equiv") == "Content-Security-Policy":
            self.policy = given["content"] or ""
        if tag in {"meta", "path", "rect"}:
            return
        if (hinted := given.get("data-title-key")) is not None:
            self.said[hinted] = given["title"] or ""
        self._open.append(given.get("data-key"))
        if self._open[-1] is not None:
            self.said[self._open[-1]] = ""
        if tag in {"script", "style"}:
            self.blocks.append((given.get("type") or tag, ""))

    def handle_endtag(self, tag: str) -> None:
        if self._open and tag not in {"meta", "path", "rect"}:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        if self._open and (key := self._open[-1]) is not None:
            self.said[key] += data
        if self.cdata_elem:
            kind, text = self.blocks[-1]
            self.blocks[-1] = (kind, text + data)


def parsed(path: Path) -> Keyed:
    page = Keyed()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def at(data: object, key: str) -> object:
    for step in key.split("."):
        data = data[int(step)] if isinstance(data, list) else data[step]  # pyright: ignore[reportIndexIssue]
    return data


def strings(data: object, key: str = "") -> Iterator[tuple[str, str]]:
    """Every text in the JSON with its path; what is only drawn left out."""
    match data:
        case dict():
            for name, value in data.items():
                if name != "drawn":
                    yield from strings(value, f"{key}.{name}" if key else str(name))
        case list():
            for i, value in enumerate(data):
                yield from strings(value, f"{key}.{i}")
        case str():
            yield key, data
        case _:
            return


# --- the file ---------------------------------------------------------------------------------------------------------


def test_the_json_in_the_page_is_the_json_beside_it(page_path: Path) -> None:
    embedded = [text for kind, text in parsed(page_path).blocks if kind == "application/json"]
    assert embedded == [page_path.with_suffix(".json").read_text(encoding="utf-8")]


@pytest.mark.parametrize("which", ["page_path", "hostile_path"])
def test_every_figure_in_the_page_is_the_json_s_and_every_one_of_the_json_is_in_the_page(
    which: str, request: pytest.FixtureRequest
) -> None:
    path: Path = request.getfixturevalue(which)
    data: Json = json.loads(path.with_suffix(".json").read_bytes())
    said = parsed(path).said
    assert len(said) > 100
    assert said == {key: at(data, key) for key in said}
    # `value`, `unit` and `name` are for programs, and the run's numbers too.
    for_programs = re.compile(r"(\.value|\.unit|attribution\.\d+\.name|run\.(account_epoch|quote|base|version|mode))$")
    missing = [key for key, text in strings(data) if key not in said and text and not for_programs.search(key)]
    assert missing == []


def test_nothing_in_the_page_points_outside(page_path: Path) -> None:
    text = page_path.read_text(encoding="utf-8")
    assert parsed(page_path).tags.isdisjoint({"link", "img", "iframe", "object", "embed", "base", "form", "a"})
    assert set(re.findall(r"https?://[^\s\"'<>]+", text)) <= {"https://github.com/leeoniya/uPlot"}
    assert not re.findall(r"url\(|@import|\ssrc=|\shref=", text)


def test_the_policy_allows_our_blocks_and_nothing_else(page_path: Path) -> None:
    page = parsed(page_path)
    rules = dict(rule.strip().split(" ", 1) for rule in page.policy.split(";"))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"

    def hashes(kind: str) -> list[str]:
        blocks = [text.encode() for its, text in page.blocks if its == kind]
        return [f"'sha256-{base64.b64encode(hashlib.sha256(block).digest()).decode()}'" for block in blocks]

    assert rules["script-src"].split() == hashes("script")
    assert rules["style-src"].split() == hashes("style")
    assert "unsafe" not in page.policy


def test_what_is_vendored_is_as_published() -> None:
    """The files of uplot-1.6.32.tgz in the npm registry, unchanged."""
    published = {
        "uplot-1.6.32.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
        "uplot-1.6.32.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
        "uplot-LICENSE.txt": "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd",
    }
    assert {name: hashlib.sha256(drawing.asset(name).encode()).hexdigest() for name in published} == published


def test_the_licence_of_what_is_vendored_is_in_the_page(page_path: Path) -> None:
    text = page_path.read_text(encoding="utf-8")
    assert "Copyright (c) 2022 Leon Sorokin" in text
    assert "The above copyright notice and this permission notice shall be included" in text


def test_what_the_journal_says_stays_text(hostile_path: Path) -> None:
    page = parsed(hostile_path)
    assert "img" not in page.tags
    assert page.said["actions.0.reason"] == page.said["actions.0.who"] == page.said["kills.0.reason"] == HOSTILE
    assert HOSTILE in page.said.values()
    raw = hostile_path.read_text(encoding="utf-8")
    assert HOSTILE not in raw
    assert html.escape(HOSTILE) in raw


def test_files_are_replaced_whole_and_are_their_owner_s(page_path: Path) -> None:
    write_report(page_path.parent / "state" / "journal.sqlite", page_path, 1)
    assert sorted(path.name for path in page_path.parent.iterdir()) == ["report.html", "report.json", "state"]
    assert {path.stat().st_mode & 0o777 for path in page_path.parent.glob("report.*")} == {0o600}


# --- in a browser -----------------------------------------------------------------------------------------------------


@contextmanager
def opened(path: Path, *, width: int = 1280, scheme: str = "light") -> Generator[tuple[Page, list[str], list[str]]]:
    """The page in a browser without a network, with (requests, complaints) as they come."""
    chromium = shutil.which("chromium")
    if chromium is None:
        if os.environ.get(NEEDED) == "1":
            pytest.fail(f"{NEEDED}=1, and there is no `chromium` on the PATH")
        pytest.skip("no chromium on the PATH (Debian: apt-get install chromium)")
    requests: list[str] = []
    complaints: list[str] = []
    with sync_playwright() as browsers:
        browser = browsers.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        context = browser.new_context(
            offline=True,
            viewport={"width": width, "height": 900},
            color_scheme=scheme,  # pyright: ignore[reportArgumentType]
        )
        page = context.new_page()
        page.on("request", lambda request: requests.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-drawn=yes]", state="attached", timeout=20_000)
        page.wait_for_timeout(200)  # uPlot paints in the next frame
        yield page, requests, complaints
        context.close()
        browser.close()


PAINTED = """canvas => {
  const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  const colours = new Set();
  for (let i = 0; i < data.length; i += 4) if (data[i + 3]) colours.add((data[i] << 16) | (data[i+1] << 8) | data[i+2]);
  return colours.size;
}"""
MARKED = """side => {
  const u = Drawing.charts[0].u, report = JSON.parse(document.getElementById('report').textContent);
  const f = report.drawn.fills;
  const name = Drawing.colour(side > 0 ? 'blue' : 'red');
  return Math.max(...f.t_ms.map((ms, i) => {
    if (f.side[i] !== side) return 0;
    const x = Math.round(u.valToPos(report.run.started_ts_ns / 1e9 + ms / 1000, 'x', true));
    const y = Math.round(u.valToPos(f.price[i], 'y', true));
    const data = u.ctx.getImageData(x - 2, y - 2, 5, 5).data;
    let same = 0;
    for (let k = 0; k < data.length; k += 4)
      same += '#' + [0, 1, 2].map(c => data[k + c].toString(16).padStart(2, '0')).join('') === name;
    return same;
  }));
}"""
"""Most pixels of a side's colour in a square of 25 around a fill of it: a thin line has five of them."""
COVERED = """() => {
  const u = Drawing.charts[1].u, box = u.bbox, data = u.ctx.getImageData(box.left, box.top, box.width, box.height).data;
  let painted = 0;
  for (let i = 3; i < data.length; i += 4) painted += data[i] > 40;
  return painted / (data.length / 4);
}"""


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_offline_it_asks_for_nothing_complains_of_nothing_and_draws_everything(
    page_path: Path, width: int, scheme: str
) -> None:
    data: Json = json.loads(page_path.with_suffix(".json").read_bytes())
    with opened(page_path, width=width, scheme=scheme) as (page, requests, complaints):
        said: dict[str, str] = page.evaluate(
            "Object.fromEntries([...document.querySelectorAll('[data-key]')].map(e => [e.dataset.key, e.textContent]))"
        )
        heard = list(complaints)  # before pixels are read back, which Chromium has an opinion on
        marked = [page.evaluate(MARKED, 1), page.evaluate(MARKED, -1)]
        covered = page.evaluate(COVERED)
        painted = [canvas.evaluate(PAINTED) for canvas in page.query_selector_all("canvas")]
        too_wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert page.evaluate("document.getElementById('report').textContent") == page_path.with_suffix(
            ".json"
        ).read_text(encoding="utf-8")
    assert requests == [page_path.as_uri()]
    assert heard == []
    assert len(said) > 500
    assert said == {key: at(data, key) for key in said}
    assert len(painted) == PANELS
    assert min(painted) > 8, "a plot is blank"
    assert min(marked) > 7, "fills are not drawn"
    assert covered > 0.6, "ribbons are not drawn"
    assert too_wide <= 0


CUT = """() => [...document.querySelectorAll('.table')].map(e => {
  const style = getComputedStyle(e);
  return [e.getAttribute('aria-label'), e.scrollWidth - e.clientWidth, style.backgroundAttachment, style.overflowX];
})"""
"""Of each table: how much of it is beyond its right edge, and what says so."""


def test_on_a_phone_reasons_are_read_whole_and_a_table_that_goes_on_says_so(page_path: Path) -> None:
    with opened(page_path, width=390) as (page, _, complaints):
        tables = page.evaluate(CUT)
    beyond = {name: over for name, over, _, _ in tables}
    assert beyond["stops"] <= 0
    assert beyond["latencies"] > 0
    assert beyond["fills"] > 0
    assert {(edges, scrolls) for _, _, edges, scrolls in tables} == {("local, local, scroll, scroll", "auto")}
    assert complaints == []


def test_reasons_are_in_words_and_their_names_are_where_the_pointer_rests(page_path: Path) -> None:
    with opened(page_path) as (page, _, _complaints):
        cell = page.locator("#stops td[title*=operator_pause]").first
        assert "soft pause (an operator paused it" in cell.inner_text()
        assert "operator_pause" not in page.locator("#stops").inner_text()


def test_pointing_at_a_fill_and_at_a_ribbon_tells_of_it(page_path: Path) -> None:
    with opened(page_path) as (page, _, complaints):
        page.evaluate("document.getElementById('plots').scrollIntoView()")
        price = page.locator(".panel .u-over").nth(0).bounding_box()
        assert price
        share = page.evaluate(
            "(() => { const r = JSON.parse(document.getElementById('report').textContent);"
            "return r.drawn.fills.t_ms[3] / (r.run.last_ts_ns - r.run.started_ts_ns) * 1e6; })()"
        )
        tip = page.locator(".tip:not([hidden])")
        for y in range(2, int(price["height"]), 4):
            page.mouse.move(price["x"] + price["width"] * share, price["y"] + y)
            if tip.count():
                break
        told = tip.inner_text()
        assert re.search(r"(bought|sold) [\d.]+ BTC at", told)
        assert "fee " in told
        assert "after 5 s " in told
        legend = page.locator(".panel .u-legend").nth(1)
        assert re.search(r"position\s*-?[\d.]+", legend.inner_text()), "the other panels tell of the same moment"
        ribbon = page.locator(".panel .u-over").nth(1).bounding_box()
        assert ribbon
        page.mouse.move(ribbon["x"] + ribbon["width"] / 2, ribbon["y"] + 10)
        assert re.search(r"from \d{4}-\d\d-\d\d", tip.inner_text())
        page.mouse.move(5, 5)
        assert tip.count() == 0
    assert complaints == []


def test_zooming_one_panel_zooms_all_and_the_button_ends_it(page_path: Path) -> None:
    with opened(page_path) as (page, _, complaints):
        page.evaluate("document.getElementById('plots').scrollIntoView()")
        whole = page.locator("#range").inner_text()
        price = page.locator(".panel .u-over").nth(0).bounding_box()
        assert price
        before = page.locator("canvas").nth(3).evaluate("c => c.toDataURL()")
        page.mouse.move(price["x"] + 200, price["y"] + 40)
        page.mouse.down()
        page.mouse.move(price["x"] + 320, price["y"] + 60, steps=4)
        page.mouse.up()
        page.wait_for_timeout(200)
        zoomed = page.locator("#range").inner_text()
        assert zoomed != whole
        assert page.locator("canvas").nth(3).evaluate("c => c.toDataURL()") != before
        page.click("#whole")
        page.wait_for_timeout(200)
        assert page.locator("#range").inner_text() == whole
        page.locator("#stops tbody tr").first.click()
        page.wait_for_timeout(200)
        assert page.locator("#range").inner_text() not in {whole, zoomed}
    assert complaints == []


def test_nothing_that_the_journal_says_runs(hostile_path: Path) -> None:
    with opened(hostile_path) as (page, requests, complaints):
        assert "mmdaemon report" in page.title()
        assert page.locator("[data-key='actions.0.reason']").text_content() == HOSTILE
        assert page.locator("img").count() == 0
    assert requests == [hostile_path.as_uri()]
    assert complaints == []


def test_a_run_of_which_nothing_is_known_is_a_page_too(tmp_path: Path) -> None:
    write_report(bare_journal(tmp_path), tmp_path / "bare.html")
    with opened(tmp_path / "bare.html") as (page, requests, complaints):
        assert page.locator("[data-key='figures.fill_ratio.shown']").text_content() == "unknown"
        assert "so PnL over time is unknown" in page.locator("#panels").inner_text()
        assert page.locator("#panels canvas").count() < PANELS
    assert requests == [(tmp_path / "bare.html").as_uri()]
    assert complaints == []


def test_what_is_nothing_all_the_time_is_drawn_at_nothing(tmp_path: Path) -> None:
    """Without signal, skew and carry, and with no fill: a scale from 0 to 0 has no axis and no line."""
    journal = bare_journal(tmp_path)
    looked, quoted = msgspec.structs.replace(seen(2), carry_bps=0.0), made(990, 1010, skew_bps=0.0)
    write(journal, [*decision_rows((4, looked, quoted), (40, looked, quoted)), minute(60, 12)])
    write_report(journal, tmp_path / "flat.html")
    with opened(tmp_path / "flat.html") as (page, _requests, complaints):
        scales: list[list[float | str]] = page.evaluate(
            "Drawing.charts.filter(c => c.u.scales.y).map(c => [c.u.root.parentElement.querySelector('h3').textContent,"
            "c.u.scales.y.min, c.u.scales.y.max])"
        )
    assert complaints == []
    assert ["What moves both quotesbps of fair value", 0, 1] in scales
    assert [name for name, low, high in scales if low == high] == []


def test_moments_are_utc(tmp_path: Path) -> None:
    write_report(bare_journal(tmp_path), tmp_path / "bare.html")
    assert f"{WALL_NS}" in (tmp_path / "bare.json").read_text(encoding="utf-8")
    with opened(tmp_path / "bare.html") as (page, _, _complaints):
        assert page.locator("#range").inner_text().startswith("2026-09-21 14:13:20")
        assert page.locator("[data-key='run.started']").text_content() == "2026-09-21 14:13:20.000"
