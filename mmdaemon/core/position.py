"""What we hold, what it cost, and what it has earned, to the last digit.

Symbols: s = +1 buy, −1 sell; p price in ticks; q size in lots; u value of one tick on one lot; M mark in ticks.

The PnL identity (docs/CONTRACTS.md), which holds after every event and at every mark:

    from cash flows   equity = start + cash_flow − fees + funding + transfers + position·M·u
    from cost basis   equity = start + realised + unrealised − fees + funding + transfers
    with              cash_flow = −Σ s·p·q·u,  unrealised = position·M·u − cost

Cost is kept as one total, not as a price. A reduction takes out the slice `cost · closed / open`, rounded half-even to
1e-10 quote, and what was rounded away stays in the rest, so that nothing leaks. FIFO lots are kept beside it; realised
plus unrealised is the same total on both.

Attribution sums spread `s·(M − p)·q·u`, with M the mark when the fill was booked, and inventory `position·ΔM·u` at each
change of the mark. Summed by parts, the two are cash_flow + position·M·u, so the attribution foots exactly.

Invariants: |Σ fifo lots| = |position|, all of one sign; cost has the sign of the position and is 0 when flat.
"""

from itertools import islice

import msgspec

from mmdaemon.core.events import Bill, BillKind, Fill
from mmdaemon.core.figures import is_count, is_money, is_time_or_none
from mmdaemon.core.types import ExecKind, Instrument, Side

IDS_KEPT = 50_000
"""At least this many of the latest ids are remembered. Venues have delivered a fill again after 40 minutes."""
_IDS_SLACK = 1_000
"""Ids are forgotten this many at a time: taking the oldest key of a dict one by one walks over all that went before."""


class Position(msgspec.Struct, kw_only=True):
    """The slice. Changed only by `on_fill`, `on_bill` and `on_mark`; made by `begin`."""

    start_e10: int
    """Equity when the books were opened."""
    unit_e10: int
    instrument_version: int
    """Lots and ticks below are of this version. Another one is refused."""

    position_lots: int = 0
    cost_e10: int = 0
    """What the open position cost, on average: positive paid for a long, negative received for a short."""
    realised_e10: int = 0
    """Gross of fees."""
    fees_e10: int = 0
    """Paid, on fills and by lines of the ledger that no fill carries; negative where rebates outweigh."""
    funding_e10: int = 0
    """Received; negative is paid."""
    transfers_e10: int = 0
    """Moved in; negative is moved out."""
    cash_flow_e10: int = 0

    fifo: list[tuple[int, int]] = []
    """Open lots, oldest first: (signed qty_lots, px_ticks)."""
    fifo_realised_e10: int = 0

    bought_lots: int = 0
    sold_lots: int = 0
    buys: int = 0
    sells: int = 0
    turnover_e10: int = 0
    liquidations: int = 0
    """Fills that were the venue's doing: liquidation and auto-deleveraging."""

    spread_e10: int = 0
    inventory_e10: int = 0
    last_mark_ticks: int = 0
    """0 = none yet. Until the first mark comes, the price of the first fill stands in."""

    trade_ids: dict[str, None] = {}
    """Seen, oldest first. A dict because it is an ordered set that msgpack can carry."""
    bill_ids: dict[str, None] = {}
    duplicate_fills: int = 0
    duplicate_bills: int = 0
    refused_marks: int = 0


class Attribution(msgspec.Struct, frozen=True, kw_only=True):
    """Where equity − start came from. Every addend is signed as it acts on equity: fees paid are negative."""

    spread_e10: int
    """Distance from the mark at which we traded."""
    impact_e10: int
    """What the mark did right after our fills, as measured by the caller; taken out of `inventory_e10`."""
    inventory_e10: int
    """What the mark did to what we held."""
    fees_e10: int
    funding_e10: int
    transfers_e10: int

    @property
    def total_e10(self) -> int:
        """Equals equity − start exactly."""
        return (
            self.spread_e10
            + self.impact_e10
            + self.inventory_e10
            + self.fees_e10
            + self.funding_e10
            + self.transfers_e10
        )


def begin(inst: Instrument, start_e10: int) -> Position:
    """Flat books of one instrument version, opened at an equity of `start_e10`."""
    return Position(start_e10=start_e10, unit_e10=inst.unit_e10, instrument_version=inst.version)


def on_fill(p: Position, fill: Fill, inst: Instrument) -> bool:
    """Book a fill. False, and nothing but a counter changes, where its trade id was booked before.

    A fill that crosses zero closes what is open and opens the rest; its fee belongs to the whole.

    Raises:
        ValueError: the fill cannot be booked: price or size not a positive integer, fee or time not an integer, or
            another instrument version. Nothing has changed then. A fill that is not booked is a break, so it must not
            pass for a duplicate.
    """
    _check_instrument(p, inst)
    side, px_ticks, qty_lots = int(fill.side), fill.px_ticks, fill.qty_lots
    if not (is_count(px_ticks) and is_count(qty_lots) and is_money(fill.fee_e10) and is_time_or_none(fill.venue_ts_ns)):
        raise ValueError(
            f"fill {fill.trade_id:.80}: price and size must be whole and within 1..2**48, fee and time whole, got "
            f"{px_ticks!r:.80} ticks, {qty_lots!r:.80} lots, {fill.fee_e10!r:.80} e-10, at {fill.venue_ts_ns!r:.80}; "
            "the codec must refuse such a message"
        )
    if not _remember(p.trade_ids, fill.trade_id):
        p.duplicate_fills += 1
        return False

    unit_e10 = p.unit_e10
    notional_e10 = px_ticks * qty_lots * unit_e10
    p.last_mark_ticks = p.last_mark_ticks or px_ticks
    p.spread_e10 += side * (p.last_mark_ticks - px_ticks) * qty_lots * unit_e10
    p.cash_flow_e10 -= side * notional_e10
    p.turnover_e10 += notional_e10
    p.fees_e10 += fill.fee_e10
    if fill.side is Side.BUY:
        p.buys += 1
        p.bought_lots += qty_lots
    else:
        p.sells += 1
        p.sold_lots += qty_lots
    if fill.exec_kind is not ExecKind.TRADE:
        p.liquidations += 1

    closed_lots = min(qty_lots, abs(p.position_lots)) if p.position_lots * side < 0 else 0
    if closed_lots:
        _reduce(p, side, px_ticks, closed_lots)
    opened_lots = qty_lots - closed_lots
    if opened_lots:
        p.position_lots += side * opened_lots
        p.cost_e10 += side * px_ticks * opened_lots * unit_e10
        p.fifo.append((side * opened_lots, px_ticks))
    return True


def _reduce(p: Position, side: int, px_ticks: int, closed_lots: int) -> None:
    """Close at most what is open, on both bases. `side` is that of the closing trade."""
    proceeds_e10 = -side * px_ticks * closed_lots * p.unit_e10
    slice_e10 = _divide_half_even(p.cost_e10 * closed_lots, abs(p.position_lots))
    p.cost_e10 -= slice_e10
    p.realised_e10 += proceeds_e10 - slice_e10
    p.position_lots += side * closed_lots

    left_lots, spent = closed_lots, 0
    for lot_lots, lot_px_ticks in p.fifo:
        taken_lots = min(left_lots, abs(lot_lots))
        p.fifo_realised_e10 += -side * (px_ticks - lot_px_ticks) * taken_lots * p.unit_e10
        left_lots -= taken_lots
        if taken_lots < abs(lot_lots):
            p.fifo[spent] = (lot_lots + side * taken_lots, lot_px_ticks)
            break
        spent += 1
        if not left_lots:
            break
    del p.fifo[:spent]


def on_bill(p: Position, bill: Bill) -> bool:
    """Book a line of the ledger as given: positive is received. False where its bill id was booked before.

    Raises:
        ValueError: the amount is not an integer that the journal can hold. Nothing has changed then.
    """
    if not is_money(bill.amount_e10):
        raise ValueError(
            f"bill {bill.bill_id:.80}: the amount must be whole and within 2**63, got {bill.amount_e10!r:.80} e-10; "
            "the codec must refuse such a message"
        )
    if not _remember(p.bill_ids, bill.bill_id):
        p.duplicate_bills += 1
        return False
    match bill.kind:
        case BillKind.FUNDING:
            p.funding_e10 += bill.amount_e10
        case BillKind.TRANSFER:
            p.transfers_e10 += bill.amount_e10
        case BillKind.FEE:
            p.fees_e10 -= bill.amount_e10
    return True


def on_mark(p: Position, px_ticks: int, inst: Instrument) -> bool:
    """Move the mark: the venue's own, or on a tape without one the mid in ticks. False, and counted, if it is no price.

    Raises:
        ValueError: another instrument version than the one the books are kept in.
    """
    _check_instrument(p, inst)
    if not is_count(px_ticks):
        p.refused_marks += 1
        return False
    # Without an earlier mark there is no position yet: the first fill would have set one.
    p.inventory_e10 += p.position_lots * (px_ticks - p.last_mark_ticks) * p.unit_e10
    p.last_mark_ticks = px_ticks
    return True


def value_e10(p: Position, mark_ticks: int) -> int:
    """Signed value of what is held.

    Raises:
        ValueError: something is held and there is no mark. Its value is unknown then, not zero.
    """
    if p.position_lots and not mark_ticks > 0:
        raise ValueError(f"{p.position_lots} lots cannot be valued at a mark of {mark_ticks}; wait for a mark price")
    return p.position_lots * mark_ticks * p.unit_e10


def unrealised_e10(p: Position, mark_ticks: int) -> int:
    """On the average-cost basis. Raises as `value_e10`."""
    return value_e10(p, mark_ticks) - p.cost_e10


def fifo_unrealised_e10(p: Position, mark_ticks: int) -> int:
    """On the FIFO basis. Raises as `value_e10`."""
    cost_e10 = sum(lot_lots * px_ticks for lot_lots, px_ticks in p.fifo) * p.unit_e10
    return value_e10(p, mark_ticks) - cost_e10


def equity_cash_e10(p: Position, mark_ticks: int) -> int:
    """Left side of the identity. Raises as `value_e10`."""
    return p.start_e10 + p.cash_flow_e10 - p.fees_e10 + p.funding_e10 + p.transfers_e10 + value_e10(p, mark_ticks)


def equity_basis_e10(p: Position, mark_ticks: int) -> int:
    """Right side of the identity. Raises as `value_e10`."""
    return wallet_e10(p) + unrealised_e10(p, mark_ticks)


def wallet_e10(p: Position) -> int:
    """Everything realised, nothing unrealised."""
    return p.start_e10 + p.realised_e10 - p.fees_e10 + p.funding_e10 + p.transfers_e10


def attribution(p: Position, mark_ticks: int, impact_e10: int = 0) -> Attribution:
    """Equity − start, addend by addend, at a mark. Raises as `value_e10`."""
    since_mark_e10 = value_e10(p, mark_ticks) - p.position_lots * p.last_mark_ticks * p.unit_e10
    return Attribution(
        spread_e10=p.spread_e10,
        impact_e10=impact_e10,
        inventory_e10=p.inventory_e10 + since_mark_e10 - impact_e10,
        fees_e10=-p.fees_e10,
        funding_e10=p.funding_e10,
        transfers_e10=p.transfers_e10,
    )


def average_px_ticks(p: Position) -> float | None:
    """Average cost per lot, for reports; None when flat. Money is never computed from it."""
    if not p.position_lots:
        return None
    return p.cost_e10 / (p.position_lots * p.unit_e10)


def _check_instrument(p: Position, inst: Instrument) -> None:
    if inst.version != p.instrument_version or inst.unit_e10 != p.unit_e10:
        raise ValueError(
            f"{inst.symbol}: the books are kept in instrument version {p.instrument_version} ({p.unit_e10}e-10 a tick "
            f"and lot), got version {inst.version} ({inst.unit_e10}e-10); open new books at the present equity"
        )


def _remember(ids: dict[str, None], new: str) -> bool:
    """Add an id to an ordered set that forgets its oldest. False if it was there."""
    if new in ids:
        return False
    ids[new] = None
    if len(ids) > IDS_KEPT + _IDS_SLACK:
        for oldest in list(islice(ids, _IDS_SLACK)):
            del ids[oldest]
    return True


def _divide_half_even(numerator: int, denominator: int) -> int:
    """Quotient rounded to the nearest integer, ties to even; the denominator is positive."""
    quotient, rest = divmod(numerator, denominator)
    if 2 * rest > denominator or (2 * rest == denominator and quotient % 2):
        quotient += 1
    return quotient
