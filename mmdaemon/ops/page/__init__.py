"""The operator page: the run in a browser, live, on 127.0.0.1 (docs/PAGE.md).

`server.py` is the door and what it lets in, `stream.py` what a browser is sent, `document.py` with `page.html`,
`page.js` and `page.css` what it shows that with. What is sampled of a daemon is `daemon/page_view.py`'s.
"""

from mmdaemon.ops.page.document import About
from mmdaemon.ops.page.server import PageError, PageServer
from mmdaemon.ops.page.stream import History, Row

__all__ = ["About", "History", "PageError", "PageServer", "Row"]
