"""Features of the market for models: one definition, fed live, from tapes and for training sets alike.

(being written)
"""

import msgspec

from mmdaemon.core.book import Book
from mmdaemon.core.events import TradePrint


class Features(msgspec.Struct):
    """The slice. Changed only by the functions below."""


def on_book(features: Features, book: Book, mono_ns: int) -> None:
    """A healthy book."""


def on_trade(features: Features, event: TradePrint) -> None:
    """A print."""


def forget(features: Features) -> None:
    """The public link went down: what was seen before is no window any more."""
