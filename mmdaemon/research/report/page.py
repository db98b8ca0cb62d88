"""A Report -> one HTML file that needs nothing else: no network, no other file, no server.

Every figure stands in the HTML as text, with a `data-key` that is its path in the JSON; the script only draws. The JSON
inside the page is the JSON file, byte for byte. What the journal says is escaped, and the content policy lets no script
run but ours.
"""

import html
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from mmdaemon.ops import drawing
from mmdaemon.research.report.reading import read_report
from mmdaemon.research.report.records import Figure, Part, Report

_PACKAGE = "mmdaemon.research.report"
_HEADLINE = ("pnl", "running_share", "both_sides", "fill_ratio", "largest_position")
"""Figures that are shown large."""
_LARGE = ("simulated", "not ended", "no result")
"""Assumptions that are shown large."""
_GROUPS = {
    "Money": ("equity_start", "equity_end", "transfers", "pnl_of_run", "mark", "volume"),
    "Inventory": ("position_end", "position_cap"),
    "Fills": ("fills_buy", "fills_sell", "fills_taker"),
    "Orders": ("orders", "amends", "cancels"),
    "Quoting": ("one_side", "no_side", "stops", "signal", "signal_share"),
    "Record": ("events", "decisions", "decisions_a_day", "digest"),
}
"""The others; what is in none of these is time by guard state."""


class Column(NamedTuple):
    field: str
    title: str
    kind: str = ""
    """Class of its cells: "n" for figures, "w" for prose."""
    hint: str = ""
    """The field that is shown where the pointer rests on it."""


def write_report(journal: Path, out: Path, epoch: int | None = None) -> Report:
    """Write the page to `out`, and the JSON beside it with the suffix `.json`. Each replaces its file at once, whole.

    Raises:
        JournalUnreadable: see `read_report`.
        OSError: a file cannot be written.
        ValueError: `out` itself ends in `.json`.
    """
    if out.suffix == ".json":
        raise ValueError(f"{out} is where the JSON would go; name the page, for example {out.with_suffix('.html')}")
    report = read_report(journal, epoch)
    data = json_of(report)
    page = page_of(report, data).encode()
    _replace(out.with_suffix(".json"), data)
    _replace(out, page)
    return report


def _replace(path: Path, data: bytes) -> None:
    """Readable by its owner alone, as the journal is."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(data)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def json_of(report: Report) -> bytes:
    """Safe to stand in HTML: no `<` in it, so nothing in it ends its element."""
    return msgspec.json.encode(report).replace(b"<", b"\\u003c")


def page_of(report: Report, data: bytes | None = None) -> str:
    """The page. `data` is `json_of(report)` where the caller has it already."""
    scripts = (*drawing.scripts(), drawing.asset("page.js", _PACKAGE))
    styles = (*drawing.page_stylesheets(), drawing.asset("page.css", _PACKAGE))
    run = report.run
    return "\n".join(
        (
            "<!DOCTYPE html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{drawing.content_policy(scripts, styles)}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark"><meta name="referrer" content="no-referrer">',
            f"<title>{html.escape(f'{run.symbol} run {run.epoch}, {run.started[:10]} - mmdaemon report')}</title>",
            *(f"<style>{style}</style>" for style in styles),
            "</head><body><main>",
            *_head(report),
            *_assumptions(report),
            *_headline(report),
            *_money(report),
            *_plots(report),
            *_quoting(report),
            *_answers(report),
            *_happened(report),
            *_fills(report),
            "</main>",
            f'<script type="application/json" id="report">{(data or json_of(report)).decode()}</script>',
            *(f"<script>{script}</script>" for script in scripts),
            "</body></html>\n",
        )
    )


# --- pieces -----------------------------------------------------------------------------------------------------------


def _said(key: str, text: str, tag: str = "span", kind: str = "", hint: tuple[str, str] = ("", "")) -> str:
    """Text of the JSON at `key`, as it is there; `hint` likewise, as (key, text)."""
    named = f' class="{kind}"' if kind else ""
    if hint[1]:
        named += f' title="{html.escape(hint[1])}" data-title-key="{html.escape(hint[0])}"'
    return f'<{tag}{named} data-key="{html.escape(key)}">{html.escape(text)}</{tag}>'


def _table(
    key: str, rows: Sequence[msgspec.Struct], columns: Sequence[Column], none: str, tall: bool = False
) -> Iterable[str]:
    if not rows:
        yield f'<p class="none">{html.escape(none)}</p>'
        return
    kind = "table tall" if tall else "table"
    yield f'<div class="{kind}" tabindex="0" role="region" aria-label="{html.escape(key)}">'
    yield "<table><thead><tr>"
    yield "".join(f'<th scope="col" class="{column.kind}">{html.escape(column.title)}</th>' for column in columns)
    yield "</tr></thead><tbody>"
    for i, row in enumerate(rows):
        cells = (
            _said(
                f"{key}.{i}.{c.field}",
                str(getattr(row, c.field)),
                "td",
                c.kind,
                (f"{key}.{i}.{c.hint}", str(getattr(row, c.hint))) if c.hint else ("", ""),
            )
            for c in columns
        )
        yield f"<tr>{''.join(cells)}</tr>"
    yield "</tbody></table></div>"


def _figure(key: str, figure: Figure, large: bool = False) -> str:
    note = _said(f"figures.{key}.note", figure.note, kind="note") if figure.note else ""
    return (
        f'<div class="{"figure large" if large else "figure"}">{_said(f"figures.{key}.label", figure.label, "dt")}'
        f"<dd>{_said(f'figures.{key}.shown', figure.shown)}{note}</dd></div>"
    )


# --- the page, from the top -------------------------------------------------------------------------------------------


def _head(report: Report) -> Iterable[str]:
    run = report.run
    yield f"<header><p class=brand>mmdaemon report</p><h1>{_said('run.symbol', run.symbol)}"
    mode = "" if run.mode == run.venue else f", {_said('run.mode', run.mode)}"
    yield f"<small>run {_said('run.epoch', run.epoch)} at {_said('run.venue', run.venue)}{mode}</small></h1>"
    why = f"; {_said('run.end_reason', run.end_reason)}" if run.end_reason else ""
    to = "; " if run.ended.startswith("not ended") else " to "
    yield f"<p>{_said('run.started', run.started)}{to}{_said('run.ended', run.ended)} UTC, "
    yield f"{_said('run.duration', run.duration)}{why}</p></header>"


def _assumptions(report: Report) -> Iterable[str]:
    yield '<section id="assumptions"><h2>What this rests on</h2><dl class="assumptions">'
    for i, each in enumerate(report.assumptions):
        first = ' class="first"' if each.name in _LARGE else ""
        name, text = _said(f"assumptions.{i}.name", each.name, "dt"), _said(f"assumptions.{i}.text", each.text, "dd")
        yield f"<div{first}>{name}{text}</div>"
    yield "</dl></section>"


def _headline(report: Report) -> Iterable[str]:
    yield '<section id="figures"><h2>What it came to</h2><dl class="headline">'
    yield from (_figure(key, report.figures[key], large=True) for key in _HEADLINE)
    yield '</dl><div class="groups">'
    named = {*_HEADLINE, *(key for keys in _GROUPS.values() for key in keys)}
    groups = {**_GROUPS, "Time by guard state": tuple(key for key in report.figures if key not in named)}
    for title, keys in groups.items():
        yield f"<div><h3>{title}</h3><dl>"
        yield from (_figure(key, report.figures[key]) for key in keys if key in report.figures)
        yield "</dl></div>"
    yield "</div></section>"


def _money(report: Report) -> Iterable[str]:
    yield '<section id="attribution"><h2>Where the PnL comes from</h2><div class="table"><table class="parts"><tbody>'
    for i, part in enumerate(report.attribution):
        key = f"attribution.{i}"
        yield f"<tr>{_said(f'{key}.label', part.label, 'th')}{_said(f'{key}.shown', part.shown, 'td', 'n')}"
        yield f'<td class="bar">{_bar(part)}</td>{_said(f"{key}.meaning", part.meaning, "td", "w")}</tr>'
    pnl = report.figures["pnl"]
    yield f"</tbody><tfoot><tr><th>PnL</th>{_said('figures.pnl.shown', pnl.shown, 'td', 'n')}"
    yield '<td></td><td class="w">the sum of the above</td></tr></tfoot></table></div><ul class="checks">'
    for i, check in enumerate(report.checks):
        verdict = {True: "good", False: "bad", None: "open"}[check.ok]
        yield f'<li class="{verdict}">{_said(f"checks.{i}.verdict", check.verdict, "strong")} '
        yield f"{_said(f'checks.{i}.name', check.name)}: {_said(f'checks.{i}.text', check.text)}</li>"
    yield "</ul></section>"


def _bar(part: Part) -> str:
    """Right of the middle for a gain, left of it for a loss."""
    width = abs(part.share) * 50
    x = 50 if part.share >= 0 else 50 - width
    return (
        '<svg viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="part-{html.escape(part.name)}" x="{x:.2f}" y="0" width="{width:.2f}" height="8"/>'
        '<path d="M50 0V8"/></svg>'
    )


def _plots(report: Report) -> Iterable[str]:
    yield '<section id="plots"><h2>Over time</h2><div class="range"><span id="range"></span>'
    yield '<button type="button" id="whole">Whole run</button>'
    yield '<span class="hint">drag to zoom, double-click for the whole</span></div>'
    yield "<noscript><p>Plots need JavaScript; every figure is in the tables.</p></noscript>"
    yield '<div id="panels"></div>'
    yield '<details class="notes"><summary>What the plots show, and what they leave out</summary><dl>'
    for i, each in enumerate(report.notes):
        name, text = _said(f"notes.{i}.name", each.name, "dt"), _said(f"notes.{i}.text", each.text, "dd")
        yield f"<div>{name}{text}</div>"
    yield "</dl></details></section>"


def _quoting(report: Report) -> Iterable[str]:
    yield '<section id="stops"><h2>Longest times without a quote</h2>'
    columns = (Column("started", "from, UTC"), Column("lasted", "lasted", "n"), Column("why", "why", "w", "codes"))
    yield from _table("stops", report.stops, columns, "There was none.")
    yield "</section>"


def _answers(report: Report) -> Iterable[str]:
    yield '<section id="latency"><h2>Latency</h2><div id="latency-plot"></div>'
    columns = (
        *(Column("name", ""), Column("count", "answered", "n"), Column("p50", "p50", "n"), Column("p90", "p90", "n")),
        *(Column("p99", "p99", "n"), Column("most", "longest", "n"), Column("unanswered", "no answer", "n")),
        Column("what", "measured", "w"),
    )
    yield from _table("latencies", report.latencies, columns, "Nothing was sent.")
    yield '</section><section id="markouts"><h2>Markouts, bps</h2><div id="markout-plot"></div>'
    columns = (
        *(Column("side", "fills"), Column("horizon", "after", "n"), Column("fills", "number", "n")),
        *(Column("effective", "at the fill", "n"), Column("impact", "then moved", "n")),
        *(Column("markout", "= markout", "n"), Column("interval", "95 %", "n")),
        *(Column("net", "less fee", "n"), Column("unavailable", "not known", "n")),
    )
    yield from _table("markouts", report.markouts, columns, "There was no fill.")
    yield "</section>"


def _happened(report: Report) -> Iterable[str]:
    yield '<section id="events"><h2>What people and the kill switch did</h2>'
    columns = (
        *(Column("time", "time, UTC"), Column("action", "action"), Column("reason", "reason", "w")),
        *(Column("who", "who", "w"), Column("outcome", "outcome", "w")),
    )
    yield from _table("actions", report.actions, columns, "No operator action.")
    yield "<h3>Kill switch</h3>"
    columns = (
        *(Column("time", "time, UTC"), Column("state", "state"), Column("reason", "reason", "w", "codes")),
        Column("evidence", "evidence", "w"),
    )
    yield from _table("kills", report.kills, columns, "It was not tripped.")
    yield "<h3>Breaks</h3>"
    columns = (
        *(Column("opened", "opened, UTC"), Column("name", "name"), Column("severity", "severity")),
        *(Column("detail", "detail", "w"), Column("closed", "closed, UTC"), Column("resolution", "resolution", "w")),
    )
    yield from _table("breaks", report.breaks, columns, "None was journaled.")
    yield "<h3>Reads of the venue's truth</h3>"
    columns = (
        *(Column("scope", "scope"), Column("reads", "reads", "n")),
        *(Column("with_breaks", "with a break", "n"), Column("last", "last, UTC")),
    )
    yield from _table("reconciliations", report.reconciliations, columns, "None in the journal.")
    yield "</section>"


def _fills(report: Report) -> Iterable[str]:
    yield f'<section id="fills"><h2>Fills, {_said("fills_listed", report.fills_listed)}</h2>'
    columns = (
        *(Column("time", "time, UTC"), Column("side", "side"), Column("price", f"price, {report.run.quote}", "n")),
        *(Column("size", f"size, {report.run.base}", "n"), Column("value", f"value, {report.run.quote}", "n")),
        *(Column("fee", f"fee, {report.run.quote}", "n"), Column("markout_5s", "after 5 s", "n")),
        *(Column("liquidity", "as"), Column("kind", "kind"), Column("order", "order"), Column("trade", "trade")),
    )
    yield from _table("fills", report.fills, columns, "There was no fill.", tall=True)
    yield "</section>"
