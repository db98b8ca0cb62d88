"""Features of the market for models: one definition, fed live, from tapes and for training sets alike.

Windows are made of cells of a quarter of a second of monotonic time. A window of 5 s is the cell that is going on and
the 19 before it: it ends at the moment that is asked about, and begins up to a quarter of a second later than 5 s ago.
A cell remembers what happened in it and the last mid; one in which no book came carries the mid on. So memory is
bounded, every sum is exact in the order of its events, and a vector depends on nothing but events up to its moment.

Best sizes are Qb and Qa, best prices Pb and Pa, M the mid. With D the mean of (Qb + Qa) / 2 over the window:

    order-flow imbalance   sum of [Pb >= Pb'] Qb - [Pb <= Pb'] Qb' - [Pa <= Pa'] Qa + [Pa >= Pa'] Qa' over books,
                           ' the book before (Cont, Kukanov & Stoikov, "The price impact of order book events", 2014)
    micro-price offset     ((Qb Pa + Qa Pb) / (Qb + Qa) - M) / M
    realised volatility    sqrt(sum of squared changes of M from second to second / seconds)

`NAMES` are in the order of a vector, `UNITS` say what each is in. `DEFINITION` is all of it as a text, for whoever
keeps a model to hash: one is trained on a definition, and asked with no other. A change of what any of them means is a
new `VERSION`.
"""

from math import sqrt
from typing import Final

import msgspec

from mmdaemon.core.book import Book
from mmdaemon.core.events import FundingRate, TradePrint
from mmdaemon.core.types import NS

VERSION: Final = 1
CELL_NS: Final = NS // 4
CELLS: Final = 240
"""A minute, the longest window."""
_A_SECOND: Final = 4
WINDOW_NS: Final = CELLS * CELL_NS
_LEVELS: Final = 5

UNITS: Final[dict[str, str]] = {
    "imbalance_1": "(Qb - Qa) / (Qb + Qa), best level",
    "imbalance_5": "the same, five levels",
    "ofi_1s": "order-flow imbalance over D, 1 s",
    "ofi_5s": "the same, 5 s",
    "micro_offset_bps": "bps of mid",
    "spread_bps": "bps of mid",
    "spread_ratio": "spread over its mean of 30 s",
    "flow_1s": "lots bought less sold by aggressors, over D of 30 s, 1 s",
    "flow_5s": "the same, 5 s",
    "flow_30s": "the same, 30 s",
    "trades_5s": "prints a second, 5 s",
    "trades_30s": "the same, 30 s",
    "print_offset_bps": "last print from mid, bps of mid",
    "print_age_s": "seconds since the last print",
    "vol_10s_bps": "realised volatility, bps per square root of a second, 10 s",
    "vol_60s_bps": "the same, 60 s",
    "drift_1s_bps": "mid against that of 1 s ago, bps",
    "drift_5s_bps": "the same, 5 s",
    "drift_30s_bps": "the same, 30 s",
    "book_age_s": "seconds since the last book",
    "funding_bps": "predicted rate of the next settlement, bps; positive if longs pay",
    "funding_due_s": "seconds until it",
    "position_share": "position over the largest, -1 to 1 and beyond",
}
NAMES: Final = tuple(UNITS)
DEFINITION: Final = repr((VERSION, CELL_NS, CELLS, list(UNITS.items())))


class Cell(msgspec.Struct, gc=False):
    """A quarter of a second."""

    mid_x2: int = 0
    """Twice the last mid, carried on; 0 before the first."""
    books: int = 0
    depth_lots: int = 0
    """Sum of Qb + Qa over its books."""
    spread_ticks: int = 0
    """Sum over its books."""
    ofi_lots: int = 0
    flow_lots: int = 0
    trades: int = 0


class Features(msgspec.Struct):
    """The slice. Changed only by the functions below."""

    cells: list[Cell] = msgspec.field(default_factory=list)
    """A ring: the cell of a moment is that of its number modulo the length. Empty until the first book."""
    at: int = -1
    """Number of the cell that is going on: monotonic time over CELL_NS."""
    since_ns: int = 0
    """When the first book came; 0 = none yet."""
    book_ns: int = 0
    bid_px: int = 0
    bid_qty: int = 0
    ask_px: int = 0
    ask_qty: int = 0
    print_ns: int = 0
    """0 = none yet."""
    print_px: int = 0


def on_book(features: Features, book: Book, mono_ns: int) -> None:
    """A healthy book."""
    if not features.cells:
        features.cells = [Cell() for _ in range(CELLS + 1)]
        features.since_ns = mono_ns
        features.at = mono_ns // CELL_NS
    cell = _cell(features, mono_ns)
    bid_px, ask_px, bid_qty, ask_qty = book.bid_px, book.ask_px, book.bid_qty, book.ask_qty
    if features.book_ns:
        ofi = 0
        if bid_px >= features.bid_px:
            ofi += bid_qty
        if bid_px <= features.bid_px:
            ofi -= features.bid_qty
        if ask_px <= features.ask_px:
            ofi -= ask_qty
        if ask_px >= features.ask_px:
            ofi += features.ask_qty
        cell.ofi_lots += ofi
    cell.mid_x2 = bid_px + ask_px
    cell.books += 1
    cell.depth_lots += bid_qty + ask_qty
    cell.spread_ticks += ask_px - bid_px
    features.book_ns = mono_ns
    features.bid_px, features.bid_qty, features.ask_px, features.ask_qty = bid_px, bid_qty, ask_px, ask_qty


def on_trade(features: Features, event: TradePrint) -> None:
    """A print. Before the first book it belongs to no window."""
    if not features.cells:
        return
    cell = _cell(features, event.mono_ns)
    cell.trades += 1
    if event.aggressor is not None:
        cell.flow_lots += event.aggressor * event.qty_lots
    features.print_ns, features.print_px = event.mono_ns, event.px_ticks


def forget(features: Features) -> None:
    """The public link went down: what was seen before is no window any more."""
    features.cells = []
    features.at = -1
    features.since_ns = features.book_ns = features.print_ns = 0


def vector(
    features: Features,
    book: Book,
    mono_ns: int,
    ts_ns: int,
    funding: FundingRate | None,
    position_share: float | None,
) -> tuple[float, ...] | None:
    """Every feature at a moment, in the order of `NAMES`; None where one of them is not known: a window that is not
    full, no print yet, no funding, no largest position. The moment may not lie before the last event."""
    if not features.since_ns or mono_ns - features.since_ns < WINDOW_NS:
        return None
    if not features.print_ns or funding is None or position_share is None or not book.bids or not book.asks:
        return None
    _cell(features, mono_ns)
    mid_x2 = features.bid_px + features.ask_px
    per_bps = 1e4 / mid_x2
    depth_30s, books_30s, spread_30s = _means(features, 30)
    if not books_30s or not depth_30s:
        return None
    depth = depth_30s / (2.0 * books_30s)
    spread = features.ask_px - features.bid_px
    mean_spread = spread_30s / books_30s
    micro_x2 = 2.0 * (features.bid_px * features.ask_qty + features.ask_px * features.bid_qty)
    flow_1s, _ = _traded(features, 1)
    flow_5s, trades_5s = _traded(features, 5)
    flow_30s, trades_30s = _traded(features, 30)
    return (
        (features.bid_qty - features.ask_qty) / (features.bid_qty + features.ask_qty),
        _imbalance(book),
        _ofi(features, 1) / depth,
        _ofi(features, 5) / depth,
        (micro_x2 / (features.bid_qty + features.ask_qty) - mid_x2) * per_bps,
        2.0 * spread * per_bps,
        spread / mean_spread if mean_spread > 0 else 1.0,
        flow_1s / depth,
        flow_5s / depth,
        flow_30s / depth,
        trades_5s / 5.0,
        trades_30s / 30.0,
        (2 * features.print_px - mid_x2) * per_bps,
        (mono_ns - features.print_ns) / NS,
        _volatility_bps(features, 10),
        _volatility_bps(features, 60),
        _drift_bps(features, 1),
        _drift_bps(features, 5),
        _drift_bps(features, 30),
        (mono_ns - features.book_ns) / NS,
        funding.rate * 1e4,
        (funding.next_ts_ns - ts_ns) / NS,
        position_share,
    )


def _cell(features: Features, mono_ns: int) -> Cell:
    """The cell of a moment. Those since the last event begin empty, and carry the mid on."""
    at, cells = mono_ns // CELL_NS, features.cells
    last = features.at
    if at > last:
        mid_x2 = cells[last % len(cells)].mid_x2
        for number in range(max(last + 1, at - CELLS), at + 1):
            cells[number % len(cells)] = Cell(mid_x2)
        features.at = at
    return cells[at % len(cells)]


def _window(features: Features, seconds: int) -> list[Cell]:
    """Oldest first."""
    at, cells = features.at, features.cells
    return [cells[number % len(cells)] for number in range(at - seconds * _A_SECOND + 1, at + 1)]


def _means(features: Features, seconds: int) -> tuple[int, int, int]:
    """(sum of depth, books, sum of spread) of a window."""
    depth = books = spread = 0
    for cell in _window(features, seconds):
        depth += cell.depth_lots
        books += cell.books
        spread += cell.spread_ticks
    return depth, books, spread


def _traded(features: Features, seconds: int) -> tuple[int, int]:
    """(signed lots, prints) of a window."""
    flow = trades = 0
    for cell in _window(features, seconds):
        flow += cell.flow_lots
        trades += cell.trades
    return flow, trades


def _ofi(features: Features, seconds: int) -> int:
    return sum(cell.ofi_lots for cell in _window(features, seconds))


def _mid_x2(features: Features, seconds: int) -> int:
    """Twice the mid at the end of the cell so long ago."""
    return features.cells[(features.at - seconds * _A_SECOND) % len(features.cells)].mid_x2


def _drift_bps(features: Features, seconds: int) -> float:
    return (_mid_x2(features, 0) / _mid_x2(features, seconds) - 1.0) * 1e4


def _volatility_bps(features: Features, seconds: int) -> float:
    squares, later = 0.0, _mid_x2(features, 0)
    for second in range(1, seconds + 1):
        earlier = _mid_x2(features, second)
        change = later / earlier - 1.0
        squares += change * change
        later = earlier
    return sqrt(squares / seconds) * 1e4


def _imbalance(book: Book) -> float:
    bids = sum(qty for _, qty in book.bids[:_LEVELS])
    asks = sum(qty for _, qty in book.asks[:_LEVELS])
    return (bids - asks) / (bids + asks)
