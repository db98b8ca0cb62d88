"""Replay: every tampering shows, and the left side of the PnL identity is exact."""

from fractions import Fraction
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdaemon.core.events import BillKind, Fill
from mmdaemon.core.types import E10, GuardState, Instrument, Regime, Side
from mmdaemon.journal import rows
from mmdaemon.journal.recovery import JournalUnreadable
from mmdaemon.journal.replay import Mismatch, pnl_identity, verify
from mmdaemon.journal.rows import DecisionChain
from tests.journal.samples import INSTRUMENT, WALL_NS, begin, bill, fill, query, state_dir, write

PARAMS = msgspec.msgpack.encode({"gain": 3})
SEQS = (3, 7, 8, 20, 41)


def decide(inputs: bytes, params: bytes) -> bytes:
    """A rule simple enough to be seen through: gain times the input."""
    gain = msgspec.msgpack.decode(params)["gain"]
    return msgspec.msgpack.encode(gain * msgspec.msgpack.decode(inputs))


def journal_of(folder: Path, *, finished: bool = True) -> Path:
    state = state_dir(folder)
    begin(state)
    chain = DecisionChain(1, PARAMS)
    made = [rows.parameters_row(1, PARAMS)]
    for seq in SEQS:
        inputs = msgspec.msgpack.encode(seq * 10)
        decision = decide(inputs, PARAMS)
        made.append(chain.row(seq, seq, WALL_NS + seq, GuardState.RUNNING, Regime.UP, inputs, decision))
    if finished:
        made.append(rows.digest_row(1, b"digest", 50, chain))
    write(state.journal_path, made)
    return state.journal_path


def test_an_honest_journal_passes(tmp_path: Path) -> None:
    seen: list[int] = []
    verdict = verify(journal_of(tmp_path), decide, progress=seen.append)
    assert verdict.ok
    assert (verdict.checked, verdict.mismatched, verdict.mismatches, verdict.open_ended) == (5, 0, (), ())
    assert seen == [1, 2, 3, 4, 5]


BROKEN = "chain broken: this row was edited, or one before it is missing or new"


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        (
            "UPDATE decisions SET inputs = x'05' WHERE seq = 8",
            [(8, BROKEN), (8, "another decision than journaled, from byte 0 on")],
        ),
        (
            "UPDATE decisions SET decision = x'05' WHERE seq = 8",
            [(8, BROKEN), (8, "another decision than journaled, from byte 0 on")],
        ),
        ("UPDATE decisions SET guard = 'reducing' WHERE seq = 8", [(8, BROKEN)]),
        ("UPDATE decisions SET ts_ns = ts_ns + 1 WHERE seq = 8", [(8, BROKEN)]),
        ("UPDATE decisions SET seq = 9 WHERE seq = 8", [(9, BROKEN)]),
        ("UPDATE decisions SET chain = x'00' WHERE seq = 8", [(8, BROKEN), (20, BROKEN)]),
        (
            "DELETE FROM decisions WHERE seq = 3",
            [(7, BROKEN), (None, "the run ended after 5 decisions, and 4 are here")],
        ),
        (
            "DELETE FROM decisions WHERE seq = 8",
            [(20, BROKEN), (None, "the run ended after 5 decisions, and 4 are here")],
        ),
        ("DELETE FROM decisions WHERE seq = 41", [(None, "the run ended after 5 decisions, and 4 are here")]),
        (
            "INSERT INTO decisions SELECT epoch, 9, mono_ns, ts_ns, guard, regime, inputs, decision, chain "
            "FROM decisions WHERE seq = 8",
            [(9, BROKEN), (None, "the run ended after 5 decisions, and 6 are here")],
        ),
        ("UPDATE digests SET chain = x'00'", [(None, "the run ended after 5 decisions, and 5 are here")]),
    ],
)
def test_every_tampering_shows(tmp_path: Path, sql: str, expected: list[tuple[int | None, str]]) -> None:
    path = journal_of(tmp_path)
    query(path, sql)
    verdict = verify(path, decide)
    assert not verdict.ok
    found = [(each.seq, each.what) for each in verdict.mismatches]
    assert [seq for seq, _ in found] == [seq for seq, _ in expected]
    assert all(what.startswith(begins) for (_, what), (_, begins) in zip(found, expected, strict=True)), found
    assert verdict.mismatched == len(expected)


def test_other_parameters_show(tmp_path: Path) -> None:
    path = journal_of(tmp_path)
    query(path, "UPDATE parameters SET params = ?", msgspec.msgpack.encode({"gain": 4}))
    verdict = verify(path, decide)
    assert verdict.mismatches[0] == Mismatch(1, 3, BROKEN)
    assert verdict.mismatched == 1 + len(SEQS)


@pytest.mark.parametrize("garbage", [b"\xc1", b"", msgspec.msgpack.encode(None)])
def test_inputs_that_cannot_be_read_are_a_mismatch_and_no_crash(tmp_path: Path, garbage: bytes) -> None:
    path = journal_of(tmp_path)
    query(path, "UPDATE decisions SET inputs = ? WHERE seq = 8", garbage)
    verdict = verify(path, decide)
    assert verdict.checked == len(SEQS)
    assert [each.seq for each in verdict.mismatches] == [8, 8]
    assert verdict.mismatches[1].what.startswith("cannot be recomputed: ")


def test_missing_parameters_show(tmp_path: Path) -> None:
    path = journal_of(tmp_path)
    query(path, "DELETE FROM parameters")
    assert verify(path, decide).mismatches[0] == Mismatch(1, None, "the run's parameters are missing")


def test_another_rule_shows_in_every_row_and_the_first_are_named(tmp_path: Path) -> None:
    verdict = verify(journal_of(tmp_path), lambda inputs, params: decide(inputs, params) + b"\0")
    assert verdict.mismatched == len(SEQS)
    assert verdict.mismatches[0].what == "another decision than journaled, 2 bytes against 1"
    assert [each.seq for each in verdict.mismatches] == list(SEQS)


def test_a_run_without_a_digest_is_named(tmp_path: Path) -> None:
    path = journal_of(tmp_path, finished=False)
    verdict = verify(path, decide)
    assert verdict.ok
    assert verdict.open_ended == (1,)


def test_nothing_checked_is_not_ok(tmp_path: Path) -> None:
    state = state_dir(tmp_path)
    begin(state)
    verdict = verify(state.journal_path, decide)
    assert (verdict.checked, verdict.mismatched) == (0, 0)
    assert not verdict.ok


def test_one_run_of_several(tmp_path: Path) -> None:
    path = journal_of(tmp_path)
    begin(state_dir(tmp_path))
    assert verify(path, decide, epoch=1).checked == len(SEQS)
    assert verify(path, decide, epoch=2).checked == 0
    with pytest.raises(JournalUnreadable, match="has no run 3"):
        verify(path, decide, epoch=3)


# --- PnL identity -----------------------------------------------------------------------------------------------------

TRADES = st.lists(
    st.tuples(
        st.sampled_from(list(Side)),
        st.integers(min_value=1, max_value=10**7),
        st.integers(min_value=1, max_value=10**5),
        st.integers(min_value=-(10**14), max_value=10**14),
    ),
    max_size=12,
)
BILLS = st.lists(
    st.tuples(st.sampled_from(list(BillKind)), st.integers(min_value=-(10**16), max_value=10**16)), max_size=6
)


@settings(max_examples=25, deadline=None)
@given(trades=TRADES, ledger=BILLS, mark=st.integers(min_value=1, max_value=10**7))
def test_the_left_side_is_what_the_cash_flows_say(
    tmp_path_factory: pytest.TempPathFactory,
    trades: list[tuple[Side, int, int, int]],
    ledger: list[tuple[BillKind, int]],
    mark: int,
) -> None:
    state = state_dir(tmp_path_factory.mktemp("journal"))
    begin(state)
    fills: list[Fill] = [fill(f"t{n}", "", *terms) for n, terms in enumerate(trades)]
    write(state.journal_path, [rows.instrument_row(INSTRUMENT, 0), rows.account_opened_row(1, 10**15)])
    for _ in range(2):  # the second time all are re-deliveries
        write(state.journal_path, [rows.fill_row(1, 1, each, INSTRUMENT, None) for each in fills])
        write(state.journal_path, [rows.bill_row(1, 1, bill(f"b{n}", *each), "sim") for n, each in enumerate(ledger)])

    tick, lot = Fraction(INSTRUMENT.tick_e10, E10), Fraction(INSTRUMENT.lot_e10, E10)
    equity = Fraction(10**15, E10)
    position = Fraction(0)
    for side, px_ticks, qty_lots, fee_e10 in trades:
        equity -= int(side) * px_ticks * tick * qty_lots * lot + Fraction(fee_e10, E10)
        position += int(side) * qty_lots * lot
    equity += sum((Fraction(amount, E10) for _, amount in ledger), Fraction(0)) + position * mark * tick

    found = pnl_identity(state.journal_path, mark)
    assert found.equity_e10 is not None
    assert Fraction(found.equity_e10, E10) == equity
    assert found.position_lots * lot == position
    assert (found.fills, found.bills) == (len(trades), len(ledger))


def test_one_flipped_sign_breaks_the_identity(tmp_path: Path) -> None:
    state = state_dir(tmp_path)
    begin(state)
    made = [fill("t1", "", Side.BUY, 1000, 5, 7), fill("t2", "", Side.SELL, 1010, 3, -2)]
    write(state.journal_path, [rows.instrument_row(INSTRUMENT, 0), rows.account_opened_row(1, 10**15)])
    write(state.journal_path, [rows.fill_row(1, 1, each, INSTRUMENT, None) for each in made])
    write(state.journal_path, [rows.bill_row(1, 1, bill("b1", BillKind.FUNDING, -3), "sim")])
    whole = pnl_identity(state.journal_path, 1005).equity_e10
    assert whole == 10**15 + (-5000 + 3030 + 2 * 1005) * INSTRUMENT.unit_e10 - 7 + 2 - 3
    for flip in (
        "UPDATE fills SET side = -side WHERE trade_id = 't2'",
        "UPDATE fills SET fee_e10 = -fee_e10 WHERE trade_id = 't1'",
        "UPDATE bills SET amount_e10 = -amount_e10",
    ):
        query(state.journal_path, flip)
        assert pnl_identity(state.journal_path, 1005).equity_e10 != whole
        query(state.journal_path, flip)
    assert pnl_identity(state.journal_path, 1005).equity_e10 == whole


def test_sums_stay_exact_beyond_64_bits(tmp_path: Path) -> None:
    state = state_dir(tmp_path)
    begin(state)
    dear = Instrument.of(venue="sim", symbol="BTCUSDT", tick_e10=E10, lot_e10=E10)
    bought = [fill(f"b{n}", "", Side.BUY, 90_000, 10_000, 1) for n in range(3)]
    sold = [fill(f"s{n}", "", Side.SELL, 90_001, 10_000, 1) for n in range(3)]
    write(state.journal_path, [rows.instrument_row(dear, 0)])
    write(state.journal_path, [rows.fill_row(1, 1, each, dear, None) for each in [*bought, *sold]])
    found = pnl_identity(state.journal_path)
    assert (found.cash_flow_e10, found.position_lots, found.value_e10) == (3 * 10_000 * E10, 0, 0)
    assert found.pnl_e10 == 3 * 10_000 * E10 - 6


def test_what_is_not_known_is_not_zero(tmp_path: Path) -> None:
    state = state_dir(tmp_path)
    begin(state)
    write(state.journal_path, [rows.instrument_row(INSTRUMENT, 0), rows.fill_row(1, 1, fill(), INSTRUMENT, None)])
    found = pnl_identity(state.journal_path)
    assert (found.mark_px_ticks, found.value_e10, found.pnl_e10, found.equity_e10) == (None, None, None, None)
    marked = pnl_identity(state.journal_path, 1001)
    assert marked.pnl_e10 == 5 * INSTRUMENT.unit_e10 - 7
    assert marked.equity_e10 is None, "no start is known"
    write(state.journal_path, [rows.fill_row(1, 2, fill("t2"), INSTRUMENT, 1002)])
    assert pnl_identity(state.journal_path).mark_px_ticks == 1002


def test_each_fresh_account_has_its_own_books(tmp_path: Path) -> None:
    state = state_dir(tmp_path)
    begin(state, fresh_account=True)
    write(state.journal_path, [rows.instrument_row(INSTRUMENT, 0), rows.fill_row(1, 1, fill(), INSTRUMENT, 1000)])
    begin(state, fresh_account=True)
    assert (pnl_identity(state.journal_path).fills, pnl_identity(state.journal_path).position_lots) == (0, 0)
    assert pnl_identity(state.journal_path, account_epoch=1).position_lots == 5
    with pytest.raises(JournalUnreadable, match="no account that begins with run 7"):
        pnl_identity(state.journal_path, account_epoch=7)


def test_an_account_is_valued_at_a_mark_of_its_own_runs(tmp_path: Path) -> None:
    state = state_dir(tmp_path)
    begin(state, fresh_account=True)
    write(state.journal_path, [rows.instrument_row(INSTRUMENT, 0), rows.fill_row(1, 1, fill(), INSTRUMENT, 1000)])
    begin(state)  # of the same account
    write(state.journal_path, [rows.fill_row(2, 1, fill("t2"), INSTRUMENT, 1010)])
    begin(state, fresh_account=True)
    write(state.journal_path, [rows.fill_row(3, 1, fill("t3"), INSTRUMENT, 2000)])
    assert pnl_identity(state.journal_path, account_epoch=1).mark_px_ticks == 1010
    assert pnl_identity(state.journal_path, account_epoch=3).mark_px_ticks == 2000


def test_lots_of_different_instrument_versions_do_not_add(tmp_path: Path) -> None:
    state = state_dir(tmp_path)
    begin(state)
    second = msgspec.structs.replace(INSTRUMENT, version=2)
    write(
        state.journal_path,
        [rows.fill_row(1, 1, fill("a"), INSTRUMENT, None), rows.fill_row(1, 2, fill("b"), second, None)],
    )
    with pytest.raises(JournalUnreadable, match=r"instrument versions \[1, 2\]"):
        pnl_identity(state.journal_path)
