"""The books foot: both sides of the PnL identity, both cost bases, and an oracle that shares no code with either."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdaemon.core import position
from mmdaemon.core.events import Bill, BillKind, Fill
from mmdaemon.core.position import Position
from mmdaemon.core.types import ExecKind, Instrument, Liquidity, Side

INST = Instrument.of(venue="sim", symbol="BTCUSDT", tick_e10=1_000_000_000, lot_e10=10_000_000)
U = INST.unit_e10
START_E10 = 100_000 * 10**10


class Mark(NamedTuple):
    px_ticks: int


def fill(n: int, side: Side, qty_lots: int, px_ticks: int, fee_e10: int = 0, kind: ExecKind = ExecKind.TRADE) -> Fill:
    return Fill(n, n, n, f"t{n}", f"mmaaaa-1-{n}", side, px_ticks, qty_lots, fee_e10, Liquidity.MAKER, kind)


def bill(n: int, kind: BillKind, amount_e10: int) -> Bill:
    return Bill(n, n, n, f"b{n}", kind, amount_e10)


Event = Fill | Bill | Mark


@st.composite
def histories(draw: st.DrawFn) -> list[Event]:
    """Fills (flips, partials, rebates), bills and marks, in any order, now and then one of them again."""
    prices = st.integers(1, 2_000)
    money = st.integers(-(10**12), 10**12)
    fills = st.builds(
        lambda side, lots, px, fee, kind: ("fill", side, lots, px, fee, kind),
        st.sampled_from(Side),
        st.integers(1, 30),
        prices,
        money,
        st.sampled_from([ExecKind.TRADE] * 5 + [ExecKind.LIQUIDATION, ExecKind.ADL]),
    )
    bills = st.builds(lambda kind, amount: ("bill", kind, amount), st.sampled_from(BillKind), money)
    marks = st.builds(lambda px: ("mark", px), prices)
    again = st.builds(lambda back: ("again", back), st.integers(1, 5))
    events: list[Event] = []
    for n, what in enumerate(draw(st.lists(st.one_of(fills, fills, bills, marks, again), max_size=40)), 1):
        match what:
            case ("fill", side, lots, px, fee, kind):
                events.append(fill(n, side, lots, px, fee, kind))
            case ("bill", kind, amount):
                events.append(bill(n, kind, amount))
            case ("mark", px):
                events.append(Mark(px))
            case (_, back):
                events.extend(events[-back:][:1])
    return events


def book_all(events: Sequence[Event]) -> Position:
    p = position.begin(INST, START_E10)
    for event in events:
        apply(p, event)
    return p


def apply(p: Position, event: Event) -> bool:
    match event:
        case Fill():
            return position.on_fill(p, event, INST)
        case Bill():
            return position.on_bill(p, event)
        case Mark():
            return position.on_mark(p, event.px_ticks, INST)


class Oracle:
    """Brute force in fractions of quote currency, one lot at a time. Average cost is a price here, never rounded."""

    def __init__(self) -> None:
        self.unit = Fraction(INST.tick_e10, 10**10) * Fraction(INST.lot_e10, 10**10)
        self.cash = Fraction(START_E10, 10**10)
        self.lots: list[tuple[int, int]] = []
        self.average = Fraction(0)
        self.average_realised = Fraction(0)
        self.fifo_realised = Fraction(0)
        self.bills = Fraction(0)
        self.seen: set[str] = set()

    def apply(self, event: Event) -> None:
        match event:
            case Fill() if event.trade_id not in self.seen:
                self.seen.add(event.trade_id)
                self.cash -= Fraction(event.fee_e10, 10**10)
                for _ in range(event.qty_lots):
                    self.trade_one(int(event.side), event.px_ticks)
            case Bill() if event.bill_id not in self.seen:
                self.seen.add(event.bill_id)
                self.cash += Fraction(event.amount_e10, 10**10)
            case _:
                pass

    def trade_one(self, side: int, px: int) -> None:
        self.cash -= side * px * self.unit
        if self.lots and self.lots[0][0] == -side:
            held, lot_px = self.lots.pop(0)
            self.fifo_realised += held * (px - lot_px) * self.unit
            self.average_realised += held * (px - self.average) * self.unit
        else:
            n = len(self.lots)
            self.average = (self.average * n + px) / (n + 1)
            self.lots.append((side, px))

    def equity(self, mark: int) -> Fraction:
        return self.cash + sum(side for side, _ in self.lots) * mark * self.unit


@given(histories(), st.integers(1, 2_000))
@settings(max_examples=150, deadline=None)
def test_both_sides_of_the_identity_agree_after_every_event_and_with_the_oracle(
    events: list[Event], mark_ticks: int
) -> None:
    p, oracle = position.begin(INST, START_E10), Oracle()
    for event in events:
        apply(p, event)
        oracle.apply(event)
        cash_e10 = position.equity_cash_e10(p, mark_ticks)
        assert cash_e10 == position.equity_basis_e10(p, mark_ticks)
        assert Fraction(cash_e10, 10**10) == oracle.equity(mark_ticks)
    assert p.position_lots == p.bought_lots - p.sold_lots == sum(side for side, _ in oracle.lots)


@given(histories(), st.integers(1, 2_000))
@settings(max_examples=150, deadline=None)
def test_fifo_and_average_foot_to_the_same_total_and_each_is_right(events: list[Event], mark_ticks: int) -> None:
    p, oracle = book_all(events), Oracle()
    for event in events:
        oracle.apply(event)
    on_average_e10 = p.realised_e10 + position.unrealised_e10(p, mark_ticks)
    assert on_average_e10 == p.fifo_realised_e10 + position.fifo_unrealised_e10(p, mark_ticks)
    assert Fraction(p.fifo_realised_e10, 10**10) == oracle.fifo_realised
    # Each reduction may round by half a unit, and the rest carries it on until the position is flat.
    assert abs(Fraction(p.realised_e10, 10**10) - oracle.average_realised) <= Fraction(len(events), 10**10)


@given(histories())
@settings(max_examples=100, deadline=None)
def test_open_lots_and_cost_have_the_sign_of_the_position_and_vanish_with_it(events: list[Event]) -> None:
    p = position.begin(INST, START_E10)
    for event in events:
        apply(p, event)
        assert sum(lots for lots, _ in p.fifo) == p.position_lots
        assert all(lots * p.position_lots > 0 for lots, _ in p.fifo)
        assert (p.cost_e10 > 0) - (p.cost_e10 < 0) == (p.position_lots > 0) - (p.position_lots < 0)


@given(histories(), st.integers(1, 2_000), st.integers(-(10**12), 10**12))
@settings(max_examples=100, deadline=None)
def test_attribution_foots_to_the_change_of_equity(events: list[Event], mark_ticks: int, impact_e10: int) -> None:
    p = book_all(events)
    parts = position.attribution(p, mark_ticks, impact_e10)
    assert parts.total_e10 == position.equity_cash_e10(p, mark_ticks) - START_E10
    assert parts.impact_e10 == impact_e10


@given(histories(), st.data())
@settings(max_examples=100, deadline=None)
def test_a_duplicate_changes_nothing_but_its_counter(events: list[Event], data: st.DataObject) -> None:
    booked = [event for event in events if not isinstance(event, Mark)]
    p = book_all(events)
    if not booked:
        return
    before = msgspec.structs.asdict(p) | {"duplicate_fills": 0, "duplicate_bills": 0}
    before = msgspec.msgpack.encode(before)
    counted = p.duplicate_fills + p.duplicate_bills
    assert apply(p, data.draw(st.sampled_from(booked))) is False
    assert msgspec.msgpack.encode(msgspec.structs.asdict(p) | {"duplicate_fills": 0, "duplicate_bills": 0}) == before
    assert p.duplicate_fills + p.duplicate_bills == counted + 1


@given(histories())
@settings(max_examples=50, deadline=None)
def test_a_checkpoint_restores_the_same_books(events: list[Event]) -> None:
    p = book_all(events)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(p), type=Position) == p


def test_books_begin_flat_and_with_nothing_in_them() -> None:
    p = position.begin(INST, START_E10)
    begun = {"start_e10": START_E10, "unit_e10": U, "instrument_version": INST.version}
    empty = {"fifo": [], "trade_ids": {}, "bill_ids": {}}
    figures = set(msgspec.structs.asdict(p)) - set(begun) - set(empty)
    assert msgspec.structs.asdict(p) == begun | empty | dict.fromkeys(figures, 0)


def test_a_round_trip_by_hand() -> None:
    """Buy 3 at 100 and 1 at 104 (average 101), sell 2 at 110, then 5 at 90: two close, three open a short."""
    p = position.begin(INST, START_E10)
    position.on_fill(p, fill(1, Side.BUY, 3, 100, fee_e10=7), INST)
    position.on_fill(p, fill(2, Side.BUY, 1, 104, fee_e10=-2), INST)
    assert (p.position_lots, p.cost_e10, position.average_px_ticks(p)) == (4, 404 * U, 101.0)
    position.on_fill(p, fill(3, Side.SELL, 2, 110), INST)
    assert (p.realised_e10, p.cost_e10) == (18 * U, 202 * U)
    assert (p.fifo_realised_e10, p.fifo) == (20 * U, [(1, 100), (1, 104)])
    position.on_fill(p, fill(4, Side.SELL, 5, 90), INST)
    assert (p.position_lots, p.cost_e10, p.realised_e10) == (-3, -270 * U, (18 - 22) * U)
    assert (p.fifo_realised_e10, p.fifo) == ((20 - 24) * U, [(-3, 90)])
    assert position.unrealised_e10(p, 80) == 30 * U
    assert p.fees_e10 == 5
    assert (p.buys, p.sells, p.bought_lots, p.sold_lots) == (2, 2, 4, 7)
    assert p.turnover_e10 == (300 + 104 + 220 + 450) * U
    assert position.equity_cash_e10(p, 80) == START_E10 + (-4 + 30) * U - 5


@pytest.mark.parametrize("side", list(Side))
def test_the_slice_is_rounded_half_even_and_what_is_left_over_stays(side: Side) -> None:
    """Unit 1e-10 and two lots that cost 5 in all: half of it is 2.5 and goes to 2; the other half keeps 3."""
    inst = Instrument.of(venue="sim", symbol="X", tick_e10=1, lot_e10=10**10)
    p = position.begin(inst, 0)
    for n, px in enumerate((2, 3)):
        position.on_fill(p, fill(n, side, 1, px), inst)
    position.on_fill(p, fill(8, side.opposite, 1, 10), inst)
    assert (p.cost_e10, p.realised_e10) == (side * 3, side * (10 - 2))
    position.on_fill(p, fill(9, side.opposite, 1, 10), inst)
    assert (p.cost_e10, p.realised_e10) == (0, side * (20 - 5))


def test_spread_and_inventory_by_hand() -> None:
    """Mark 100; buy 2 at 99, mark to 97, sell 1 at 98, then mark 101: 2 + 1 of spread, −6 + 4 of inventory."""
    p = position.begin(INST, START_E10)
    position.on_mark(p, 100, INST)
    position.on_fill(p, fill(1, Side.BUY, 2, 99, fee_e10=3), INST)
    position.on_mark(p, 97, INST)
    position.on_fill(p, fill(2, Side.SELL, 1, 98), INST)
    position.on_bill(p, bill(1, BillKind.FUNDING, -11))
    position.on_bill(p, bill(2, BillKind.TRANSFER, 1_000))
    parts = position.attribution(p, 101, impact_e10=-U)
    assert (parts.spread_e10, parts.inventory_e10, parts.impact_e10) == (3 * U, (-6 + 4 + 1) * U, -U)
    assert (parts.fees_e10, parts.funding_e10, parts.transfers_e10) == (-3, -11, 1_000)
    unmeasured = position.attribution(p, 101)
    assert (unmeasured.impact_e10, unmeasured.inventory_e10) == (0, (-6 + 4) * U)


def test_bills_are_booked_as_given_and_no_line_twice() -> None:
    p = position.begin(INST, START_E10)
    position.on_fill(p, fill(1, Side.BUY, 2, 100, fee_e10=50), INST)
    assert position.on_bill(p, bill(1, BillKind.FUNDING, -40))
    assert position.on_bill(p, bill(2, BillKind.FUNDING, 15))
    assert position.on_bill(p, bill(3, BillKind.TRANSFER, 500))
    assert position.on_bill(p, bill(4, BillKind.FEE, -50))
    assert not position.on_bill(p, bill(3, BillKind.TRANSFER, 500))
    assert (p.funding_e10, p.transfers_e10, p.fees_e10) == (-25, 500, 100)
    assert position.equity_cash_e10(p, 100) == START_E10 - 100 - 25 + 500


def traded() -> list[Fill | Bill]:
    return [
        fill(1, Side.BUY, 3, 100, fee_e10=9),
        fill(2, Side.SELL, 1, 108, fee_e10=-4),
        bill(1, BillKind.FUNDING, -6),
        bill(2, BillKind.TRANSFER, 77),
    ]


SIGNS = [
    "p.cash_flow_e10 -= side",
    "p.fees_e10 += fill",
    "p.cost_e10 += side",
    "p.cost_e10 -= slice_e10",
    "p.realised_e10 += proceeds_e10",
    "proceeds_e10 - slice_e10",
    "proceeds_e10 = -side",
    "p.fifo_realised_e10 +=",
    "p.position_lots += side * opened_lots",
    "p.position_lots += side * closed_lots",
    "p.funding_e10 += bill",
    "p.transfers_e10 += bill",
    "p.spread_e10 += side",
    "p.inventory_e10 += p.position_lots",
]


def foots(books: ModuleType) -> bool:
    """Whether a history booked by this module agrees with itself on both sides and both bases, and with the wallet."""
    p, wallet = books.begin(INST, START_E10), Oracle()
    books.on_mark(p, 101, INST)
    for event in traded():
        wallet.apply(event)
        if isinstance(event, Fill):
            books.on_fill(p, event, INST)
        else:
            books.on_bill(p, event)
    books.on_mark(p, 104, INST)
    equity_e10 = books.equity_cash_e10(p, 103)
    return (
        equity_e10 == books.equity_basis_e10(p, 103)
        and Fraction(equity_e10, 10**10) == wallet.equity(103)
        and books.attribution(p, 103).total_e10 == equity_e10 - START_E10
        and p.realised_e10 + books.unrealised_e10(p, 103) == p.fifo_realised_e10 + books.fifo_unrealised_e10(p, 103)
    )


def test_the_history_that_mutants_are_shown_foots() -> None:
    assert foots(position)


@pytest.mark.parametrize("place", SIGNS)
def test_one_flipped_sign_in_a_copy_of_the_computation_breaks_the_identity(place: str) -> None:
    source = Path(position.__file__).read_text(encoding="utf-8")
    assert source.count(place) == 1, "the line has moved; name its new form"
    flipped = place.translate(str.maketrans("+-", "-+"))
    mutant = ModuleType("position_with_one_sign_flipped")
    exec(compile(source.replace(place, flipped), "mutant", "exec"), mutant.__dict__)
    assert not foots(mutant)


def test_liquidation_and_deleveraging_are_booked_as_fills_and_counted() -> None:
    p = book_all([fill(1, Side.BUY, 2, 100)])
    position.on_fill(p, fill(2, Side.SELL, 1, 90, kind=ExecKind.LIQUIDATION), INST)
    position.on_fill(p, fill(3, Side.SELL, 1, 90, kind=ExecKind.ADL), INST)
    assert (p.position_lots, p.realised_e10, p.liquidations) == (0, -20 * U, 2)


def test_what_is_held_has_no_value_without_a_mark() -> None:
    p = position.begin(INST, START_E10)
    assert position.equity_cash_e10(p, 0) == START_E10
    position.on_fill(p, fill(1, Side.BUY, 2, 100), INST)
    for figure in (position.equity_cash_e10, position.equity_basis_e10, position.unrealised_e10, position.attribution):
        with pytest.raises(ValueError, match="2 lots cannot be valued at a mark of 0"):
            figure(p, 0)


@pytest.mark.parametrize("px", [0, -1, float("nan"), float("inf"), 1.5, 1 << 49])
def test_what_is_no_price_is_not_taken_as_a_mark_and_no_fill_is_booked_at_it(px: int) -> None:
    p = book_all(traded())
    before = msgspec.structs.replace(p, refused_marks=1)
    assert position.on_mark(p, px, INST) is False
    assert p == before
    for bad in (fill(9, Side.BUY, 1, px), fill(9, Side.BUY, px, 100)):
        with pytest.raises(ValueError, match="fill t9: price and size"):
            position.on_fill(p, bad, INST)
    assert p == before


def test_another_instrument_version_is_refused() -> None:
    p = position.begin(INST, START_E10)
    for other in (msgspec.structs.replace(INST, version=2), msgspec.structs.replace(INST, unit_e10=U * 10)):
        with pytest.raises(ValueError, match="open new books"):
            position.on_fill(p, fill(1, Side.BUY, 1, 100), other)
        with pytest.raises(ValueError, match="open new books"):
            position.on_mark(p, 100, other)


def test_the_latest_ids_are_remembered_and_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(position, "IDS_KEPT", 20)
    monkeypatch.setattr(position, "_IDS_SLACK", 5)
    p = position.begin(INST, START_E10)
    for n in range(200):
        position.on_bill(p, bill(n, BillKind.FUNDING, 1))
        assert len(p.bill_ids) <= 25
        remembered = range(max(0, n - 19), n + 1)
        assert all(f"b{k}" in p.bill_ids for k in remembered)
    assert p.funding_e10 == 200
