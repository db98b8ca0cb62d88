"""The page's document: `page.html` with its figures. `page.js` fills in what the stream says, and draws.

An element with `data-key` shows the figure of that path in `status --json`, in the way that `data-as` says.
"""

import html
from functools import cache
from typing import Final, NamedTuple

from mmdaemon.ops import drawing
from mmdaemon.ops.status import Status

_PACKAGE: Final = "mmdaemon.ops.page"
_HEADLINE: Final = (
    ("pnl.total", "signed", "PnL", "since the account was first met"),
    ("pnl.day", "signed", "PnL today", ""),
    ("position", "text", "Position", ""),
    ("equity", "money", "Equity", ""),
    ("fair", "px", "Fair value", ""),
    ("open_orders", "count", "Orders open", ""),
)
_GROUPS: Final = {
    "Market": (
        *(
            ("bid", "px", "best bid"),
            ("ask", "px", "best ask"),
            ("mark", "px", "mark"),
            ("book_age_s", "s", "book age"),
        ),
        *(("sigma_bps", "bps", "volatility, a root second"), ("signal_bps", "bps", "signal")),
        *(("links.public", "up", "public link"), ("links.private", "up", "private link")),
    ),
    "Money": (
        *(("pnl.realised", "signed", "realised"), ("pnl.unrealised", "signed", "unrealised")),
        *(("pnl.fees", "signed", "fees"), ("pnl.funding", "signed", "funding")),
        *(("counts.fills_buy", "count", "buys"), ("counts.fills_sell", "count", "sells")),
        *(("average_px", "held", "average price"), ("max_position", "text", "largest position")),
    ),
    "Daemon": (
        *(
            ("kill", "state", "kill switch"),
            ("regime", "state", "regime"),
            ("unknown_orders", "count", "orders unknown"),
        ),
        *(("open_breaks.hard", "count", "hard breaks"), ("open_breaks.soft", "count", "soft breaks")),
        *(("loop_lag_s", "s", "event loop late by"), ("journal_age_s", "s", "journal waits")),
        ("uptime_s", "span", "up"),
    ),
}


class About(NamedTuple):
    """What a status does not say of the instrument, and where the token is."""

    base: str
    quote: str
    token_path: str


@cache
def _blocks() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Scripts and styles."""
    scripts = (*drawing.scripts(), drawing.asset("page.js", _PACKAGE))
    styles = (*drawing.page_stylesheets(), drawing.asset("page.css", _PACKAGE))
    return scripts, styles


def policy() -> str:
    """Content-Security-Policy, as a header: nothing runs but ours, nobody is asked but we, nobody frames the page."""
    return drawing.content_policy(*_blocks(), live=True) + "; frame-ancestors 'none'"


def page_of(status: Status, about: About) -> str:
    """The document of a daemon. What is of its run stays as it is while it runs."""
    scripts, styles = _blocks()
    where = status.mode if status.mode == status.venue else f"{status.mode} at {status.venue}"
    body = drawing.asset("page.html", _PACKAGE).format(
        symbol=html.escape(status.symbol),
        where=html.escape(where),
        headline="".join(_figure(*each, large=True) for each in _HEADLINE),
        groups="".join(
            f"<div><h3>{title}</h3><dl>{''.join(_figure(*each) for each in rows)}</dl></div>"
            for title, rows in _GROUPS.items()
        ),
        token_path=html.escape(about.token_path),
    )
    return "\n".join(
        (
            "<!DOCTYPE html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>{html.escape(f'{status.symbol} {status.mode} - mmdaemon')}</title>",
            *(f"<style>{style}</style>" for style in styles),
            f'</head><body><main data-base="{html.escape(about.base)}" data-quote="{html.escape(about.quote)}">',
            body,
            "</main>",
            *(f"<script>{script}</script>" for script in scripts),
            "</body></html>\n",
        )
    )


def _figure(key: str, kind: str, label: str, note: str = "", *, large: bool = False) -> str:
    more = f'<span class="note">{html.escape(note)}</span>' if note else ""
    said = f'<span data-key="{html.escape(key)}" data-as="{kind}">unknown</span>'
    return f'<div class="figure{" large" if large else ""}"><dt>{label}</dt><dd>{said}{more}</dd></div>'
