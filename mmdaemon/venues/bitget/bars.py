"""One-minute candles of either API: rows of `[open time, open, high, low, close, base volume, ...]`."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from msgspec.json import Decoder

from mmdaemon.core.events import BarClosed
from mmdaemon.core.types import NS
from mmdaemon.venues.bitget.api import Endpoint
from mmdaemon.venues.bitget.reading import Text, take, unreadable
from mmdaemon.venues.codec import Scale, milliseconds_ns, number

LIMIT: Final = 1_000
_MINUTE_NS: Final = 60 * NS
_PAGES_MAX: Final = 20

Rows = list[list[Text]] | None
ROWS: Final[Decoder[Rows]] = Decoder(Rows)


async def closed(
    endpoint: Endpoint, scale: Scale, page: Callable[[str], Awaitable[tuple[Rows, int]]], n: int
) -> list[BarClosed]:
    """The newest `n` that are closed by the venue's clock, oldest first; fewer where the venue has no more. `page`
    reads the newest before a time in ms ("" = now), and the venue's clock (ns).

    Raises:
        VenueUnavailable: a row cannot be read.
    """
    found: dict[int, BarClosed] = {}
    before = ""
    for _ in range(_PAGES_MAX):
        rows, now_ns = await page(before)
        known = len(found)
        bars = [_bar(endpoint, scale, row) for row in rows or ()]
        found.update((bar.open_ts_ns, bar) for bar in bars if bar.open_ts_ns + _MINUTE_NS <= now_ns)
        if len(found) == known or len(found) >= n:
            break
        before = str(min(found) // (NS // 1_000))
    newest = sorted(found)[-n:] if n > 0 else []
    return [found[open_ts_ns] for open_ts_ns in newest]


def _bar(endpoint: Endpoint, scale: Scale, row: Sequence[Text]) -> BarClosed:
    if len(row) < 6:
        raise unreadable(endpoint, "candle", "is too short")
    open_ts_ns = take(endpoint, "open time", milliseconds_ns, row[0])
    if open_ts_ns % _MINUTE_NS:
        raise unreadable(endpoint, "open time", "is no whole minute")
    open_px, high_px, low_px, close_px = (take(endpoint, "price", scale.px_ticks, text) for text in row[1:5])
    if not low_px <= min(open_px, close_px) <= max(open_px, close_px) <= high_px:
        raise unreadable(endpoint, "price", "is outside its high and low")
    # Activity, not money: a sum of older, finer lots is cut down to whole ones.
    volume = take(endpoint, "volume", number, row[5])
    if volume < 0:
        raise unreadable(endpoint, "volume", "negative")
    qty_lots = int(volume / scale.lot)
    ends = (0, 0, open_ts_ns + _MINUTE_NS)
    return BarClosed(*ends, open_ts_ns, open_px, high_px, low_px, close_px, qty_lots, "venue")
