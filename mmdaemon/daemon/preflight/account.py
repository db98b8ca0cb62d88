"""What hands alone can measure at the venue: the account, the instrument, the fees. Orders of the least size."""

from typing import Any, Final

import msgspec

from mmdaemon.core.commands import Amend, Cancel
from mmdaemon.core.events import FeeSchedule, Fill
from mmdaemon.core.types import NS, Liquidity, Side
from mmdaemon.daemon.preflight.items import Finding
from mmdaemon.daemon.preflight.site import Site
from mmdaemon.venues.base import Cursor, VenueUnavailable
from mmdaemon.venues.bitget import endpoints

FEE_TOLERANCE: Final = 1e-4
"""Of the fee: what rounding to the coin's digits may make of it."""
FEE_LEAST_E10: Final = 200
_LOOK_BACK_NS: Final = 300 * NS


async def account(site: Site) -> Finding:
    """The key's rights and addresses, the account's modes, and our clock beside the venue's."""
    facts, venue = await site.venue.facts(), site.settings.venue
    is_classic = venue.account == "classic"
    row = await site.ask(endpoints.CLASSIC_KEY if is_classic else endpoints.UNIFIED_KEY)
    addresses = _addresses(row)
    most_s = site.settings.guard.clock_offset_max_s
    wrong = [
        why
        for is_wrong, why in (
            (not facts.can_trade, "the key may not trade"),
            (facts.can_withdraw, "the key may withdraw: make one that may not"),
            (not addresses, "the key is bound to no address: bind it to this machine's"),
            (facts.position_mode != "one_way", f"position mode is {facts.position_mode}, and must be one_way"),
            (facts.margin_mode != "crossed", f"margin mode is {facts.margin_mode}, and must be crossed"),
            (facts.leverage != venue.leverage, f"leverage is {facts.leverage:g}, configured {venue.leverage}"),
            (
                not abs(facts.clock_offset_s) <= most_s,
                f"our clock is {facts.clock_offset_s:+.3f} s off the venue's, at most {most_s:g}",
            ),
        )
        if is_wrong
    ]
    return Finding(
        {
            "can_trade": facts.can_trade,
            "can_withdraw": facts.can_withdraw,
            "addresses": len(addresses),
            "position_mode": facts.position_mode,
            "margin_mode": facts.margin_mode,
            "leverage": facts.leverage,
            "clock_offset_s": round(facts.clock_offset_s, 4),
        },
        "the key's and the account's own reads, and the venue's clock",
        tuple(wrong),
    )


def _addresses(row: Any) -> list[str]:
    """The classic API says a list, the unified one a text with commas."""
    try:
        told = msgspec.convert(row, _Key).ips
    except msgspec.ValidationError as error:
        raise VenueUnavailable(f"the key's addresses: {error}") from None
    found = told.split(",") if isinstance(told, str) else told
    return [each.strip() for each in found if each.strip()]


class _Key(msgspec.Struct):
    ips: str | list[str]


async def instrument(site: Site) -> Finding:
    """The contract's steps, read twice; and an order far from the market on an odd tick and an odd lot, so that a step
    that is stated too fine is refused: taken, moved (or replaced), as asked, and cancelled."""
    first, again = await site.venue.instrument(), await site.venue.instrument()
    hands, is_classic = site.hands, site.settings.venue.account == "classic"
    far = await hands.far()
    px_ticks = far.px_ticks // 10 * 10 + 1
    least = hands.least_lots(px_ticks)
    lots = least + (1 if (least + 1) % 10 else 2)
    client_id, fresh = hands.new_id(), hands.new_id()
    try:
        order = hands.place(client_id, Side.BUY, px_ticks, lots)
        answer_ms, push_ms = await hands.rest(client_id, order)
        wrong = _as_asked(site, await hands.raw_order(client_id), px_ticks, lots)
        begun_ns = site.clock.mono_ns()
        if is_classic:
            await site.venue.send(Cancel(client_id, risk=True))
            await hands.until(lambda: hands.ended(client_id))
            await hands.rest(fresh, hands.place(fresh, Side.BUY, px_ticks - 1, lots))
        else:
            fresh = client_id
            await site.venue.send(Amend(client_id, 1, px_ticks - 1, lots))
            await hands.until(lambda: any(each.px_ticks == px_ticks - 1 for each in hands.of(client_id)))
        moved_ms = site.since_ms(begun_ns)
        wrong += _as_asked(site, await hands.raw_order(fresh), px_ticks - 1, lots)
        begun_ns = site.clock.mono_ns()
        await site.venue.send(Cancel(fresh, risk=True))
        await hands.until(lambda: hands.ended(fresh))
        cancelled_ms = site.since_ms(begun_ns)
    finally:
        await hands.take_out(client_id, fresh)
    left = [each for each in await site.venue.open_orders() if each.client_id in (client_id, fresh)]
    wrong += ["the venue shows the order after it said that it was cancelled"] * bool(left)
    wrong += ["the contract's steps changed between two reads"] * (first != again)
    scale = hands.scale
    return Finding(
        {
            "tick": scale.px_text(1),
            "lot": scale.qty_text(1),
            "min_qty": scale.qty_text(first.min_qty_lots),
            "min_notional": round(first.min_notional_e10 / 1e10, 4),
            "answer_ms": answer_ms,
            "push_ms": push_ms,
            "moved_ms": moved_ms,
            "cancelled_ms": cancelled_ms,
        },
        f"the contract's read, and one order: placed, {'replaced' if is_classic else 'amended'}, cancelled",
        tuple(wrong),
    )


def _as_asked(site: Site, row: dict[str, Any], px_ticks: int, lots: int) -> list[str]:
    """Whether the venue has the order at the price and the size that were sent."""
    scale = site.hands.scale
    told = str(row.get("price", "")), str(row.get("size", row.get("qty", "")))
    try:
        same = scale.px_ticks(told[0]) == px_ticks and scale.qty_lots(told[1]) == lots
    except ValueError:
        same = False
    asked = scale.px_text(px_ticks), scale.qty_text(lots)
    return [] if same else [f"the venue has {told[1]} at {told[0]}, and {asked[1]} at {asked[0]} were sent"]


async def fees(site: Site) -> Finding:
    """The least size taken, and given back: each fill's fee is the rate that the account states."""
    began_ns = site.clock.wall_ns()
    rates = await site.venue.fees()
    lots = await site.least_lots()
    fills = [*await site.take(Side.BUY, lots), *await site.take(Side.SELL, lots)]
    read = {fill.trade_id: fill for fill in await site.venue.fills(Cursor(began_ns - _LOOK_BACK_NS))}
    wrong = [said for fill in fills if (said := mischarged(site, fill, rates))]
    for fill in fills:
        if fill.trade_id not in read:
            wrong.append(f"fill {fill.trade_id} was told and is not in the history")
        elif read[fill.trade_id].fee_e10 != fill.fee_e10:
            wrong.append(f"fill {fill.trade_id}: the stream says another fee than the history")
    if held := (await site.venue.snapshot()).position_lots:
        wrong.append(f"{held} lots are held after both sides filled")
    value_e10 = sum(site.hands.instrument.notional_e10(fill.px_ticks, fill.qty_lots) for fill in fills)
    charged = sum(fill.fee_e10 for fill in fills) / value_e10
    return Finding(
        {
            "maker_rate": rates.maker_rate,
            "taker_rate": rates.taker_rate,
            "charged_rate": round(charged, 9),
            "fills": len(fills),
            "value_quote": round(value_e10 / 1e10, 2),
        },
        f"{rates.source}, and {len(fills)} fills of the least size",
        tuple(wrong),
    )


def mischarged(site: Site, fill: Fill, rates: FeeSchedule) -> str:
    """What is wrong with a fill's fee; empty: nothing."""
    value_e10 = site.hands.instrument.notional_e10(fill.px_ticks, fill.qty_lots)
    rate = rates.maker_rate if fill.liquidity is Liquidity.MAKER else rates.taker_rate
    off_e10 = abs(fill.fee_e10 - value_e10 * rate)
    if off_e10 <= max(FEE_LEAST_E10, abs(value_e10 * rate) * FEE_TOLERANCE):
        return ""
    return (
        f"{fill.liquidity.value} fill {fill.trade_id} was charged {fill.fee_e10 / value_e10:.6f} of its value, and the "
        f"account's rate is {rate:.6f}"
    )
