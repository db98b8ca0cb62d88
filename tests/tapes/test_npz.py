from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdaemon.core.types import E10, Instrument, Side
from mmdaemon.tapes.npz import NpzTape, Written, write
from mmdaemon.tapes.npz_rows import BBO, BUY, CLEAR, DEPTH, EVENT, EXCH, LOCAL, SELL, SNAPSHOT, TRADE
from mmdaemon.tapes.records import Depth, DepthKind, Facts, Levels, Record, Ticker, Trade
from mmdaemon.tapes.rows import Refusals, TapeError
from mmdaemon.tapes.steps import Steps

START = 1_700_000_000_000_000_000
STEPS = Steps(venue="v", symbol="BTCUSDT", tick_e10=E10 // 10, lot_e10=E10 // 1_000)
INSTRUMENT = Instrument.of(
    venue="v", symbol="BTCUSDT", tick_e10=E10 // 10, lot_e10=E10 // 1_000, min_qty_lots=3, min_notional_e10=5 * E10
)
FACTS = Facts(instrument=INSTRUMENT, steps_from="stated", minimum_from="stated", provenance={"market": "made"})
Rows = npt.NDArray[np.void]


class Recorded:
    def __init__(self, records: Sequence[Record], facts: Facts = FACTS) -> None:
        self.facts, self.refusals, self._records = facts, Refusals(), records
        self.start_ts_ns, self.end_ts_ns = records[0].venue_ts_ns, records[-1].venue_ts_ns

    def records(self) -> Iterator[Record]:
        return iter(self._records)


def again(records: Sequence[Record], folder: Path, facts: Facts = FACTS) -> tuple[NpzTape, Written]:
    path = folder / "a.npz"
    written = write(Recorded(records, facts), path)
    return NpzTape(path), written


def saved(folder: Path, rows: Sequence[tuple[float, ...]] | Rows) -> Path:
    path = folder / "b.npz"
    np.savez_compressed(path, data=np.array(rows, EVENT))
    return path


def row(ev: int, exch: int = 0, local: int = 1, px: float = 100.1, qty: float = 0.002) -> tuple[float, ...]:
    return (EXCH | LOCAL | ev, START + exch, START + local, px, qty, 0, 0, 0.0)


# --- our records, there and back --------------------------------------------------------------------------------------

PX = st.integers(1, 60_000_000)
LOTS = st.integers(1, 100_000_000)


def levels(*, least: int = 0, most: int = 4, empty: bool = False) -> st.SearchStrategy[Levels]:
    return st.lists(st.tuples(PX, st.integers(0 if empty else 1, 10**8)), min_size=least, max_size=most).map(tuple)


def best_first(levels: Levels, *, is_bid: bool) -> Levels:
    return tuple(sorted(dict(levels).items(), reverse=is_bid))


@st.composite
def recordings(draw: st.DrawFn) -> list[Record]:
    records: list[Record] = []
    at = START
    for _ in range(draw(st.integers(1, 12))):
        at += draw(st.sampled_from((0, 0, 0, 1, 1_000)))
        local = at + draw(st.sampled_from((0, 5, 5, 5, 700, 2_000)))
        kind = draw(st.sampled_from((*DepthKind, "trade")))
        last = records[-1] if records else None
        goes_on = isinstance(last, Depth) and last.more
        if kind == "trade" and not goes_on:
            side = draw(st.sampled_from((Side.BUY, Side.SELL, None)))
            trade_id = draw(st.sampled_from(("", "1", "907055023121248")))
            records.append(Trade(at, local, draw(PX), draw(LOTS), side, trade_id))
            continue
        more = draw(st.booleans())
        if kind is DepthKind.SNAPSHOT:
            bids = best_first(draw(levels()), is_bid=True)
            asks = best_first(draw(levels()), is_bid=False)
        elif kind is DepthKind.TOUCH:
            bids, asks = draw(levels(most=1)), draw(levels(most=1))
        else:
            kind = DepthKind.DELTA
            bids = draw(levels(empty=True))
            asks = draw(levels(empty=True, least=not bids))
        both = bool(bids and asks) or kind is DepthKind.TOUCH
        records.append(Depth(at, local, kind, bids, asks, both and draw(st.booleans()), more))
    if isinstance(last := records[-1], Depth):
        records[-1] = msgspec.structs.replace(last, more=False)
    return records


@settings(max_examples=300)
@given(records=recordings())
def test_records_come_back_as_they_were(tmp_path_factory: pytest.TempPathFactory, records: list[Record]) -> None:
    tape, written = again(records, tmp_path_factory.mktemp("npz"))
    assert list(tape.records()) == records
    assert written.left_out == tape.refusals.counts == {}
    assert tape.facts == msgspec.structs.replace(FACTS, provenance=tape.facts.provenance)
    assert tape.facts.provenance["market"] == "made"
    assert (tape.start_ts_ns, tape.end_ts_ns) == (records[0].venue_ts_ns, records[-1].venue_ts_ns)


def test_what_hftbacktest_reads_is_corrected_and_what_we_read_is_not(tmp_path: Path) -> None:
    facts = msgspec.structs.replace(FACTS, clock_shift_ns=1_300, book_lag_ns=250)
    records = [
        Depth(START + 300, START - 900, DepthKind.DELTA, ((10, 1),), ()),
        Trade(START + 100, START - 800, 10, 1, Side.BUY),
    ]
    tape, _ = again(records, tmp_path, facts)
    data = np.load(tmp_path / "a.npz")["data"]
    assert data["exch_ts"].tolist() == [START + 50, START + 100]
    assert data["local_ts"].tolist() == [START + 400, START + 500]
    assert list(tape.records()) == records
    assert tape.facts.clock_shift_ns == 1_300
    assert tape.start_ts_ns == START + 50


def test_what_has_no_form_is_counted(tmp_path: Path) -> None:
    records: list[Record] = [
        Ticker(START, START, funding_rate="0.0001"),
        Trade(START, START, 10, 1, Side.BUY, "0x1f"),
        Depth(START, START, DepthKind.DELTA, (), ()),
        Depth(START, START, DepthKind.DELTA, ((10, 1),), (), more=True),
        Trade(START, START, 10, 1, None, "07"),
    ]
    tape, written = again(records, tmp_path)
    assert written == Written(
        3,
        5,
        {
            "ticker records": 1,
            "trade ids that are no whole number": 2,
            "updates without a level": 1,
            "messages that a print breaks in two": 1,
        },
    )
    assert [type(record).__name__ for record in tape.records()] == ["Trade", "Depth", "Trade"]


def test_a_recording_that_cannot_be_written_leaves_no_file(tmp_path: Path) -> None:
    fall = [Trade(START + 1, START, 10, 1, None), Trade(START, START, 10, 1, None)]
    large = [Trade(START, START, 1 << 53, 1, None)]
    for records, what in ((fall, "record 2: corrected venue time"), (large, "too large")):
        with pytest.raises(TapeError, match=what):
            write(Recorded(records), tmp_path / "a.npz")
    assert list(tmp_path.iterdir()) == []


# --- files of hftbacktest's converters, there and back ----------------------------------------------------------------


def correct_event_order(rows: Rows) -> Rows:
    """As published: walk the rows by exchange time and by local time, and write what comes first."""
    by_exch = rows[np.argsort(rows["exch_ts"], kind="stable")]
    by_local = rows[np.argsort(rows["local_ts"], kind="stable")]
    out: list[Rows] = []
    i = j = 0
    while i < len(rows) or j < len(rows):
        exch = (by_exch[i]["exch_ts"], by_exch[i]["local_ts"]) if i < len(rows) else (1 << 62, 0)
        local = (by_local[j]["exch_ts"], by_local[j]["local_ts"]) if j < len(rows) else (1 << 62, 0)
        line = (by_exch[i] if exch <= local else by_local[j]).copy()
        line["ev"] |= (EXCH if exch <= local else 0) | (LOCAL if local <= exch else 0)
        out.append(line)
        i, j = i + (exch <= local), j + (local <= exch)
    return np.array(out, EVENT)


@st.composite
def canonical(draw: st.DrawFn) -> Rows:
    rows: list[tuple[float, ...]] = []

    def say(ev: int, px: int, lots: int) -> None:
        rows.append((ev, at, local, px / 10, lots / 1_000, 0, 0, 0.0))

    at = local = START
    arrivals = iter(draw(st.permutations(range(30))))
    for _ in range(draw(st.integers(1, 14))):
        step = draw(st.sampled_from((0, 0, 1, 50)))
        if step or not rows or draw(st.booleans()):  # else it is of the very times of the message before
            at += step
            local = at + 40 * next(arrivals)  # what comes later may have been sent earlier
        kind = draw(st.sampled_from((DEPTH, DEPTH, TRADE, SNAPSHOT, BBO)))
        if kind == TRADE:
            say(TRADE | draw(st.sampled_from((0, BUY, SELL))), draw(PX), draw(LOTS))
        for side in draw(st.permutations((BUY, SELL))) if kind in {SNAPSHOT, BBO} else ():
            if kind == BBO:
                say(BBO | side, draw(PX), draw(LOTS))
            elif told := best_first(draw(levels()), is_bid=side == BUY):
                say(CLEAR | side, told[-1][0], 0)
                for px, lots in told:
                    say(SNAPSHOT | side, px, lots)
        for _ in range(draw(st.integers(1, 5)) if kind == DEPTH else 0):
            say(DEPTH | draw(st.sampled_from((BUY, SELL))), draw(PX), draw(st.integers(0, 10**8)))
    if not rows:
        say(TRADE, 1, 1)
    return correct_event_order(np.array(rows, EVENT))


@settings(max_examples=300)
@given(data=canonical())
def test_a_file_of_a_converter_is_written_again_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, data: Rows
) -> None:
    folder = tmp_path_factory.mktemp("npz")
    tape = NpzTape(saved(folder, data), STEPS)
    write(tape, folder / "c.npz")
    assert np.load(folder / "c.npz")["data"].tobytes() == data.tobytes()
    assert tape.refusals.counts == {}
    assert tape.facts.provenance["written as .npz again"] == "the same rows, bit for bit"


@st.composite
def two_files(draw: st.DrawFn) -> Rows:
    """Trades, then books, each in order of both times, with local times so coarse that many are equal."""
    rows: list[tuple[float, ...]] = []
    for ev in (TRADE | BUY, DEPTH | SELL):
        at = local = START
        for _ in range(draw(st.integers(1, 15))):
            at += draw(st.sampled_from((0, 1, 3)))
            local = max(local, at // 10 * 10 + draw(st.sampled_from((10, 20))))
            rows.append((ev, at, local, draw(PX) / 10, 0.001, 0, 0, 0.0))
    return correct_event_order(np.array(rows, EVENT))


@settings(max_examples=200)
@given(data=two_files())
def test_a_file_of_trades_and_books_of_equal_local_times(tmp_path_factory: pytest.TempPathFactory, data: Rows) -> None:
    folder = tmp_path_factory.mktemp("npz")
    tape = NpzTape(saved(folder, data), STEPS)
    write(tape, folder / "c.npz")
    assert np.load(folder / "c.npz")["data"].tobytes() == data.tobytes()
    assert tape.facts.provenance["written as .npz again"] == "the same rows, bit for bit"


def test_a_snapshot_and_what_follows(tmp_path: Path) -> None:
    rows = [
        row(CLEAR | SELL, px=100.3, qty=0),
        row(SNAPSHOT | SELL, px=100.2),
        row(SNAPSHOT | SELL, px=100.3),
        row(CLEAR | BUY, px=100.1, qty=0),
        row(SNAPSHOT | BUY, px=100.1),
        row(DEPTH | SELL, 5, 6, px=100.4),
        row(DEPTH | BUY, 5, 6, px=100.0, qty=0),
        row(DEPTH | SELL, 5, 6, px=100.5),
        row(BBO | SELL, 6, 7, px=0.0, qty=0.0),
        row(BBO | BUY, 6, 7),
        row(TRADE, 7, 8),
        row(CLEAR, 8, 9, px=0.0, qty=0.0),
    ]
    tape = NpzTape(saved(tmp_path, rows), STEPS)
    assert list(tape.records()) == [
        Depth(START, START + 1, DepthKind.SNAPSHOT, ((1001, 2),), ((1002, 2), (1003, 2)), asks_first=True),
        Depth(START + 5, START + 6, DepthKind.DELTA, ((1000, 0),), ((1004, 2),), asks_first=True, more=True),
        Depth(START + 5, START + 6, DepthKind.DELTA, (), ((1005, 2),)),
        Depth(START + 6, START + 7, DepthKind.TOUCH, ((1001, 2),), (), asks_first=True),
        Trade(START + 7, START + 8, 1001, 2, None),
        Depth(START + 8, START + 9, DepthKind.SNAPSHOT, (), ()),
    ]
    assert tape.facts.provenance["written as .npz again"] == "the same rows, bit for bit"


@pytest.mark.parametrize(
    ("rows", "what"),
    [
        ([row(SNAPSHOT | BUY)], "1 snapshot rows without a clear"),
        ([row(CLEAR | BUY, px=99.0, qty=0), row(SNAPSHOT | BUY)], "1 clears at another price"),
        ([row(CLEAR | BUY, px=100.1, qty=0), row(SNAPSHOT | BUY, px=100.0), row(SNAPSHOT | BUY)], "not best first"),
        ([row(DEPTH | BUY, px=3 * 0.1)], "1 prices or sizes not the nearest float"),
        ([(*row(DEPTH | BUY)[:5], 7, 0, 0.0)], "1 rows with an order_id"),
        ([(*row(DEPTH | BUY)[:5], 0, 9, 0.0), row(DEPTH | SELL)], "an ival of another program"),
        ([row(DEPTH | BUY | 1 << 12)], "unknown flags"),
        ([row(TRADE, 1, 3), row(TRADE | BUY, 2, 3), row(TRADE | SELL, 2, 3)], "the same rows"),
        ([row(TRADE), row(DEPTH | BUY, px=100.15)], "1 rows dropped"),
    ],
)
def test_what_would_not_be_written_the_same_is_said(tmp_path: Path, rows: list[tuple[float, ...]], what: str) -> None:
    tape = NpzTape(saved(tmp_path, rows), STEPS)
    assert what in tape.facts.provenance["written as .npz again"]
    write(tape, tmp_path / "c.npz")
    is_same = np.load(tmp_path / "c.npz")["data"].tobytes() == np.array(rows, EVENT).tobytes()
    assert is_same is (what == "the same rows")


def test_snapshot_levels_are_put_best_first(tmp_path: Path) -> None:
    rows = [row(CLEAR | BUY, px=100.1, qty=0), row(SNAPSHOT | BUY, px=100.0), row(SNAPSHOT | BUY)]
    (record,) = NpzTape(saved(tmp_path, rows), STEPS).records()
    assert isinstance(record, Depth)
    assert record.bids == ((1001, 2), (1000, 2))


def test_a_snapshot_row_without_a_clear_is_an_update(tmp_path: Path) -> None:
    """As hftbacktest takes it: the levels that it does not name stay."""
    (record,) = NpzTape(saved(tmp_path, [row(SNAPSHOT | BUY)]), STEPS).records()
    assert record == Depth(START, START + 1, DepthKind.DELTA, ((1001, 2),), ())


@pytest.mark.parametrize("other", [row(SNAPSHOT | SELL), row(SNAPSHOT | BUY, 0, 2, px=100.0)])
def test_a_clear_is_for_the_snapshot_of_its_side_and_time(tmp_path: Path, other: tuple[float, ...]) -> None:
    rows = [row(CLEAR | BUY, qty=0), row(SNAPSHOT | BUY), other]
    assert [record.kind for record in NpzTape(saved(tmp_path, rows), STEPS).records() if isinstance(record, Depth)] == [
        DepthKind.SNAPSHOT,
        DepthKind.DELTA,
    ]


# --- bad input --------------------------------------------------------------------------------------------------------

GOOD = row(TRADE | BUY, 50, 60)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ((TRADE, *row(TRADE)[1:]), "no_side_of_time"),
        (row(103), "unknown_event"),
        (row(0), "unknown_event"),
        ((EXCH | LOCAL | TRADE, 0, START, 1.0, 1.0, 0, 0, 0.0), "bad_time"),
        (row(DEPTH), "bad_side"),
        (row(TRADE | BUY | SELL), "bad_side"),
        (row(TRADE, px=float("nan")), "bad_number"),
        (row(TRADE, px=-1.0), "bad_number"),
        (row(TRADE, qty=0.0), "bad_number"),
        (row(DEPTH | BUY, qty=float("inf")), "bad_number"),
        (row(SNAPSHOT | BUY, qty=0.0), "empty_level"),
        ((EXCH | TRADE, *row(TRADE)[1:]), "without_counterpart"),
        ((LOCAL | TRADE, *row(TRADE)[1:]), "without_counterpart"),
        (row(TRADE, px=100.15), "off_tick"),
        (row(TRADE, px=1e300), "off_tick"),
        (row(TRADE, qty=0.0015), "off_lot"),
        (row(BBO | BUY), "lone_touch"),
    ],
)
def test_a_bad_row_is_counted_with_its_number(tmp_path: Path, bad: tuple[float, ...], reason: str) -> None:
    tape = NpzTape(saved(tmp_path, [bad, GOOD]), STEPS)
    assert tape.refusals.counts == {reason: 1}
    assert tape.refusals.described[0].startswith(f"b.npz row 0: {reason}: ")
    assert list(tape.records()) == [Trade(START + 50, START + 60, 1001, 2, Side.BUY)]
    with pytest.raises(TapeError, match="none of its 1 rows can be used"):
        NpzTape(saved(tmp_path, [bad]), STEPS)


def test_many_bad_rows_are_counted_and_few_described(tmp_path: Path) -> None:
    tape = NpzTape(saved(tmp_path, [row(TRADE, px=100.15)] * 50 + [GOOD]), STEPS)
    assert tape.refusals.counts == {"off_tick": 50}
    assert len(tape.refusals.described) == 5


@pytest.mark.parametrize(
    ("rows", "what"),
    [
        ([row(TRADE, 2, 2), row(TRADE, 1, 3)], r"row 1: exch_ts falls"),
        ([row(TRADE, 1, 3), row(TRADE, 2, 2)], r"row 1: local_ts falls"),
        ([GOOD, row(10 | BUY, 60, 70)], r"row 1: event 10 is of a single order"),
        ([GOOD, row(CLEAR | BUY, 60, 70), row(DEPTH | BUY, 60, 70)], r"row 1: one side is cleared"),
        ([], "it has no rows"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(tmp_path: Path, rows: list[tuple[float, ...]], what: str) -> None:
    with pytest.raises(TapeError, match=what):
        NpzTape(saved(tmp_path, rows), STEPS)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    whole = saved(tmp_path, [GOOD] * 1_000).read_bytes()
    for content in (b"", b"PK\x03\x04", b"timestamp,price\n", whole[: len(whole) // 2], whole[:100] + whole[160:]):
        path.write_bytes(content)
        with pytest.raises(TapeError, match=r"x\.npz"):
            NpzTape(path, STEPS)
    np.savez(path, data=np.zeros((3, 6)))
    with pytest.raises(TapeError, match="migration2"):
        NpzTape(path, STEPS)
    np.savez(path, other=np.zeros(3, EVENT))
    with pytest.raises(TapeError, match="array `data`"):
        NpzTape(path, STEPS)
    with pytest.raises(TapeError, match="cannot be read"):
        NpzTape(tmp_path / "none.npz", STEPS)


def test_steps_are_inferred_and_said(tmp_path: Path) -> None:
    rows = [row(TRADE, i, i, px=i * 0.5, qty=i / 1_000) for i in range(1, 40)]
    tape = NpzTape(saved(tmp_path, rows), Steps(symbol="ETHUSDT"))
    assert (tape.facts.instrument.tick_e10, tape.facts.instrument.lot_e10) == (E10 // 2, E10 // 1_000)
    assert "inferred" in tape.facts.steps_from
    assert [record.px_ticks for record in tape.records() if isinstance(record, Trade)] == list(range(1, 40))


def test_one_damaged_price_makes_no_tick_and_is_named(tmp_path: Path) -> None:
    rows = [row(TRADE, i, i, px=i * 0.5, qty=0.001 * (i % 7 + 1)) for i in range(1, 1_500)]
    path = saved(tmp_path, [*rows, row(TRADE, 1_500, 1_500, px=93.123)])
    with pytest.raises(TapeError, match=r"b\.npz row 1499: off_tick: px 93\.123; the tick was inferred.*--tick"):
        NpzTape(path, Steps(symbol="ETHUSDT"))
    tape = NpzTape(path, Steps(symbol="ETHUSDT", tick_e10=E10 // 2))
    assert tape.refusals.counts == {"off_tick": 1}
    assert len(list(tape.records())) == 1_499


def test_given_steps_go_before_those_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    write(Recorded([Trade(START, START, 10, 4, None)]), path)
    tape = NpzTape(path, Steps(tick_e10=E10 // 100))
    assert [record.px_ticks for record in tape.records() if isinstance(record, Trade)] == [100]
    assert tape.facts.instrument == msgspec.structs.replace(INSTRUMENT, tick_e10=E10 // 100, unit_e10=100_000)
