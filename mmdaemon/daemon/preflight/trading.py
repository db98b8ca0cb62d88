"""What a daemon that trades must show: order life, strangers, feeds, reconciliation, books, the kill switch.

They are made in this order at one daemon. Each begins with quotes on both sides and ends so.
"""

import asyncio
from collections import Counter
from typing import Final

from mmdaemon.core import limits
from mmdaemon.core.commands import Place
from mmdaemon.core.limits import Reference
from mmdaemon.core.orders import WorkingOrder
from mmdaemon.core.reasons import Reason, reasons_of
from mmdaemon.core.types import BPS, NS, GuardState, KillState, OrderStatus, Purpose, Side
from mmdaemon.daemon.preflight.items import Finding
from mmdaemon.daemon.preflight.site import Site

WHO: Final = "preflight"
QUIET_MS: Final = 5_000.0
"""Longest from a kill to nothing resting, with the network up."""
ORPHAN_MS: Final = 30_000.0
_LOOKS: Final = 8
_LOOK_S: Final = 0.25
_GRACE_S: Final = 10.0
"""On top of what the configuration lets a thing take."""


async def pause(site: Site) -> None:
    """Until none of ours rests."""
    await site.daemon.parts.operator.pause(WHO, WHO)
    await site.until_read(lambda seen: not site.own(seen), "quotes rest after a pause")


async def resume(site: Site) -> None:
    outcome = await site.daemon.parts.operator.resume(WHO, WHO)
    if not outcome.ok:
        raise TimeoutError(outcome.message)
    await site.until_quoting()


async def accept(site: Site) -> None:
    """The hands' own trades, by a person's word. Raises TimeoutError: something else is open."""
    ledger = site.daemon.parts.ledger
    await site.until(ledger.acceptable, "the hands' trade was not found")
    outcome = await site.daemon.parts.operator.reconcile(WHO, repair=True, reason=WHO)
    if not outcome.ok:
        raise TimeoutError(f"venue and journal do not agree: {outcome.message.splitlines()[-1]}")


async def order_life(site: Site) -> Finding:
    """The answer to a new ladder is thrown away: its orders are UNKNOWN until the venue's word resolves them. Then what
    rests is read again and again: nothing twice, nothing beyond caps or collar; and what would be is refused."""
    venue, daemon = site.hindered, site.daemon
    await pause(site)
    already = set(venue.unknown)
    venue.lose_next_answer()
    await daemon.parts.operator.resume(WHO, WHO)
    await site.until(lambda: venue.unknown.keys() - already, "no order became UNKNOWN when its answer was lost")
    became = venue.unknown.keys() - already
    live = daemon.state.orders.live

    def resolved() -> bool:
        return not any(c in live and live[c].status in (OrderStatus.UNKNOWN, OrderStatus.SENT) for c in became)

    patience_s = min(site.patience_s, 2 * site.settings.venue.in_flight_max_s + _GRACE_S)
    resolved_ms = await site.until(resolved, f"{len(became)} orders stayed UNKNOWN", patience_s)
    await site.until_quoting()
    wrong: list[str] = []
    most_orders = furthest_bps = 0.0
    most_levels = max(regime.levels_max for regime in daemon.params.regimes.values())
    for _ in range(_LOOKS):
        await asyncio.sleep(_LOOK_S)
        seen = site.own(await site.venue.open_orders())
        mark = (await site.venue.mark()).px_ticks
        unknown = [each.client_id for each in seen if not _is_known(site, each.client_id)]
        wrong += [f"{client_id} rests and is not in the books" for client_id in unknown]
        standing = Counter(order.side for order in daemon.state.orders.live.values() if _stands(order))
        if any(count > most_levels for count in standing.values()):
            wrong.append(f"{max(standing.values())} quotes of one side, at most {most_levels} levels")
        most_orders = max(most_orders, len(seen))
        furthest_bps = max(furthest_bps, *(abs(each.px_ticks / mark - 1) / BPS for each in seen), 0.0)
        notional = daemon.params.instrument.notional_e10
        if any(notional(each.px_ticks, each.qty_lots) > daemon.params.limits.max_order_e10 for each in seen):
            wrong.append("an order is worth more than limits.max_order_quote")
    if furthest_bps > daemon.params.limits.collar_bps:
        wrong.append(
            f"an order rests {furthest_bps:.0f} bps from mark, the collar is {daemon.params.limits.collar_bps:g}"
        )
    if most_orders > daemon.params.limits.max_open_orders:
        wrong.append(f"{most_orders:g} orders rest, limits.max_open_orders is {daemon.params.limits.max_open_orders}")
    refused = _refused(site)
    wrong += [
        f"an order that fails {check!r} was admitted ({was or 'no refusal'})" for check, was in refused if check != was
    ]
    return Finding(
        {
            "unknown": len(became),
            "resolved_ms": resolved_ms,
            "most_orders": most_orders,
            "furthest_bps": round(furthest_bps, 2),
            "refused": len(refused),
        },
        f"an acknowledgement thrown away; {_LOOKS} reads of what rests; {len(refused)} commands that must not go",
        tuple(dict.fromkeys(wrong)),
    )


def _stands(order: WorkingOrder) -> bool:
    return order.purpose is Purpose.QUOTE and not order.cancel_sent_ns and not order.ended_ns


def _is_known(site: Site, client_id: str) -> bool:
    orders = site.daemon.state.orders
    return client_id in orders.live or client_id in orders.closed


def _refused(site: Site) -> list[tuple[str, str]]:
    """(the check that must refuse, the one that did), of orders made to fail at the daemon's own state."""
    state, params = site.daemon.state, site.daemon.params
    mark = state.venue.mark_px_ticks
    most = params.limits.max_order_e10 // params.instrument.notional_e10(mark, 1)
    cap = state.decision.max_position_lots if state.decision is not None else 0
    ref = Reference(GuardState.RUNNING, 0, cap, mark, float(mark), state.mono_ns)
    far = round(mark * (1 - 2 * params.limits.collar_bps * BPS))
    small = site.hands.least_lots(far)
    made = (
        ("collar", far, small, ref),
        ("order_value", mark, most + 1, ref),
        ("worst_case", mark, small, Reference(GuardState.RUNNING, cap, cap, mark, float(mark), state.mono_ns)),
        ("guard", mark, small, Reference(GuardState.SOFT_PAUSE, 0, cap, mark, float(mark), state.mono_ns)),
    )
    found: list[tuple[str, str]] = []
    for check, px_ticks, lots, at in made:
        order = Place(f"{WHO}-{check}", Side.BUY, px_ticks, lots, Purpose.QUOTE, 0, post_only=True, reduce_only=False)
        refusal = limits.admit(order, state.orders, state.budgets, at, params)
        found.append((check, refusal.check if refusal is not None else ""))
    return found


async def strangers(site: Site) -> Finding:
    """An order with this bot's tag that its journal does not know, and one of nobody's, both far from the market."""
    daemon, hands = site.daemon, site.hands
    foreign, orphan = hands.new_id(), f"mm{daemon.params.bot_tag}-0-{site.clock.wall_ns() // NS % 1_000_000}"
    far = await hands.far()
    ledger = daemon.parts.ledger
    begun_ns = site.clock.mono_ns()
    try:
        await hands.rest(foreign, far)
        await hands.rest(orphan, hands.place(orphan, Side.BUY, far.px_ticks - 1, far.qty_lots))
        wait_s = min(site.patience_s, ORPHAN_MS / 1e3 + _GRACE_S)
        await site.until(lambda: hands.ended(orphan), f"the orphan {orphan} was not taken out", wait_s)
        orphan_ms = site.since_ms(begun_ns)
        name = f"foreign_order/{foreign}"
        await site.until(lambda: name in ledger.open, f"the foreign order {foreign} was not told", wait_s)
        foreign_ms = site.since_ms(begun_ns)
        stays = foreign in {each.client_id for each in await site.venue.open_orders()}
    finally:
        await hands.take_out(foreign, orphan)
    await site.until(lambda: name not in ledger.open, "the foreign order is gone, and still told")
    await site.until_quoting()
    wrong = ["the foreign order was cancelled"] * (not stays)
    wrong += [f"the orphan rested for {orphan_ms / 1e3:.0f} s, at most 30"] * (orphan_ms > ORPHAN_MS)
    return Finding(
        {"orphan_gone_ms": orphan_ms, "foreign_told_ms": foreign_ms, "foreign_stays": stays},
        "two orders placed beside the daemon, far from the market",
        tuple(wrong),
    )


async def feeds(site: Site) -> Finding:
    """Each stream is cut, and then books stop coming on one that is up."""
    daemon, venue = site.daemon, site.hindered
    state = daemon.state
    figures: dict[str, float | str | bool] = {}
    venue.went_down.clear()
    begun_ns = site.clock.mono_ns()
    venue.links.private_lost(WHO)
    await site.until(
        lambda: "private" in venue.went_down and state.venue.private_up and state.facts.reconciled_ns > begun_ns,
        "the private stream did not come back, with a clean round after it",
    )
    figures["private_back_ms"] = site.since_ms(begun_ns)
    await site.until_quoting()
    begun_ns = site.clock.mono_ns()
    moved = len(daemon.transitions)
    venue.links.book_lost(WHO)
    await site.until(lambda: _paused_for_book(site, moved), "a lost book did not pause it")
    await site.until(lambda: state.venue.public_up, "the public stream did not come back")
    figures["public_back_ms"] = site.since_ms(begun_ns)
    await site.until_quoting()
    begun_ns, moved = site.clock.mono_ns(), len(daemon.transitions)
    venue.is_stale = True
    try:
        limit_s = site.settings.guard.book_age_max_s
        await site.until(lambda: _paused_for_book(site, moved), "a stale book did not pause it", limit_s + _GRACE_S)
        figures["stale_paused_ms"] = site.since_ms(begun_ns)
        await site.until_read(lambda seen: not site.own(seen), "quotes rest on a stale book", _GRACE_S)
        figures["stale_empty_ms"] = site.since_ms(begun_ns)
    finally:
        venue.is_stale = False
    figures["quoting_again_ms"] = await site.until_quoting()
    wrong: list[str] = []
    if (paused_ms := float(figures["stale_paused_ms"])) > (limit_s + 2.0) * 1e3:
        wrong.append(f"a stale book paused it after {paused_ms:.0f} ms, guard.book_age_max_s is {limit_s:g}")
    return Finding(figures, "both streams cut by this end, and books held back while prints come", tuple(wrong))


def _paused_for_book(site: Site, since: int) -> bool:
    moved = [each for _, each in [*site.daemon.transitions][since:]]
    return any(each.after is GuardState.SOFT_PAUSE and Reason.BOOK in each.reasons for each in moved)


async def reconciliation(site: Site) -> Finding:
    """The hands trade, and the daemon is told of the fill by nobody: its position is not the venue's."""
    daemon, venue = site.daemon, site.hindered
    state, ledger = daemon.state, daemon.parts.ledger
    lots = 2 * await site.least_lots()
    await pause(site)
    venue.hides = True
    try:
        begun_ns = site.clock.mono_ns()
        await site.take(Side.BUY, lots)
        within_s = min(site.patience_s, site.settings.venue.reconcile_position_s + _GRACE_S)
        await site.until(lambda: "position" in ledger.open, "no break was found", within_s)
        found_ms = site.since_ms(begun_ns)
        is_held = Reason.POSITION in reasons_of(state.guard.raw)
    finally:
        venue.hides = False
    begun_ns = site.clock.mono_ns()
    await site.until(lambda: "position" not in ledger.open, "the break was not mended")
    mended_ms = site.since_ms(begun_ns)
    await accept(site)
    await resume(site)
    wrong = ["quoting was not held off by the break"] * (not is_held)
    wrong += [f"the break took {found_ms / 1e3:.0f} s to be found"] * (found_ms > within_s * 1e3)
    return Finding(
        {"injected_lots": lots, "found_ms": found_ms, "mended_ms": mended_ms},
        "a trade by hand of twice the least size, hidden from stream and history, then told",
        tuple(wrong),
    )


async def kill_switch(site: Site) -> Finding:
    """Dry: what rests goes, and the position stays. Then with the position. Both read by the hands."""
    daemon = site.daemon
    if not (await site.venue.snapshot()).position_lots:
        await pause(site)
        await site.take(Side.BUY, await site.least_lots())
        await accept(site)
        await resume(site)
    switch = daemon.parts.kill_switch
    figures: dict[str, float | str | bool] = {}
    wrong: list[str] = []
    for name, flatten in (("dry", False), ("real", True)):
        await site.until_quoting()
        live = [each.client_id for each in site.own(await site.venue.open_orders())]
        figures[f"{name}_orders"] = len(live)
        figures[f"{name}_position_lots"] = (await site.venue.snapshot()).position_lots
        begun_ns = site.clock.mono_ns()
        switch.trip(WHO, flatten=flatten)
        gate_ms = site.since_ms(begun_ns)
        is_closed = bool(daemon.gate.closed_because)
        # By the hands' own stream: what is read now counts towards the limits that the kill's reads and cancels need.
        await site.until(lambda live=live: all(map(site.hands.ended, live)), "orders rest after a kill")
        empty_ms = site.since_ms(begun_ns)
        await site.until(
            lambda: switch.kill_state is KillState.KILLED, f"orders rest after a kill, as it reads ({switch.progress})"
        )
        figures |= {
            f"{name}_gate_ms": gate_ms,
            f"{name}_empty_ms": empty_ms,
            f"{name}_verified_ms": site.since_ms(begun_ns),
            f"{name}_reads": switch.progress.reads,
        }
        left, held = await site.venue.open_orders(), (await site.venue.snapshot()).position_lots
        wrong += [f"{name}: the gate stayed open"] * (not is_closed)
        wrong += [f"{name}: {len(left)} orders rest after it was verified"] * bool(left)
        wrong += [f"{name}: nothing rested before it"] * (not figures[f"{name}_orders"])
        wrong += [f"{name}: it took {empty_ms:.0f} ms until nothing rested, at most {QUIET_MS:.0f}"] * (
            empty_ms > QUIET_MS
        )
        if flatten:
            wrong += [f"{name}: {held} lots are held after it"] * bool(held)
        else:
            wrong += [f"{name}: there was no position"] * (not figures[f"{name}_position_lots"])
            await resume(site)
    return Finding(
        figures, "two kills of a daemon that quoted; orders and position read by another connection", tuple(wrong)
    )
