"""What a row of `rows.py` must have shown, where trading on as before would prove nothing: that what it is about came
up at all, and what the daemon made of it. Each looks at what was told and asked since the fault began; AssertionError
where it did not come, or came otherwise.
"""

from mmdaemon.core.events import Event, Fill, OrderAdopted, OrderUpdate, Reconciled
from mmdaemon.core.types import NS, Link, OrderStatus, Side
from mmdaemon.venues.emulator.server import Seen
from mmdaemon.venues.emulator.wrong import Wrong
from mmdaemon.venues.simulated.records import VenueOrder
from tests.emulated.faults import Played

_OPEN_ORDERS = ("order/orders-pending", "trade/unfilled-orders")
_ORDER = ("order/detail", "trade/order-info")
_FILLS = ("order/fills", "trade/fills")


def told(played: Played) -> list[Event]:
    return played.watch.told[played.since :]


def reads(played: Played, paths: tuple[str, ...]) -> list[Seen]:
    """Since the fault began."""
    begun_ms = min(each.at_ms for each in played.faults.injected)
    return [seen for seen in played.site.emulator.requests if seen.path.endswith(paths) and seen.at_ms >= begun_ms]


# --- reads ------------------------------------------------------------------------------------------------------------


async def no_verdict(played: Played) -> None:
    """Open orders were read in vain, again and again, and no round was concluded of it: had it been taken for an empty
    list, there would have been a verdict."""
    begun_ms = min(each.at_ms for each in played.faults.injected)
    end_ms = max(each.at_ms + round(each.seconds * 1_000) for each in played.faults.injected)
    failed_ms = [seen.answered_ms for seen in reads(played, _OPEN_ORDERS) if begun_ms < seen.at_ms < end_ms - 500]
    assert len(failed_ms) >= 2, f"open orders were read {len(failed_ms)} times meanwhile"
    told_ms = [event.ts_ns // 1_000_000 for event in told(played) if isinstance(event, Reconciled)]
    sooner = [at_ms - begun_ms for at_ms in told_ms if failed_ms[0] < at_ms < end_ms - 500]
    assert not sooner, f"a verdict after {sooner} ms, with no open orders read"


async def not_found_and_rests(played: Played) -> None:
    """The venue says that it does not know an order that rests there and is UNKNOWN: too early to be believed. Whoever
    asks may be asking for another order, so it is tried again."""
    faults, clock = played.faults, played.site.clock
    end_ns = clock.mono_ns() + 90 * NS
    while clock.mono_ns() < end_ns:
        faults.clear()
        faults.inject(Wrong.ORDERS_LOST, seconds=8.0)
        faults.inject(Wrong.ANSWER_LOST, where="place")
        try:
            await played.until(lambda: _unknown_and_rest(played), 6, "none is UNKNOWN and rests")
        except AssertionError:
            continue  # it was filled at once
        before, denied = faults.seen[Wrong.READ_NOT_FOUND], len(_denied(played))
        unknown = _unknown_and_rest(played)
        faults.inject(Wrong.READ_NOT_FOUND)
        await played.until(lambda was=before: faults.seen[Wrong.READ_NOT_FOUND] > was, 30, "no order was asked for")
        await played.until(lambda was=denied: len(_denied(played)) > was, 10, "no answer")
        queries = [seen.query.split("&") for seen in _denied(played)[denied:]]
        resting = unknown & set(played.watch.own_resting())
        if any(f"clientOid={client_id}" in query for query in queries for client_id in resting):
            return
    raise AssertionError("no order that rested UNKNOWN was denied")


def _denied(played: Played) -> list[Seen]:
    return [seen for seen in reads(played, _ORDER) if seen.status == 400]


def _unknown_and_rest(played: Played) -> set[str]:
    live = played.site.daemon.state.orders.live.values()
    unknown = {order.client_id for order in live if order.status is OrderStatus.UNKNOWN}
    return unknown & set(played.watch.own_resting())


async def pages_on(played: Played) -> None:
    """While the venue cut its pages short, those behind the first were asked for, and every fill was booked."""
    cursors = ("idLessThan=", "cursor=")
    behind = [seen for seen in reads(played, _FILLS) if any(f"&{each}" in f"&{seen.query}" for each in cursors)]
    assert behind, "no second page of fills was asked for"
    await played.until(played.watch.is_equal, 10, "fills are missing")


async def not_adopted(played: Played) -> None:
    """Open orders of before are no orders: each that had ended is asked for, and none is taken in for it."""
    orders = played.site.emulator.account.exchange.orders
    asked = {seen.query for seen in reads(played, _ORDER)}
    adopted = [event.client_id for event in told(played) if isinstance(event, OrderAdopted)]
    assert asked, "no order was asked for"
    ended = [client_id for client_id in adopted if orders[client_id].status.is_terminal]
    assert not ended, f"taken in for an old answer: {ended}"


async def read_as_it_is(played: Played) -> None:
    """Nothing that was asked became UNKNOWN, or was taken for refused, for how the answer was written."""
    refused = [event for event in told(played) if isinstance(event, OrderUpdate) and "40762" in event.reason]
    assert not played.unknown, f"an answer was taken for none: {played.unknown}"
    assert not refused, f"the first of two codes was believed: {refused}"


# --- frames -----------------------------------------------------------------------------------------------------------


async def refused_as_absurd(played: Played) -> None:
    book = played.site.daemon.state.book
    await played.until(lambda: book.refused.get("absurd"), 20, "the book was believed")
    assert book.known_mid_x2 < 1.5 * played.site.emulator.account.exchange.mid_ticks * 2, "the book was believed"


async def told_late(played: Played) -> None:
    """An order is filled in two parts. Its fills neither come nor can be read, so that it waits for them, and what is
    told of its first part comes behind its end: that is not taken for its state."""
    played.faults.clear()
    for _ in range(5):
        statuses = await _filled_with_a_late_word(played)
        end = statuses.index(OrderStatus.FILLED)
        if not all(status.is_terminal for status in statuses[end:]):
            break
    else:
        raise AssertionError("nothing came late")
    counted = played.site.daemon.state.orders.anomalies
    assert any(name.startswith("life:filled->") for name in counted), f"{counted}; {statuses}"


async def _filled_with_a_late_word(played: Played) -> list[OrderStatus]:
    """What was told of it, in turn. The word that is late may be another order's."""
    account, faults, late_s = played.site.emulator.account, played.faults, 0.5
    await played.until(lambda: _whole(played), 20, "no bid that could be filled in parts")
    order = _whole(played)
    assert order is not None
    order.ahead_lots = 0
    faults.inject(Wrong.FILLS_LOST, seconds=60.0)
    faults.inject(Wrong.READS_FAIL, seconds=60.0, where="/fills")
    late = faults.seen[Wrong.FRAME_LATE]
    faults.inject(Wrong.FRAME_LATE, seconds=late_s, where="private orders")
    account.exchange.on_trade(account.advance(), order.px_ticks, order.qty_lots // 4, Side.SELL)
    await played.until(lambda: faults.seen[Wrong.FRAME_LATE] > late, 10, "nobody was told of an order")
    account.exchange.on_trade(account.advance(), order.px_ticks, order.remaining_lots, Side.SELL)

    def said() -> list[OrderStatus]:
        of_it = [each for each in told(played) if isinstance(each, OrderUpdate) and each.client_id == order.client_id]
        return [each.status for each in of_it]

    await played.until(lambda: OrderStatus.FILLED in said(), 20, "it was not told as filled")
    end_ns = played.site.clock.mono_ns() + round(2 * late_s * NS)
    await played.until(lambda: played.site.clock.mono_ns() > end_ns, 20, "the time")
    faults.clear()
    await played.until(played.watch.is_equal, 20, "its fills are missing")
    return said()


async def told_twice(played: Played) -> None:
    """What was held had been read meanwhile: some fill was told by both."""

    def twice() -> bool:
        ids = [event.trade_id for event in told(played) if isinstance(event, Fill)]
        return len(ids) > len(set(ids))

    await played.until(twice, 10, "no fill was told twice")


async def fill_of_another(played: Played) -> None:
    """No fill was booked that the venue did not fill here; what the frame hid was read."""
    await played.until(played.watch.is_equal, 10, "a fill is missing, or one too many")


def _whole(played: Played) -> VenueOrder | None:
    """Our best bid, if the daemon knows that it rests and nothing of it is filled."""
    account, live = played.site.emulator.account, played.site.daemon.state.orders.live
    bids = [order for order in account.exchange.matching.live if order.side is Side.BUY]
    best = max(bids, key=lambda order: order.px_ticks, default=None)
    if best is None or best.filled_lots or best.qty_lots < 8 or best.client_id not in live:
        return None
    return best if live[best.client_id].status is OrderStatus.LIVE else None


# --- sockets ----------------------------------------------------------------------------------------------------------


async def read_after_gap(played: Played) -> None:
    """The gap was made up for: a whole round was read, on the new connection, and agreed."""

    def is_read() -> bool:
        events = told(played)
        up = [event.mono_ns for event in events if is_link(event, Link.PRIVATE)]
        rounds = [event for event in events if isinstance(event, Reconciled) and event.scope == "gap"]
        return bool(up) and any(event.mono_ns > up[0] and not event.breaks for event in rounds)

    await played.until(is_read, 30, "no round was read after the gap")


def is_link(event: Event, link: Link) -> bool:
    return getattr(event, "link", None) is link and getattr(event, "up", False)


async def new_book(played: Played) -> None:
    """Level by level the book is the venue's, and nothing of the one before is left in it."""
    streams = played.site.venue._streams
    assert streams is not None
    book, matching = streams._book, played.site.emulator.account.exchange.matching

    def same() -> bool:
        bids, asks = book.top(5_000)
        return book.is_good and (bids, asks) == (tuple(matching.bids), tuple(matching.asks))

    await played.until(lambda: any(is_link(each, Link.PUBLIC) for each in told(played)), 30, "no new book")
    await played.until(same, 10, "the book is another than the venue's")


async def one_connection_each(played: Played) -> None:
    def is_up() -> bool:
        venue = played.site.daemon.state.venue
        return played.went_down(Link.PUBLIC) and venue.public_up and venue.private_up

    await played.until(is_up, 40, "not up again")
    open_now = [each.private for each in played.site.emulator.connections if each.is_open]
    assert sorted(open_now) == [False, True], f"{open_now.count(True)} private and {open_now.count(False)} public"
