"""The top of the market as last seen in good health, and how old that is.

Nothing is trusted. A book update is applied whole or not at all; one that is not is counted under its reason, and the
last healthy book stays and ages, so that the guard sees the age whatever the venue sends. Refused are:

    one_sided      a side is missing
    bad_level      a price or size that is not a whole number in 1..2**48 (NaN and infinity are not in any range)
    unsorted       levels not strictly ordered, best first
    crossed        best bid above best ask. Equal is *locked*: healthy, flagged and counted
    out_of_order   older than the last applied, by the venue's time or by ours
    bad_time       (prints too) the venue's time is no whole number, or before 1970
    future         (prints too) stamped by the venue over a minute ahead of our clock: all that follows would be older
    absurd         the mid is further than `jump_max_bps` from the last healthy one. A price that stays moved is real: a
                   second absurd update, later in venue time and in agreement with the first, is applied
    link_down      (by `apply`) it came while the public link was down: from before a reconnect
    bad_trade      (prints) a price or size that is not a whole number in 1..2**48

A socket can be alive and its book frozen: messages arrive and the touch stands still while trades print through it. The
first print strictly through the touch starts a clock, any change of the touch (price or size) stops it, and while it
runs the book's age counts from that print. A print from before the touch came to be is no evidence.

Invariants: bids and asks are both empty or both not; `bid_px <= ask_px`; a refused update changes counters only (and,
when absurd, what the next one is compared with).
"""

import msgspec

from mmdaemon.core.events import BookUpdate, TradePrint
from mmdaemon.core.figures import LARGEST
from mmdaemon.core.types import NEVER_NS, NS, Side

FUTURE_NS = 60 * NS
"""Far beyond any clock offset the guard lets pass."""
NAMES_MAX = 64
"""So many reasons are counted by name; what the edge calls its own beyond that is counted together."""

Levels = tuple[tuple[int, int], ...]
"""`(px_ticks, qty_lots)`, best first."""


class Book(msgspec.Struct, kw_only=True):
    """The slice. Changed only by `on_book`, `on_trade`, `invalidate`. A moment of 0 is never: clocks start above 0."""

    depth: int = 5
    """Levels a side that are checked and kept."""
    jump_max_bps: int = 1_000

    bids: Levels = ()
    asks: Levels = ()
    bid_sum_lots: int = 0
    """Sizes of the levels kept, and prices weighted by them: what the signal is made of."""
    bid_sum_px_lots: int = 0
    ask_sum_lots: int = 0
    ask_sum_px_lots: int = 0
    bid_px: int = 0
    """Best bid in ticks; this and the next three are 0 where there is no book."""
    bid_qty: int = 0
    ask_px: int = 0
    ask_qty: int = 0
    locked: bool = False

    healthy_mono_ns: int = 0
    """When the last update was applied."""
    through_since_ns: int = 0
    """First print through a touch that has not changed since; 0 = none."""
    last_venue_ts_ns: int = 0
    touch_venue_ts_ns: int = 0
    """Venue time at which the touch last changed."""

    known_mid_x2: int = 0
    """Best bid + best ask of the last healthy book, a reconnect notwithstanding: what a jump is measured from."""
    absurd_mid_x2: int = 0
    """The same of an absurd update that waits for another to confirm it; 0 = none."""
    absurd_venue_ts_ns: int = 0

    last_trade_px: int = 0
    """In ticks; 0 = none yet."""
    bought_lots: int = 0
    """Printed with a buyer as aggressor."""
    sold_lots: int = 0
    trades: int = 0

    updates: int = 0
    """Applied."""
    locks: int = 0
    """Updates that were locked."""
    refused: dict[str, int] = {}


def on_book(book: Book, e: BookUpdate) -> str:
    """Apply an update. Returns "" or the reason it was refused and counted under."""
    depth = book.depth
    bids = e.bids[:depth]
    asks = e.asks[:depth]
    if not bids or not asks:
        return _refuse(book, "one_sided")
    venue_ts_ns = 0 if e.venue_ts_ns is None else e.venue_ts_ns
    if type(venue_ts_ns) is not int or venue_ts_ns < 0:
        return _refuse(book, "bad_time")  # kept, NaN would be later than nothing, and no book out of order any more
    if e.mono_ns < book.healthy_mono_ns or 0 < venue_ts_ns < book.last_venue_ts_ns:
        return _refuse(book, "out_of_order")
    if venue_ts_ns > e.ts_ns + FUTURE_NS:
        return _refuse(book, "future")

    # One pass a side checks range and order together, and sums. One float in it makes the sum of products a float.
    bid_lots = bid_px_lots = ask_lots = ask_px_lots = 0
    bound = LARGEST + 1
    try:
        for px, qty in bids:
            if not (0 < px < bound and 0 < qty <= LARGEST):
                return _refuse(book, _why(bids, asks))
            bound = px
            bid_lots += qty
            bid_px_lots += px * qty
        bound = 0
        for px, qty in asks:
            if not (bound < px <= LARGEST and 0 < qty <= LARGEST):
                return _refuse(book, _why(bids, asks))
            bound = px
            ask_lots += qty
            ask_px_lots += px * qty
    except (TypeError, ValueError):
        return _refuse(book, "bad_level")
    if type(bid_px_lots) is not int or type(ask_px_lots) is not int:
        return _refuse(book, "bad_level")

    bid_px, bid_qty = bids[0]
    ask_px, ask_qty = asks[0]
    if bid_px > ask_px:
        return _refuse(book, "crossed")
    mid_x2 = bid_px + ask_px
    known_x2 = book.known_mid_x2
    is_jump = abs(mid_x2 - known_x2) * 10_000 > book.jump_max_bps * known_x2 > 0
    if is_jump and not _is_confirmed(book, mid_x2, venue_ts_ns):
        book.absurd_mid_x2 = mid_x2
        book.absurd_venue_ts_ns = venue_ts_ns
        return _refuse(book, "absurd")

    if bid_px != book.bid_px or ask_px != book.ask_px or bid_qty != book.bid_qty or ask_qty != book.ask_qty:
        book.bid_px = bid_px
        book.bid_qty = bid_qty
        book.ask_px = ask_px
        book.ask_qty = ask_qty
        book.through_since_ns = 0
        book.touch_venue_ts_ns = venue_ts_ns
        book.known_mid_x2 = mid_x2
        book.locked = bid_px == ask_px
    book.bids = bids
    book.asks = asks
    book.bid_sum_lots = bid_lots
    book.bid_sum_px_lots = bid_px_lots
    book.ask_sum_lots = ask_lots
    book.ask_sum_px_lots = ask_px_lots
    book.healthy_mono_ns = e.mono_ns
    if venue_ts_ns:
        book.last_venue_ts_ns = venue_ts_ns
    book.absurd_mid_x2 = 0
    book.updates += 1
    if book.locked:
        book.locks += 1
    return ""


def on_trade(book: Book, e: TradePrint) -> str:
    """Fold a print. Returns "" or the reason it was refused and counted under.

    An absurd print is not folded, but it does put the book in doubt: either of the two is wrong.
    """
    px, qty = e.px_ticks, e.qty_lots
    if not (type(px) is int and type(qty) is int and 0 < px <= LARGEST and 0 < qty <= LARGEST):
        return _refuse(book, "bad_trade")
    venue_ts_ns = e.venue_ts_ns
    if venue_ts_ns is not None and (type(venue_ts_ns) is not int or venue_ts_ns < 0):
        return _refuse(book, "bad_time")
    if venue_ts_ns is not None and venue_ts_ns > e.ts_ns + FUTURE_NS:
        return _refuse(book, "future")
    is_through = px < book.bid_px or px > book.ask_px > 0
    if is_through and not book.through_since_ns and (venue_ts_ns is None or venue_ts_ns > book.touch_venue_ts_ns):
        book.through_since_ns = e.mono_ns
    known_x2 = book.known_mid_x2
    if known_x2 and abs(2 * px - known_x2) * 10_000 > book.jump_max_bps * known_x2:
        return _refuse(book, "absurd")
    book.last_trade_px = px
    book.trades += 1
    if e.aggressor is Side.BUY:
        book.bought_lots += qty
    elif e.aggressor is Side.SELL:
        book.sold_lots += qty
    return ""


def on_refused(book: Book, reason: str) -> None:
    """The edge could not make a fact of a message. Its reason is its own, so neither length nor number is trusted."""
    reason = reason[:80]
    _refuse(book, reason if reason in book.refused or len(book.refused) < NAMES_MAX else "other")


def invalidate(book: Book) -> None:
    """The public stream was interrupted: there is no book until the next healthy update.

    Counters stay, and so does the mid that a jump is measured from: a reconnect is when wrong books come.
    """
    book.bids = book.asks = ()
    book.bid_px = book.bid_qty = book.ask_px = book.ask_qty = 0
    book.bid_sum_lots = book.bid_sum_px_lots = book.ask_sum_lots = book.ask_sum_px_lots = 0
    book.locked = False
    book.healthy_mono_ns = book.through_since_ns = 0
    book.last_venue_ts_ns = book.touch_venue_ts_ns = 0
    book.absurd_mid_x2 = 0


def mid_x2(book: Book) -> int:
    """Twice the mid, in ticks, so that it is whole; 0 where there is no book."""
    return book.bid_px + book.ask_px


def age_ns(book: Book, now_ns: int) -> int:
    """How long the book has not been known to be right, at the monotonic `now_ns`; NEVER_NS where there is none."""
    if not book.healthy_mono_ns:
        return NEVER_NS
    return now_ns - _good_until_ns(book)


def stale_at_ns(book: Book, max_age_ns: int) -> int:
    """First monotonic moment at which the book is older than `max_age_ns` if nothing more happens; 0 if there is none.

    `age_ns(book, now) > max_age_ns` exactly when `now >= stale_at_ns(book, max_age_ns)`.
    """
    if not book.healthy_mono_ns:
        return 0
    return _good_until_ns(book) + max_age_ns + 1


def is_healthy(book: Book, now_ns: int, max_age_ns: int) -> bool:
    """Whether there is a book, and known to be right within `max_age_ns`: the one judgement of its health."""
    return now_ns < stale_at_ns(book, max_age_ns)


def condition(book: Book, now_ns: int) -> str:
    """In what state it is, in words, healthy or not: for status and logs."""
    if not book.healthy_mono_ns:
        return "none since the public link came up or went down"
    if book.through_since_ns:
        return f"frozen: trades print through a touch that stands, for {(now_ns - book.through_since_ns) / NS:.1f} s"
    locked = "locked, " if book.locked else ""
    return f"{locked}{age_ns(book, now_ns) / NS:.1f} s old"


def _good_until_ns(book: Book) -> int:
    if book.through_since_ns:
        return min(book.healthy_mono_ns, book.through_since_ns)
    return book.healthy_mono_ns


def _is_confirmed(book: Book, mid_x2: int, venue_ts_ns: int) -> bool:
    """Whether an absurd update agrees with the one before it and is not the same message delivered twice."""
    before_x2 = book.absurd_mid_x2
    return (
        before_x2 > 0
        and abs(mid_x2 - before_x2) * 10_000 <= book.jump_max_bps * before_x2
        and (not venue_ts_ns or venue_ts_ns > book.absurd_venue_ts_ns)
    )


def _why(bids: Levels, asks: Levels) -> str:
    """Which of the two it was, for a book whose levels failed the one-pass check."""
    for px, qty in bids + asks:
        if not (type(px) is int and type(qty) is int and 0 < px <= LARGEST and 0 < qty <= LARGEST):
            return "bad_level"
    return "unsorted"


def _refuse(book: Book, reason: str) -> str:
    book.refused[reason] = book.refused.get(reason, 0) + 1
    return reason
