"""The life of an order from the journal: what was sent, what the venue said, and why each request was made.

A cancel or an amend has no reason of its own in the journal. It follows from the decision in force at its event: the
guard, a side that is not wanted, or a rung whose range the order left.
"""

import msgspec

from mmdaemon.cli.addends import why_missing
from mmdaemon.cli.explanation import Moment, OrderStory, guard_reasons
from mmdaemon.cli.shown import price, size, utc
from mmdaemon.core.decision import Decision, DecisionInputs
from mmdaemon.core.params import Params
from mmdaemon.core.types import BPS, NS, TERMINAL, OrderStatus, Purpose, Side
from mmdaemon.journal.reader import JournalReader
from mmdaemon.journal.records import FillRow, Intent, Order, OrderEvent, OrderHistory
from mmdaemon.journal.rows import money_text

_inputs_of = msgspec.msgpack.Decoder(DecisionInputs).decode
_decision_of = msgspec.msgpack.Decoder(Decision).decode
FILL = "FILL"
_HEARD, _SENT = 0, 1
"""At one event, what was heard comes before what was sent because of it."""


def pruned(journal: JournalReader, epoch: int, ts_ns: int = 0) -> str:
    """Why decisions of a run are not there (at a moment); empty where none of them left the journal."""
    gone = journal.pruning("decisions", epoch)
    if gone is None or ts_ns > gone.through_ts_ns:
        return ""
    return (
        f"pruned: decisions of this run up to {utc(gone.through_ts_ns)} UTC left the journal when they were old; the "
        f"backup {gone.copy}, or one of before, has them"
    )


def intent_in_force(history: OrderHistory, fill: FillRow | None = None) -> Intent | None:
    """The order or amend that stood last, or at a fill: the newest before it at its price. None: it was adopted."""
    intents = history.intents
    if fill is None:
        return intents[-1] if intents else None
    before = [each for each in intents if (each.epoch, each.seq) <= (fill.epoch, fill.seq)]
    at_price = [each for each in before if each.px_ticks == fill.px_ticks]
    return (at_price or before or [None])[-1]


def brief_of(order: Order, params: Params) -> OrderStory:
    instrument = params.instrument
    return OrderStory(
        client_id=order.client_id,
        side=order.side.name.lower(),
        purpose=order.purpose.value,
        level=order.level,
        status=order.status.value,
        price=price(order.px_ticks, instrument),
        qty=size(order.qty_lots, instrument),
        filled=size(order.filled_lots, instrument),
    )


def life_of(journal: JournalReader, history: OrderHistory, params: Params) -> OrderStory:
    """The whole history of an order, in the order in which the daemon lived it.

    Raises msgspec.MsgspecError: a decision row was not written by this program.
    """
    instrument, order = params.instrument, history.order
    lines: list[tuple[tuple[int, int, int], Moment]] = []

    def add(epoch: int, seq: int, turn: int, ts_ns: int, what: str, why: str, px: int | None, qty: int | None) -> None:
        shown_px = None if px is None else price(px, instrument)
        shown_qty = None if qty is None else size(qty, instrument)
        lines.append(((epoch, seq, turn), Moment(ts_ns, utc(ts_ns), 0.0, seq, what, shown_px, shown_qty, why)))

    before: Intent | None = None
    for intent in history.intents:
        what = "place" if before is None else f"amend {intent.revision}"
        why = (
            _why_placed(journal, intent, order)
            if before is None
            else _why_moved(journal, order, before, intent, params)
        )
        add(intent.epoch, intent.seq, _SENT, intent.ts_ns, what, why, intent.px_ticks, intent.qty_lots)
        before = intent
    for cancel in history.cancels:
        standing = [each for each in history.intents if (each.epoch, each.seq) <= (cancel.epoch, cancel.seq)]
        why = "no intent of ours is journaled"
        if standing:
            why = _why_moved(journal, order, standing[-1], (cancel.epoch, cancel.seq, cancel.ts_ns), params)
        add(cancel.epoch, cancel.seq, _SENT, cancel.ts_ns, "cancel", why, None, None)
    for event in history.events:
        what, why = _heard(journal, history, event)
        add(event.epoch, event.seq, _HEARD, event.ts_ns, what, why, event.px_ticks, event.qty_lots)
    for fill in history.fills:
        add(fill.epoch, fill.seq, _HEARD, fill.ts_ns, FILL, _of_fill(fill), fill.px_ticks, fill.qty_lots)
    lines.sort(key=lambda line: line[0])
    first_ns = lines[0][1].ts_ns if lines else 0
    life = tuple(msgspec.structs.replace(line, age_s=(line.ts_ns - first_ns) / NS) for _, line in lines)
    return msgspec.structs.replace(brief_of(order, params), life=life)


def _why_placed(journal: JournalReader, intent: Intent, order: Order) -> str:
    if order.purpose is Purpose.FLATTEN:
        return "flatten: sent by the kill switch against the position, reduce-only"
    made = journal.decision_at(intent.epoch, intent.seq)
    if order.purpose is Purpose.DERISK:
        urgency = "" if made is None else f", {_inputs_of(made.inputs).derisk.value}, of decision {made.seq}"
        return f"derisk: works the position down, reduce-only{urgency}"
    return f"nothing stood for rung {order.level}" + ("" if made is None else f" of decision {made.seq}")


def _why_moved(
    journal: JournalReader, order: Order, standing: Intent, request: Intent | tuple[int, int, int], params: Params
) -> str:
    """Why an order that stood as `standing` was amended (to an intent) or cancelled (epoch, seq, ts_ns)."""
    epoch, seq, ts_ns = (request.epoch, request.seq, request.ts_ns) if isinstance(request, Intent) else request
    row = journal.decision_at(epoch, seq)
    if row is None:
        return pruned(journal, epoch) or "before the first decision of the run"
    seen, made = _inputs_of(row.inputs), _decision_of(row.decision)
    missing = why_missing(order.side, seen, made, params, guard_reasons(journal, epoch, row.seq))
    if missing:
        return missing
    px, instrument = standing.px_ticks, params.instrument
    rungs = [quote for quote in made.quotes if quote.side is order.side]
    if any(quote.lo_px_ticks <= px <= quote.hi_px_ticks for quote in rungs):
        if ts_ns - standing.ts_ns >= made.refresh_ns:
            return f"refresh: it stood for {made.refresh_ns / NS:g} s, so it goes to the target exactly"
        if isinstance(request, Intent) and request.px_ticks == px:
            return "size: the price may stay, and what remains is not what the rung wants"
        return "its rung went to another order, or its size or price is just outside what may stay"
    goal = request.px_ticks if isinstance(request, Intent) else px
    rung = min(rungs, key=lambda quote: abs(quote.px_ticks - goal))
    name, wants = f"{'bid' if order.side is Side.BUY else 'ask'} {rung.level}", price(rung.px_ticks, instrument)
    stays = f"{price(rung.lo_px_ticks, instrument)} to {price(rung.hi_px_ticks, instrument)} may stay"
    if rung.lo_px_ticks > rung.hi_px_ticks:
        stays = "nothing else may stay"
    return f"price: stood outside; {name} wants {wants}, {stays}"


def _heard(journal: JournalReader, history: OrderHistory, event: OrderEvent) -> tuple[str, str]:
    """(what, why) of something that the venue, or the lack of its answer, said."""
    status = event.status
    if event.kind == "adopted":
        return f"adopted as {status}", "found by its tag; no decision of this run made it"
    if status is None:
        return event.kind.replace("_", " "), event.reason
    details = [] if event.cum_filled_lots is None or not event.cum_filled_lots else ["filled in part"]
    if status is OrderStatus.FILLED:
        details = []
    if event.reason and event.reason != status.value:
        details.append(event.reason)
    if not status.is_terminal and any(
        (said.epoch, said.seq) < (event.epoch, event.seq) and said.status in TERMINAL for said in history.events
    ):
        details.append("late: it had ended already")
    if status is OrderStatus.CANCELLED and not any(
        (cancel.epoch, cancel.seq) <= (event.epoch, event.seq) for cancel in history.cancels
    ):
        details.append(_who_cancelled(journal, event))
    return status.value, "; ".join(details)


def _who_cancelled(journal: JournalReader, event: OrderEvent) -> str:
    """No decision cancelled it. The kill switch does so through its own lane, and so does a stop."""
    killed = [kill for kill in journal.kills() if kill.epoch == event.epoch and kill.ts_ns <= event.ts_ns]
    if killed and killed[-1].state != "armed":
        return f"by the kill switch: {killed[-1].reason}"
    stopped = any(move.to_state == "stopping" and move.seq <= event.seq for move in journal.transitions(event.epoch))
    return "the run was stopping" if stopped else "no cancel of ours: the venue's own doing"


def _of_fill(fill: FillRow) -> str:
    said = [f"{fill.liquidity.value}, fee {money_text(fill.fee_e10)}, trade {fill.trade_id}"]
    if fill.exec_kind != "trade":
        said.insert(0, fill.exec_kind.value)
    if fill.mark_px_ticks:
        gained = fill.side * (fill.mark_px_ticks - fill.px_ticks) / fill.mark_px_ticks / BPS
        said.append(f"{gained:+.2f} bps from the mark")
    return ", ".join(said)


def resting_at(journal: JournalReader, epoch: int, ts_ns: int) -> list[Order]:
    """Orders of a run that were sent and not yet ended at a moment, as they were known then."""
    ids = journal.db.execute(
        "SELECT client_id FROM intents i WHERE epoch = ? AND revision = 0 AND ts_ns <= ? AND NOT EXISTS "
        "(SELECT 1 FROM order_events e WHERE e.client_id = i.client_id AND e.ts_ns <= ? "
        "AND e.status IN ('filled', 'cancelled', 'rejected')) AND NOT EXISTS "  # what the venue said may be pruned
        "(SELECT 1 FROM orders o WHERE o.client_id = i.client_id AND o.updated_ts_ns <= ? "
        "AND o.status IN ('filled', 'cancelled', 'rejected')) ORDER BY client_id",
        (epoch, ts_ns, ts_ns, ts_ns),
    ).fetchall()
    histories = [history for (client_id,) in ids if (history := journal.order(client_id)) is not None]
    return [_as_of(history, ts_ns) for history in histories]


def _as_of(history: OrderHistory, ts_ns: int) -> Order:
    """The order at that moment: price and size as the venue had said, else as they were sent."""
    place = history.intents[0]
    said = [event for event in history.events if event.ts_ns <= ts_ns and event.status is not None]
    px_ticks = [event.px_ticks for event in said if event.px_ticks is not None]
    qty_lots = [event.qty_lots for event in said if event.qty_lots is not None]
    statuses = [event.status for event in said if event.status is not None]
    return msgspec.structs.replace(
        history.order,
        px_ticks=px_ticks[-1] if px_ticks else place.px_ticks,
        qty_lots=qty_lots[-1] if qty_lots else place.qty_lots,
        status=statuses[-1] if statuses else OrderStatus.SENT,
        filled_lots=sum(fill.qty_lots for fill in history.fills if fill.ts_ns <= ts_ns),
    )
