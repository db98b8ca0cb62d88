"""The table of venue and network faults, over the real protocol. `docs/VENUES_FAULTS.md` is made from it.

Rows without a kind of account in `BOTH` are of things that the two have in common; which of the two they are played at
alternates. `where="place"` is every endpoint that places, single and in batches.
"""

from collections.abc import Awaitable, Callable
from typing import Final

from mmdaemon.core.events import LinkChanged, OrderUpdate
from mmdaemon.core.types import E10, NS, GuardState, Link, OrderStatus, Side
from mmdaemon.venues.emulator.server import Seen
from mmdaemon.venues.emulator.wrong import Wrong
from mmdaemon.venues.outbox import PUSH_WITHIN_NS
from mmdaemon.venues.simulated.records import VenueOrder
from tests.emulated import shown
from tests.emulated.faults import BOTH, CLASSIC, UNIFIED, Inject, Played, Row
from tests.emulated.invariants import client_ids

W = Wrong
PUBLIC, PRIVATE = Link.PUBLIC, Link.PRIVATE
SOFT, AGAIN, HARD = GuardState.SOFT_PAUSE, GuardState.RECONCILING, GuardState.HARD_STOP
SNAPSHOT = "public books snapshot"
PLACE, CANCEL, ORDERS = "place", "cancel-order", "POST "
NO_VERDICT = "open orders that cannot be read are no empty list: no verdict comes of it, and it goes on"
SELDOM_READ = (("venue__reconcile_orders_s", 20.0), ("venue__reconcile_position_s", 20.0))
OPEN = ("orders-pending", "unfilled-orders")
"""What reads them, of each API."""
ASKED = "UNKNOWN, reserved, not sent again; asked for by its id, it is what the venue says"


def _at_open_orders(kind: Wrong) -> tuple[Inject, ...]:
    return tuple(Inject(kind, 6.0, where=path) for path in OPEN)


async def _post_only(played: Played) -> None:
    def came() -> bool:
        told = played.watch.told[played.since :]
        return any(isinstance(event, OrderUpdate) and "post_only" in event.reason for event in told)

    await played.until(came, 30, "nothing was cancelled for being post-only")


def _is_broken(name: str) -> Callable[[Played], Awaitable[None]]:
    """A break of this kind is found and told."""

    async def broken(played: Played) -> None:
        def told() -> bool:
            breaks = [str(fields["open"]) for word, fields in played.site.said[played.said :] if word == "breaks"]
            return any(name in each for each in breaks)

        await played.until(told, 30, f"no {name} was told")

    return broken


async def _waits(played: Played) -> None:
    """The emulator's `Retry-After` is three seconds, longer than a halved budget would wait. Whoever gave up before he
    was told cannot know of it."""

    def asked() -> list[Seen]:
        return [seen for seen in played.site.emulator.requests if seen.path.endswith("place-order")]

    def refused() -> list[Seen]:
        return [seen for seen in asked() if seen.status == 429]

    def heard_ms(refusal: Seen) -> int | None:
        """When the client had read it, by its own clock, which is the venue's too. None: he gave up before."""
        ids = client_ids(refusal.body)
        told = (event for event in played.watch.told[played.since :] if isinstance(event, OrderUpdate))
        return next(
            (event.ts_ns // 1_000_000 for event in told if event.client_id in ids and event.reason.startswith("rate")),
            None,
        )

    now_ms = played.site.emulator.account.now_ms
    await played.site.until(lambda: any(now_ms() > told.answered_ms + 2_800 for told in refused()))
    for told in refused():
        if (from_ms := heard_ms(told)) is None:
            continue
        # What was signed before he had read it was on its way. When one came is the venue's word: a signature has the
        # client's estimate of the venue's clock, which a stalled machine can put a second off.
        sooner = [
            seen
            for seen in asked()
            if seen.path == told.path
            and from_ms < int(seen.headers["ACCESS-TIMESTAMP"])
            and from_ms < seen.at_ms < told.answered_ms + 2_800
        ]
        assert not sooner, f"told to wait for three seconds, and asked again: {told}, {sooner}"


async def _not_overdue(played: Played) -> None:
    """Longer than a push may take to come: those that came before their answer are not waited for."""
    end_ns = played.site.clock.mono_ns() + PUSH_WITHIN_NS + NS
    await played.until(lambda: played.site.clock.mono_ns() > end_ns, 10, "the time")
    assert not played.went_down(Link.PRIVATE), "the stream was begun anew for a push that had come"


async def _counts_fees(played: Played) -> None:
    def same() -> bool:
        fees, there = played.site.daemon.state.venue.fees, played.site.emulator.account.facts
        return fees is not None and fees.maker_rate == float(there.maker_rate)

    await played.until(same, 30, "the schedule that counts is not the venue's")


async def _acknowledged(played: Played) -> None:
    """Two acknowledgements are late by two seconds each, the login's and one of a subscription."""

    def up_ms() -> list[int]:
        told = [event for event in played.watch.told[played.since :] if isinstance(event, LinkChanged)]
        return [event.ts_ns // 1_000_000 for event in told if event.link is Link.PRIVATE and event.up]

    await played.until(up_ms, 30, "not up")
    anew = [each for each in [*played.site.emulator.connections][played.sockets :] if each.private]
    assert up_ms()[0] - anew[0].began_ms > 1_900, "up, and not yet acknowledged"


async def _is_read(played: Played) -> None:
    assert not played.unknown, f"an answer was taken for none: {played.unknown}"


async def _is_transfer(played: Played) -> None:
    def booked() -> bool:
        return played.site.daemon.state.position.transfers_e10 == -100 * E10

    await played.until(booked, 30, "the transfer was not booked as one")


async def _is_foreign(played: Played) -> None:
    await played.until(lambda: played.site.daemon.parts.reconciler.foreign_orders == 1, 30, "it was not told")


async def _runs_out(played: Played) -> None:
    """No cancel is taken by then, and what rests is taken out all the same."""
    site = played.site

    def refused() -> list[Seen]:
        return [seen for seen in site.emulator.requests if "cancel-" in seen.path and seen.status == 400]

    await played.until(lambda: refused() and not played.watch.own_resting(), 30, "it rests, or no cancel was refused")


async def _in_parts(played: Played) -> None:
    """Three prints at the price of our best bid, each taking a part of it, faster than anybody can look."""
    account, watch = played.site.emulator.account, played.watch
    live = played.site.daemon.state.orders.live
    for _ in range(3):
        await played.until(lambda: _whole(played), 20, "no bid that could be filled in parts")
        order = _whole(played)
        assert order is not None
        order.ahead_lots = 0
        for _ in range(3):
            account.exchange.on_trade(account.advance(), order.px_ticks, order.qty_lots // 4, Side.SELL)
        assert 0 < order.filled_lots < order.qty_lots
        await played.until(lambda o=order: o.client_id not in live and watch.is_equal(), 20, f"{order} is not settled")
    assert not played.went_down(Link.PRIVATE), "the stream was begun anew for what it said of parts"


def _whole(played: Played) -> VenueOrder | None:
    """Our best bid, if the daemon knows that it rests and nothing of it is filled."""
    account, live = played.site.emulator.account, played.site.daemon.state.orders.live
    bids = [order for order in account.exchange.matching.live if order.side is Side.BUY]
    best = max(bids, key=lambda order: order.px_ticks, default=None)
    if best is None or best.filled_lots or best.qty_lots < 8 or best.client_id not in live:
        return None
    return best if live[best.client_id].status is OrderStatus.LIVE else None


REQUESTS: Final = (
    Row("R01", "V01", (Inject(W.REQUEST_LOST, count=2, where=PLACE),),
        "UNKNOWN until the in-flight window is over and two reads found nothing", BOTH, unknown=True),
    Row("R02", "V03", (Inject(W.DELIVERED_LATE, 1.4, 2, PLACE),),
        "UNKNOWN; it lands after the time-out, and is then what the venue says", BOTH, unknown=True,
        settings=(("venue__ack_check_s", 0.5),), venue=(("window_s", 1.9),)),
    Row("R03", "V03 C01", (Inject(W.DELIVERED_LATE, 1.6, 2, PLACE),),
        "UNKNOWN; by then the venue refuses its signature, and it never lands", CLASSIC, unknown=True),
    Row("R04", "V01", (Inject(W.CONNECTION_RESET, count=2, where=PLACE),), ASKED, UNIFIED, unknown=True),
    Row("R05", "V25", (Inject(W.RATE_LIMIT, 4.0, where=ORDERS),),
        "certain: freed; no streak of refusals; on when it is over", BOTH, certain="rate_limit"),
    Row("R06", "V25", (Inject(W.RATE_LIMIT_TEXT, count=2, where=PLACE),),
        "the endpoint is not asked again for as long as it is told", CLASSIC,
        also=_waits),
    Row("R07", "V26", (Inject(W.FORBIDDEN_HTML, 3.0),),
        "nothing is known of what was sent: UNKNOWN, within the cap; on when it is over", UNIFIED),
    Row("R08", "V24", (Inject(W.UNAVAILABLE_503, count=3, where=PLACE),), ASKED, CLASSIC, unknown=True),
    Row("R09", "V24", (Inject(W.MAINTENANCE_CODE, 4.0),),
        "UNKNOWN, within the cap; on by itself when it is over", UNIFIED),
    Row("R10", "V24", (Inject(W.MAINTENANCE_HTTP, 4.0),), "the same, and orders under way are UNKNOWN", CLASSIC),
    Row("R11", "V01", (Inject(W.SERVICE_ERROR_UNDONE, count=2, where=PLACE),),
        "an ambiguous code: UNKNOWN, found absent after the window", UNIFIED, unknown=True),
    Row("R12", "C01", (Inject(W.CLOCK_REFUSED, count=3, where=PLACE),), "certain: freed; it goes on", CLASSIC,
        certain="clock:"),
    Row("R21", "C01", (Inject(W.CLOCK_REFUSED, 20.0, where=PLACE),), "a streak of it is HARD_STOP: no loop of requests",
        UNIFIED, ends="stopped", state=HARD, reason="reject_streak"),
    Row("R13", "O06", (Inject(W.KEY_REVOKED, 20.0),),
        "refusals one after another: HARD_STOP; what rests is cancelled as soon as a key is taken", UNIFIED,
        ends="stopped", state=HARD,
        reason="reject_streak"),
    Row("R14", "O06", (Inject(W.PERMISSION_REFUSED, 20.0, where=PLACE),),
        "refusals one after another: HARD_STOP, and what rested is cancelled", CLASSIC, ends="stopped", state=HARD,
        reason="reject_streak"),
    Row("R15", "V17", (Inject(W.MARGIN_REFUSED, count=3),), "certain: freed; it goes on", BOTH, certain="margin:"),
    Row("R16", "V17", (Inject(W.MARGIN_REFUSED, 20.0),), "a streak of it is HARD_STOP", CLASSIC, ends="stopped",
        state=HARD, reason="reject_streak"),
    Row("R17", "V33", _at_open_orders(W.READS_FAIL),
        NO_VERDICT, BOTH, also=shown.no_verdict),
    Row("R18", "V12 V35", (Inject(W.ANSWER_LOST, count=2, where=PLACE), Inject(W.READ_NOT_FOUND),
        Inject(W.ORDERS_LOST, 4.0)),
        "`not found` before the window is over is not believed: the order rests", BOTH, unknown=True,
        settings=SELDOM_READ, also=shown.not_found_and_rests),
    Row("R19", "V12", (Inject(W.CANCEL_NOT_FOUND, count=3),),
        "says nothing of the order: it stays reserved and is cancelled again", BOTH,
        settings=(("venue__amend", False),)),
    Row("R22", "O06", (Inject(W.KEY_WRONG, 6.0, where=OPEN[0]),), NO_VERDICT, CLASSIC, also=shown.no_verdict),
    Row("R20", "V25", (Inject(W.LATENCY, 0.4, 30),), "slow is not lost; nothing is doubled", UNIFIED),
)  # fmt: skip

ANSWERS: Final = (
    Row("A01", "V02", (Inject(W.ANSWER_LOST, count=3, where=PLACE),), ASKED, BOTH, unknown=True),
    Row("A02", "V13", (Inject(W.ANSWER_LOST, count=3, where=CANCEL),),
        "frees nothing until the venue was asked what became of the order", BOTH,
        settings=(("venue__amend", False),)),
    Row("A24", "V13", (Inject(W.REQUEST_LOST, count=3, where=CANCEL),),
        "the order rests: nothing is freed until the venue was asked, and it is cancelled again", BOTH,
        settings=(("venue__amend", False),)),
    Row("A03", "V02", (Inject(W.ANSWER_LOST, count=2, where="modify-order"),),
        "which price is in force is read, and the larger of the two is reserved", UNIFIED, unknown=True),
    Row("A04", "V02", (Inject(W.ANSWER_SLOW, 1.5, 2, PLACE),), ASKED, CLASSIC, unknown=True),
    Row("A05", "V02", (Inject(W.ANSWER_RESET, count=2, where=PLACE),), ASKED, UNIFIED, unknown=True),
    Row("A06", "V02", (Inject(W.RESET_MID_BODY, count=2, where=PLACE),), ASKED, CLASSIC, unknown=True),
    Row("A07", "V02", (Inject(W.SLOW_504, 0.7, 2, PLACE),), ASKED, BOTH, unknown=True),
    Row("A08", "V02", (Inject(W.ERROR_500, count=2, where=PLACE),), ASKED, UNIFIED, unknown=True),
    Row("A09", "V33", (Inject(W.BAD_GATEWAY_HTML, count=2, where=PLACE),), ASKED, CLASSIC, unknown=True),
    Row("A10", "V02", (Inject(W.SERVICE_ERROR, count=2, where=PLACE),), ASKED, UNIFIED, unknown=True),
    Row("A11", "V02", (Inject(W.SYSTEM_ERROR, count=2, where=PLACE),), ASKED, CLASSIC, unknown=True),
    Row("A12", "V01", (Inject(W.REQUEST_TIMED_OUT, count=2, where=PLACE),), ASKED, UNIFIED, unknown=True),
    Row("A13", "V02", (Inject(W.UNKNOWN_CODE, count=2, where=PLACE),), ASKED, CLASSIC, unknown=True),
    Row("A14", "V33", (Inject(W.HTML_200, count=2, where=PLACE),), ASKED, UNIFIED, unknown=True),
    Row("A15", "V33", _at_open_orders(W.EMPTY_200), NO_VERDICT, BOTH, also=shown.no_verdict),
    Row("A16", "V33", (Inject(W.TRUNCATED_JSON, count=2, where=PLACE),), ASKED, CLASSIC, unknown=True),
    Row("A17", "V33", (Inject(W.WRONG_CONTENT_TYPE, 4.0),), "read as what it is", UNIFIED, also=_is_read),
    Row("A18", "M10", (Inject(W.DEEP_JSON, count=6),), "no crash; taken for no answer", CLASSIC),
    Row("A19", "M10", _at_open_orders(W.MISTYPED_ANSWER), NO_VERDICT, BOTH, also=shown.no_verdict),
    Row("A20", "M10", (Inject(W.DUPLICATE_FIELDS, 4.0),), "the last of each counts: read as what it is", UNIFIED,
        also=shown.read_as_it_is),
    Row("A21", "V20", (Inject(W.BATCH_ROWS_DROPPED, count=3),),
        "an order that the answer does not name is UNKNOWN, and asked for", BOTH, unknown=True),
    Row("A22", "V34", (Inject(W.FILLS_LOST, 5.0), Inject(W.PAGE_TRUNCATED, 8.0, where="fills")),
        "pages on: fills that only history tells of are all booked", BOTH, also=shown.pages_on),
    Row("A23", "V35", (Inject(W.STALE_READS, 5.0),), "no fill and no cancel is undone by an older answer", BOTH,
        also=shown.not_adopted),
)  # fmt: skip

MARKET: Final = (
    Row("M01", "M03", (Inject(W.FRAME_LOST, where="public books update"),), "a gap: no book until a snapshot", BOTH,
        down=PUBLIC),
    Row("M02", "M03", (Inject(W.BOOK_GAP),), "no book until a snapshot", BOTH, down=PUBLIC, refused="gap"),
    Row("M03", "M03 M02", (Inject(W.BOOK_GAP), Inject(W.FRAME_LATE, 1.6, 1, "public books snapshot")),
        "quotes are pulled with the gap, and none is made until the snapshot has come", CLASSIC, down=PUBLIC,
        state=SOFT, reason="book"),
    Row("M04", "M02", (Inject(W.BOOK_RESTART),), "no book until a snapshot", UNIFIED, down=PUBLIC),
    Row("M05", "M03", (Inject(W.BOOK_CHECKSUM),), "no book until a snapshot", CLASSIC, down=PUBLIC,
        refused="checksum", venue=(("checksum", True),)),
    Row("M06", "M01", (Inject(W.BOOK_CROSSED),), "no quote from it", BOTH, down=PUBLIC, refused="crossed"),
    Row("M07", "M08", (Inject(W.BOOK_ONE_SIDED),), "no quote from it", UNIFIED),
    Row("M08", "M04", (Inject(W.BOOK_FROZEN, 6.0),), "prints go through it: frozen, and quotes are pulled", BOTH),
    Row("M09", "M04", (Inject(W.BOOK_SILENT, 5.0),), "its age pulls the quotes", CLASSIC, state=SOFT, reason="book"),
    Row("M10", "M04", (Inject(W.PUBLIC_SILENT, 5.0),), "its age pulls the quotes", UNIFIED, state=SOFT, reason="book"),
    Row("M11", "M06", (Inject(W.PRICE_NAN, count=2, where="books update"),),
        "refused: no book until a snapshot", CLASSIC,
        down=PUBLIC),
    Row("M12", "M06", (Inject(W.PRICE_INFINITE, count=2, where="books update"),),
        "refused: no book until a snapshot", UNIFIED,
        down=PUBLIC),
    Row("M13", "M06", (Inject(W.PRICE_ZERO, count=2, where="books update"),),
        "refused: no book until a snapshot", CLASSIC,
        down=PUBLIC),
    Row("M14", "M06", (Inject(W.PRICE_NEGATIVE, count=2, where="books update"),),
        "refused: no book until a snapshot", UNIFIED,
        down=PUBLIC),
    Row("M15", "M06 M07", (Inject(W.PRICE_ABSURD, where=SNAPSHOT), Inject(W.FRAME_LATE, 0.5, where=SNAPSHOT),
                               Inject(W.FORCED_CLOSE, where="public")),
        "one such book is not believed, whole as it is; no order at such a price", BOTH, down=PUBLIC,
        also=shown.refused_as_absurd),
    Row("M16", "M09", (Inject(W.FRAME_OTHER_SYMBOL, where="public books"),), "not taken for ours; a gap", CLASSIC,
        down=PUBLIC),
    Row("M17", "C05", (Inject(W.FRAME_FUTURE, count=5, where="public "),),
        "no age is negative, none is fresh", UNIFIED, refused="future"),
    Row("M18", "M10", (Inject(W.FRAME_TRUNCATED, count=2, where="public "),), "refused and counted", CLASSIC),
    Row("M19", "M10", (Inject(W.FRAME_NOT_JSON, count=2, where="public "),), "refused and counted", UNIFIED),
    Row("M20", "M10", (Inject(W.FRAME_DEEP, count=2, where="public "),), "no crash; refused and counted", CLASSIC),
    Row("M21", "M10", (Inject(W.FRAME_HUGE, count=1, where="public "),), "no stall; refused and counted", UNIFIED),
    Row("M22", "M02", (Inject(W.FRAME_TWICE, 0.2, 2, "public books update"),), "a gap: no book until a snapshot",
        CLASSIC, down=PUBLIC),
    Row("M23", "M02", (Inject(W.FRAME_LATE, 0.5, 2, "public books update"),), "a gap: no book until a snapshot",
        UNIFIED, down=PUBLIC),
)  # fmt: skip

ACCOUNT: Final = (
    Row("P01", "V06", (Inject(W.FRAME_LOST, count=5, where="private "),), "REST finds what was not told", BOTH),
    Row("P02", "V05", (Inject(W.FRAME_TWICE, 0.5, 8, "private "),), "nothing is booked twice", BOTH),
    Row("P03", "V06", (Inject(W.FRAME_LATE, 1.0, 8, "private "),), "no order's life goes backwards", BOTH,
        also=shown.told_late),
    Row("P04", "V06 V07", (Inject(W.FRAMES_HELD, 4.5, where="private "),), "nothing is lost, nothing twice", CLASSIC,
        also=shown.told_twice),
    Row("P05", "M05", (Inject(W.PRIVATE_SILENT, 6.0),), "REST finds what happened; no fill is lost", BOTH),
    Row("P06", "V08", (Inject(W.FILLS_LOST, 6.0),), "a filled order waits for its fills; REST brings them", BOTH),
    Row("P07", "V06", (Inject(W.ORDERS_LOST, 6.0),), "REST settles each order", BOTH),
    Row("P08", "M10", (Inject(W.FRAME_TRUNCATED, count=1, where="private "),), "it may have been a fill: begun anew",
        CLASSIC, down=PRIVATE),
    Row("P09", "M10", (Inject(W.FRAME_MISTYPED, count=1, where="private "),), "it may have been a fill: begun anew",
        BOTH, down=PRIVATE),
    Row("P10", "M10", (Inject(W.FRAME_NOT_JSON, count=1, where="private "),), "it may have been a fill: begun anew",
        UNIFIED, down=PRIVATE),
    Row("P11", "M09", (Inject(W.FRAME_OTHER_SYMBOL, count=2, where="private fills"),), "not booked as ours", UNIFIED,
        also=shown.fill_of_another),
    Row("P12", "C05", (Inject(W.FRAME_FUTURE, count=5, where="private "),), "booked once; no age is negative", CLASSIC),
    Row("P13", "V08", (Inject(W.LATENCY, 0.3, 5, PLACE),), "the push comes before the request's own answer",
        CLASSIC, venue=(("push_delay_s", -0.2),), also=_not_overdue),
    Row("P14", "V16", (Inject(W.LATENCY, 0.5, 20, PLACE),),
        "an order that would take by then is cancelled on the stream: freed, no streak of refusals", UNIFIED,
        also=_post_only),
    Row("P15", "V06 V10", (Inject(W.FRAME_LOST, where="private orders"),),
        "filled in parts at once: cumulative is the sum, each part booked once, the rest reserved until its end", BOTH,
        also=_in_parts),
    Row("P16", "V06", (Inject(W.FRAME_LOST, 5.0, where="private positions"),),
        "missed by nobody: fills are the truth", BOTH),
    Row("P17", "V07", (Inject(W.FRAME_LATE, 1.5, 6, "private positions"),),
        "behind the books: read, found to agree, and nothing booked", CLASSIC),
    Row("P18", "M09", (Inject(W.FRAME_OTHER_SYMBOL, count=2, where="private positions"),), "not taken for ours",
        UNIFIED),
    Row("P19", "M10", (Inject(W.FRAME_MISTYPED, 5.0, where="private positions"),),
        "refused and counted; the stream goes on", BOTH, refused="positions:malformed"),
    Row("P20", "V35 V29", (Inject(W.STALE_READS, 5.0), Inject(W.FRAME_LOST, where="private fills"),
                           Inject(W.MANUAL_TRADE)),
        "the push says what no read confirms: nothing is booked until one does, and then once", UNIFIED,
        also=_is_broken("manual_trade")),
)  # fmt: skip

SOCKETS: Final = (
    Row("S01", "V09", (Inject(W.FORCED_CLOSE),),
        "private: a whole round is read on the new connection; book: a new snapshot", BOTH, down=PRIVATE,
        also=shown.read_after_gap),
    Row("S02", "V09", (Inject(W.SOCKET_RESET),), "the same as a close", BOTH, down=PRIVATE),
    Row("S03", "M02", (Inject(W.FRAME_LATE, 1.5, where=SNAPSHOT), Inject(W.SOCKET_RESET, where="public")),
        "a new snapshot, never merged into the old book",
        CLASSIC, down=PUBLIC, also=shown.new_book),
    Row("S04", "V24", (Inject(W.CONNECTION_REFUSED, 4.0),), "backs off, dials again, reads before it quotes", BOTH,
        down=PRIVATE),
    Row("S13", "V24", (Inject(W.CONNECTION_REFUSED, 14.0),),
        "each stream is one connection, however many dials were given up meanwhile", BOTH, down=PUBLIC,
        also=shown.one_connection_each),
    Row("S05", "M02", (Inject(W.FRAME_LATE, 1.5, where=SNAPSHOT),
        Inject(W.RESTART)), "the book's numbers begin anew: a new snapshot", UNIFIED,
        down=PRIVATE, also=shown.new_book),
    Row("S06", "V09", (Inject(W.LOGIN_REFUSED, count=2), Inject(W.FORCED_CLOSE, where="private")),
        "stays down until a login is taken", CLASSIC, down=PRIVATE),
    Row("S07", "M02", (Inject(W.SUBSCRIBE_REFUSED, count=1), Inject(W.FORCED_CLOSE, where="public")),
        "never asked for again on this connection: begun anew", UNIFIED, down=PUBLIC),
    Row("S08", "V09", (Inject(W.ACK_LATE, 2.0, 2), Inject(W.FORCED_CLOSE, where="private")),
        "not up before it is acknowledged", UNIFIED, down=PRIVATE, also=_acknowledged),
    Row("S09", "V09", (Inject(W.ACK_LOST, count=1, where="private"), Inject(W.FORCED_CLOSE, where="private")),
        "not up on a guess; begun anew", CLASSIC, down=PRIVATE),
    Row("S10", "M05", (Inject(W.HALF_OPEN, 7.0, where="public"),), "silence is seen; dialled anew", CLASSIC,
        down=PUBLIC, state=SOFT, reason="book"),
    Row("S11", "M05", (Inject(W.HALF_OPEN, 8.0, where="private"),), "an order's silence is seen; dialled anew", UNIFIED,
        down=PRIVATE),
    Row("S12", "M05", (Inject(W.PONG_MUTED, 35.0),), "two misses, and it is dialled anew", CLASSIC,
        down=PUBLIC),
)  # fmt: skip

OTHERS: Final = (
    Row("X01", "V15", (Inject(W.FOREIGN_ORDER),), "left alone, told, and there after the stop", BOTH, also=_is_foreign),
    Row("X02", "V29", (Inject(W.MANUAL_TRADE),), "booked once, and a soft break until a person accepts it", BOTH,
        also=_is_broken("manual_trade")),
    Row("X03", "V21", (Inject(W.LIQUIDATION),), "booked as such; a hard break: HARD_STOP", BOTH, ends="stopped",
        state=HARD, also=_is_broken("forced_trade")),
    Row("X04", "V32", (Inject(W.TRANSFER),), "booked as a transfer, never as PnL", BOTH, also=_is_transfer),
    Row("X05", "V28", (Inject(W.LEVERAGE_CHANGED),), "HARD_STOP, nothing resting", CLASSIC, ends="stopped", state=HARD,
        reason="account_facts"),
    Row("X06", "V27", (Inject(W.HEDGE_MODE),), "HARD_STOP, nothing resting", UNIFIED, ends="stopped", state=HARD),
    Row("X07", "O06", (Inject(W.PERMISSION_WIDENED),), "HARD_STOP, nothing resting", CLASSIC, ends="stopped",
        state=HARD, reason="account_facts"),
    Row("X08", "O06", (Inject(W.PERMISSION_NARROWED),),
        "HARD_STOP; the key takes nothing out any more: the countdown runs out, and nothing rests", UNIFIED,
        ends="stopped", state=HARD, settings=(("venue__dead_man_s", 5),), venue=(("dead_man_granted", True),),
        also=_runs_out),
    Row("X09", "V31", (Inject(W.FEES_CHANGED),), "paid as charged and counted from then on", BOTH,
        also=_counts_fees),
    Row("X10", "V23", (Inject(W.MINIMUM_CHANGED, 20.0),), "HARD_STOP, nothing resting", UNIFIED, ends="stopped",
        state=HARD, reason="account_facts"),
    Row("X11", "V22", (Inject(W.DELISTED, 20.0),), "HARD_STOP, nothing resting: it takes no order of any size", BOTH,
        ends="stopped", state=HARD, reason="account_facts"),
    Row("X12", "C02 C05", (Inject(W.FUTURE_CLOCK, 8.0),), "the clocks differ: nothing increases until they agree", BOTH,
        reason="clock"),
)  # fmt: skip

ROWS: Final = (*REQUESTS, *ANSWERS, *MARKET, *ACCOUNT, *SOCKETS, *OTHERS)
