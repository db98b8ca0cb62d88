"""What pages are drawn with: uPlot 1.6.32 (MIT, vendored as published, licence beside it) and our own panels over it.

A page is one file: it takes `scripts()` and `page_stylesheets()` inline, and allows them by `content_policy`, which
lets nothing else run and nothing be fetched. Each is one block of text; a page adds its own after them.
"""

import base64
import hashlib
from collections.abc import Iterable
from importlib import resources

UPLOT = "1.6.32"
_SCRIPTS = (f"uplot-{UPLOT}.min.js", "drawing.js", "names.js")
_STYLES = (f"uplot-{UPLOT}.min.css", "drawing.css")


def asset(name: str, package: str = __name__) -> str:
    """Text of a file that is shipped beside a package's modules."""
    return resources.files(package).joinpath(name).read_text(encoding="utf-8")


def scripts() -> tuple[str, ...]:
    """In the order in which a page needs them. They leave `uPlot`, `Drawing` and `Names` behind."""
    licence = " ".join(asset("uplot-LICENSE.txt").split()).replace("*/", "* /")
    return tuple(f"/* {licence} */\n{asset(name)}" if name.startswith("uplot") else asset(name) for name in _SCRIPTS)


def stylesheets() -> tuple[str, ...]:
    """Of panels alone, for a page with a look of its own."""
    return tuple(asset(name) for name in _STYLES)


def page_stylesheets() -> tuple[str, ...]:
    """Of panels and of what every page has: headings, sections, figures, tables, buttons."""
    return (*stylesheets(), asset("base.css"))


def content_policy(scripts: Iterable[str], styles: Iterable[str], *, live: bool = False) -> str:
    """Content-Security-Policy for a page of these inline blocks and nothing else: no fetch, no frame, no form.

    A block counts as it stands between its tags, to the byte. `live` lets the page ask where it came from, and nobody
    else.
    """
    asks = "connect-src 'self'; " if live else ""
    return (
        f"default-src 'none'; script-src {_hashes(scripts)}; style-src {_hashes(styles)}; {asks}"
        "base-uri 'none'; form-action 'none'"
    )


def _hashes(blocks: Iterable[str]) -> str:
    digests = (base64.b64encode(hashlib.sha256(block.encode()).digest()).decode() for block in blocks)
    return " ".join(f"'sha256-{digest}'" for digest in digests)
