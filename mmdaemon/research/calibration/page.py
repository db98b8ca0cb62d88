"""A Calibration -> one HTML file that needs nothing else, and its JSON, which the page's plots are drawn from.

The plots are those of the report (`ops/drawing`), and so is the style. Figures stand in the HTML as text; what a
recording says is escaped, and the content policy lets no script run but ours.
"""

import html
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from mmdaemon.ops import drawing
from mmdaemon.research.calibration.records import Calibration
from mmdaemon.research.calibration.tables import Table, source_lines, tables

_PACKAGE = "mmdaemon.research.calibration"
_REPORT = "mmdaemon.research.report"
NAMES = ("calibration.json", "calibration.toml", "calibration.html")
PLOTS = ("sigma", "intensity", "windows", "markouts", "beyond", "signal")
"""Tables that have a plot above them."""


def write(made: Calibration, out: Path) -> tuple[Path, ...]:
    """JSON, TOML fragment and page into a folder, which is made. Each replaces its file at once, whole.

    Raises:
        OSError: the folder cannot be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    data = json_of(made)
    texts = (data, made.preset.encode(), page_of(made, data).encode())
    paths = tuple(out / name for name in NAMES)
    for path, text in zip(paths, texts, strict=True):
        partial = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            partial.write_bytes(text)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    return paths


def json_of(made: Calibration) -> bytes:
    """Safe to stand in HTML: no `<` in it, so nothing in it ends its element."""
    return msgspec.json.format(msgspec.json.encode(made), indent=1).replace(b"<", b"\\u003c") + b"\n"


def page_of(made: Calibration, data: bytes) -> str:
    """The page; `data` is `json_of(made)`."""
    scripts = (*drawing.scripts(), drawing.asset("page.js", _PACKAGE))
    styles = (*drawing.page_stylesheets(), drawing.asset("page.css", _REPORT), drawing.asset("page.css", _PACKAGE))
    source = made.source
    return "\n".join(
        (
            "<!DOCTYPE html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{drawing.content_policy(scripts, styles)}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark"><meta name="referrer" content="no-referrer">',
            f"<title>{html.escape(source.symbol)} - mmdaemon calibrate</title>",
            *(f"<style>{style}</style>" for style in styles),
            "</head><body><main>",
            f"<header><p class=brand>mmdaemon calibrate</p><h1>{html.escape(source.symbol)}",
            f"<small>at {html.escape(source.venue)}, {html.escape(source.used)}</small></h1></header>",
            *_rests_on(made),
            *_missing(made),
            *(line for table in tables(made) for line in _section(table)),
            '<section id="preset"><h2>Suggested preset</h2>',
            f'<pre tabindex="0">{html.escape(made.preset)}</pre></section>',
            "</main>",
            f'<script type="application/json" id="calibration">{data.decode()}</script>',
            *(f"<script>{script}</script>" for script in scripts),
            "</body></html>\n",
        )
    )


def _rests_on(made: Calibration) -> Iterator[str]:
    yield '<section id="source"><h2>What this rests on</h2><dl class="assumptions">'
    for name, text in source_lines(made):
        yield f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd></div>"
    yield "</dl></section>"


def _missing(made: Calibration) -> Iterator[str]:
    missing = made.missing()
    if not missing:
        return
    yield '<section id="missing"><h2>What was not made, or is refused</h2><ul class="checks">'
    yield from (f'<li class="bad">{html.escape(each)}</li>' for each in missing)
    yield "</ul></section>"


def _section(table: Table) -> Iterator[str]:
    yield f'<section id="{table.name}"><h2>{html.escape(table.title)}</h2>'
    if table.name in PLOTS:
        yield f'<div id="plot-{table.name}"></div>'
    yield from (f'<p class="none">{html.escape(note)}</p>' for note in table.notes)
    if table.rows:
        kind = "table tall" if len(table.rows) > 20 else "table"
        yield f'<div class="{kind}" tabindex="0" role="region" aria-label="{table.name}"><table><thead><tr>'
        yield "".join(
            f'<th scope="col" class="{"n" if place else ""}">{html.escape(column)}</th>'
            for place, column in enumerate(table.columns)
        )
        yield "</tr></thead><tbody>"
        for row in table.rows:
            cells = (f'<td class="{"n" if place else ""}">{html.escape(cell)}</td>' for place, cell in enumerate(row))
            yield f"<tr>{''.join(cells)}</tr>"
        yield "</tbody></table></div>"
    yield "</section>"
