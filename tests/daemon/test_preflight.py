"""Of the checklist: guards by synthetic breach, the items of hours, what is kept and what is taken over."""

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from mmdaemon.clock import RealClock
from mmdaemon.core.engine import step
from mmdaemon.core.events import Event
from mmdaemon.core.params import GuardParams, Params
from mmdaemon.core.state import State
from mmdaemon.core.types import NS
from mmdaemon.daemon.preflight import running, soak
from mmdaemon.daemon.preflight.breaches import breaches, escalates
from mmdaemon.daemon.preflight.items import ITEMS, Finding, Result
from mmdaemon.daemon.preflight.record import Record, Whose, lines
from mmdaemon.daemon.preflight.running import BY_HAND, CRASH, TRADING
from mmdaemon.daemon.preflight.site import Site
from mmdaemon.daemon.preflight.soak import Needed
from mmdaemon.journal import preflights
from mmdaemon.journal.recovery import schema
from mmdaemon.journal.state_dir import open_dir
from mmdaemon.ops import receipt
from mmdaemon.ops.receipt import REDUCED_RUN, needed
from mmdaemon.secret import Secret
from mmdaemon.venues.emulator.config import EmulatorConfig
from mmdaemon.venues.emulator.server import Emulator
from mmdaemon.venues.simulated.market import SyntheticMarket
from tests.core.build import params
from tests.emulated.build import KEY, PASSPHRASE, SECRET, TOXIC, credentials, settings_for

HOUR = 3_600
T0_NS = 1_790_000_000 * NS
KEEPER = Secret("the account's")


def test_the_table_is_the_checklist() -> None:
    assert list(ITEMS) == list(receipt.ITEMS)
    measured = {**BY_HAND, **TRADING, **CRASH}
    assert {name for name, item in ITEMS.items() if not item.soak_s} == set(measured)
    assert {name for name, item in ITEMS.items() if item.at_live} <= set(BY_HAND), "no daemon trades for it live"


# --- guards -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["tight", "desk"])
def test_every_limit_stops_what_it_is_there_to_stop(preset: Any) -> None:
    found = list(breaches(params(preset)))
    assert [name for name, _, _ in found] == ["daily_loss", "drawdown", "leverage", "margin_soft", "margin_hard"]
    assert all(is_right for _, is_right, _ in found), found
    assert escalates(params(preset))[-1] == "hard_stop"


LENIENT: dict[str, dict[str, Any]] = {
    "daily_loss": {"daily_loss": 9.0, "drawdown": 9.0},
    "drawdown": {"drawdown": 9.0},
    "margin_soft": {"margin_soft": 0.0, "margin_hard": 0.0},
    "margin_hard": {"margin_hard": 0.0, "margin_soft": 0.0},
}


@pytest.mark.parametrize("name", LENIENT)
def test_a_limit_that_stops_nothing_is_found(name: str) -> None:
    def blind(state: State, event: Event, p: Params) -> object:
        guard: GuardParams = msgspec.structs.replace(p.guard, **LENIENT[name])
        return step(state, event, msgspec.structs.replace(p, guard=guard))

    failed = {each: how for each, is_right, how in breaches(params(), blind) if not is_right}
    assert "beyond the limit" in failed[name]
    assert "leverage" not in failed


def test_a_core_that_stops_too_early_is_found() -> None:
    def nervous(state: State, event: Event, p: Params) -> object:
        guard = msgspec.structs.replace(p.guard, daily_loss=0.001, drawdown=0.001)
        return step(state, event, msgspec.structs.replace(p, guard=guard))

    failed = {each: how for each, is_right, how in breaches(params(), nervous) if not is_right}
    assert "below the limit" in failed["daily_loss"]


def test_a_budget_that_nobody_keeps_is_found() -> None:
    def blind(state: State, event: Event, p: Params) -> object:
        guard = msgspec.structs.replace(p.guard, cancel_breaches_hard=100)
        return step(state, event, msgspec.structs.replace(p, guard=guard))

    assert escalates(params(), blind)[-1] != "hard_stop"


# --- the items of hours -----------------------------------------------------------------------------------------------


def journal(
    folder: Path,
    runs: int = 2,
    minutes: int = 24 * 60,
    *,
    config_hash: str = "cafe",
    skip: int = 0,
    guard: str = "running",
    regime: str = "up",
    held: int = 3,
    settles: bool = True,
    fills: int = 50,
    orders: int = 100,
    spread_e10: int = 1_000,
    clean: int | None = 1,
) -> Path:
    """Runs on end, each with a row a minute and settlements every eight hours. `skip` leaves so many minutes out."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "journal.sqlite"
    with closing(sqlite3.connect(path)) as db, db:
        db.executescript(schema())
        db.execute("INSERT INTO meta VALUES (1, 'abcd', 'sim', 'BTCUSDT', 1)")
        at = T0_NS
        for epoch in range(1, runs + 1):
            end = at + minutes * 60 * NS
            row = (epoch, 1, 1, "0", config_hash, "testnet", "power", "{}", 1, at, 0, 1, end, clean, "over")
            db.execute(f"INSERT INTO runs VALUES ({', '.join('?' * 15)})", row)
            due = at + 8 * HOUR * NS
            for minute in range(1, minutes + 1):
                ts = at + minute * 60 * NS
                if skip and 30 <= minute < 30 + skip:
                    continue
                if ts > due and settles:
                    bill = ("sim", 1, f"b{epoch}-{minute}", "funding", epoch, minute, ts, ts, due, 5, "0")
                    db.execute(f"INSERT INTO bills VALUES ({', '.join('?' * 11)}, 0)", bill)
                due += 8 * HOUR * NS * (ts > due)
                values = {
                    "epoch": epoch,
                    "ts_ns": ts,
                    "mono_ns": ts,
                    "seq": minute,
                    "guard": guard,
                    "regime": regime,
                    "position_lots": held,
                    "spread_e10": spread_e10,
                    "inventory_e10": 0,
                    "impact_e10": 0,
                    "fees_e10": 0,
                    "funding_e10": 0,
                    "transfers_e10": 0,
                    "turnover_e10": 10_000_000,
                    "fills": fills,
                    "funding_due_ts_ns": due,
                }
                names, marks = ", ".join(values), ", ".join("?" * len(values))
                db.execute(f"INSERT INTO minutes ({names}) VALUES ({marks})", tuple(values.values()))
            at = end + HOUR * NS
        for number in range(orders):
            intent = (f"o{number}", 0, 1, number, at, 1, 1, 1, "quote", 0, 1, 0, 0)
            db.execute(f"INSERT INTO intents VALUES ({', '.join('?' * 13)})", intent)
        for number in range(fills):
            fill = ("sim", "BTCUSDT", 1, f"t{number}", 1, 1, number, 1, at, at, f"o{number}", 1, 1, 1, 1, 0, "0")
            db.execute(f"INSERT INTO fills VALUES ({', '.join('?' * 17)}, 'maker', 'trade', NULL, 0, NULL, NULL)", fill)
    return path


def record_at(path: Path, mode: str = "testnet") -> Record:
    whose = Whose(mode, "cafe", "a0")
    return Record(open_dir(path, {}).lock(), whose, KEEPER, ("sim", "BTCUSDT"), lambda: T0_NS + NS)


def sampled(record: Record, grows_mib_day: float, count: int = 12) -> None:
    for number in range(count):
        at_ns = T0_NS + number * 4 * HOUR * NS
        figures = {"rss_mib": 200 + grows_mib_day * number / 6, "pid": 7}
        record.progress("soak", figures, "a sample", at_ns)


def soaked(tmp_path: Path, *, grows_mib_day: float = 0.0, count: int = 12, **changed: Any) -> Result:
    record = record_at(tmp_path / "kept")
    sampled(record, grows_mib_day, count)
    journal(tmp_path / "soak" / "testnet", **changed)
    (found,) = [each for each in soak.judged(tmp_path / "soak", record) if each.item == "soak"]
    return found


def test_two_days_in_two_parts_are_two_days(tmp_path: Path) -> None:
    found = soaked(tmp_path, grows_mib_day=2.0)
    assert found.outcome == "passed", found
    assert found.figures["ran_s"] == 48 * HOUR
    assert (found.figures["runs"], found.figures["minutes"], found.figures["gaps"]) == (2, 2 * 1_440, 0)
    assert found.figures["growth_mib_day"] == 2.0
    assert found.figures["settlements"] == found.figures["settled"]
    assert int(found.figures["settlements"]) >= 4


@pytest.mark.parametrize(
    ("changed", "outcome", "said"),
    [
        ({"minutes": 23 * 60}, "not_checked", "46.00 of 48 hours"),
        ({"skip": 1}, "failed", "2 gaps in the minutes, the longest 120 s"),
        ({"guard": "soft_pause"}, "failed", "running 0% of the time"),
        ({"settles": False}, "failed", "settlements with a position were booked"),
        ({"held": 0}, "failed", "nothing was held at any settlement"),
        ({"grows_mib_day": 11.0}, "failed", "memory grew by 11.0 MiB a day"),
        ({"count": 5}, "failed", "no process ran for long enough"),
    ],
)
def test_what_two_days_must_show(tmp_path: Path, changed: dict[str, Any], outcome: str, said: str) -> None:
    found = soaked(tmp_path, **changed)
    assert (found.outcome, said in found.said) == (outcome, True), found


def test_a_tests_duration_passes_nothing(tmp_path: Path) -> None:
    record = record_at(tmp_path / "kept")
    sampled(record, 0.0)
    for name in ("testnet", "paper"):
        journal(tmp_path / "soak" / name)
    whole = soak.judged(tmp_path / "soak", record)
    assert [each.outcome for each in whole] == ["passed", "passed"]
    short = soak.judged(tmp_path / "soak", record, Needed(paper_s=1.0, soak_s=1.0))
    assert [each.outcome for each in short] == ["not_checked", "not_checked"]
    assert all("not enough: a test's duration" in each.said for each in short)


def beside(tmp_path: Path, **paper: Any) -> Result:
    journal(tmp_path / "soak" / "testnet", 1, 60)
    given: dict[str, Any] = {"minutes": 60, **paper}
    journal(tmp_path / "soak" / "paper", 1, **given)
    return soak.judged(tmp_path / "soak", record_at(tmp_path / "kept"))[0]


def test_paper_beside_demo_trading(tmp_path: Path) -> None:
    found = beside(tmp_path, fills=25)
    assert found.outcome == "passed", found
    assert (found.figures["fill_ratio_times"], found.figures["regimes_off"]) == (2.0, 0.0)
    assert (found.figures["paper_fill_ratio"], found.figures["paper_capture_bps"]) == (0.25, 1.0)


@pytest.mark.parametrize(
    ("paper", "outcome", "said"),
    [
        ({"minutes": 50}, "not_checked", "0.83 of 1 hours"),
        ({"fills": 10}, "failed", "fills 5.0 times as often"),
        ({"fills": 0}, "failed", "paper: no fill"),
        ({"orders": 19, "fills": 10}, "failed", "paper: 19 orders"),
        ({"regime": "down"}, "failed", "regimes' shares differ by 1.00"),
        ({"spread_e10": 10_000}, "failed", "spread captured differs by 9.0 bps"),
    ],
)
def test_paper_that_is_another_market_is_found(tmp_path: Path, paper: dict[str, Any], outcome: str, said: str) -> None:
    found = beside(tmp_path, **paper)
    assert (found.outcome, said in found.said) == (outcome, True), found


def test_nothing_at_all_is_no_pass(tmp_path: Path) -> None:
    found = soak.judged(tmp_path / "none", record_at(tmp_path / "kept"))
    assert [each.outcome for each in found] == ["not_checked", "not_checked"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, ""),
        ({"minutes": 23 * 60, "runs": 1}, "23.00 of 24 hours"),
        ({"config_hash": "other"}, "0.00 of 24 hours"),
        ({"fills": 0}, "no fill"),
        ({"skip": 3}, "gaps"),
        ({"clean": 0}, "0.00 of 24 hours"),
    ],
)
def test_full_size_needs_a_day_at_reduced_size(tmp_path: Path, changed: dict[str, Any], said: str) -> None:
    found = soak.at_reduced_size(journal(tmp_path, **changed), "cafe")
    assert found.item == REDUCED_RUN
    assert found.outcome == ("failed" if said else "passed"), found
    assert said in found.said


@pytest.mark.parametrize("what", ["hard", "unclean"])
def test_the_day_begins_anew_after_a_hard_stop_or_an_unclean_end(tmp_path: Path, what: str) -> None:
    path = journal(tmp_path, 3, 13 * 60)
    assert soak.at_reduced_size(path, "cafe").figures["ran_s"] == 39 * HOUR
    with closing(sqlite3.connect(path)) as db, db:
        if what == "hard":
            db.execute("INSERT INTO transitions VALUES (2, 1, 1, 1, 'running', 'hard_stop', 'daily_loss')")
        else:
            db.execute("UPDATE runs SET clean_stop = NULL WHERE epoch = 2")
    found = soak.at_reduced_size(path, "cafe")
    assert "13.00 of 24 hours" in found.said
    assert (found.figures["runs"], found.figures["runs_before"]) == (1, 2)


def test_an_open_break_holds_full_size_off(tmp_path: Path) -> None:
    path = journal(tmp_path)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("INSERT INTO breaks VALUES ('position', 'reconcile', 1, 'x', 2, 1, 1, 1, NULL, NULL)")
    assert soak.at_reduced_size(path, "cafe").said == "1 breaks are open"


async def test_a_soak_that_was_interrupted_goes_on(tmp_path: Path) -> None:
    """Real daemons at an emulator, one on paper; cut off in the middle, and begun again."""
    clock = RealClock(asyncio.get_running_loop())
    given: dict[str, Any] = {"window_s": 1.0, "book_interval_s": 0.05, "maker_rate": Decimal("-0.0001")}
    config = EmulatorConfig(account="unified", api_key=KEY, secret=SECRET, passphrase=PASSPHRASE, **given)
    emulator = Emulator(SyntheticMarket(seed=7, start_ts_ns=clock.wall_ns(), schedule=TOXIC), clock, config)
    await emulator.start()
    settings = settings_for(emulator, "unified", backup__enabled=False)
    record = record_at(tmp_path / "kept")
    folder = tmp_path / "soak"

    async def until(holds: Callable[[], object]) -> None:
        async with asyncio.timeout(60):
            while not holds():  # noqa: ASYNC110 - what is waited for sets no event
                await asyncio.sleep(0.05)

    def soaking(needs: Needed) -> asyncio.Task[list[Result]]:
        run = soak.run(settings, credentials(), clock, folder, record, needs, every_s=0.5)
        return asyncio.get_running_loop().create_task(run)

    def samples() -> int:
        return sum(row.outcome == "progress" for row in record.rows())

    try:
        first = soaking(Needed(3_600.0, 3_600.0))
        await until(lambda: emulator.account.exchange.fills and samples() >= 2)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert not emulator.account.open_orders()
        assert emulator.account.position() is None
        ran = soak.ran_s(folder / "testnet")
        assert ran > 0
        assert soak.ran_s(folder / "paper") > 0
        paper, whole = await soaking(Needed(ran + 1.0, ran + 3.0))
        assert float(whole.figures["ran_s"]) >= ran + 3.0
        assert whole.figures["runs"] == 2, "what ran is not run again"
        assert float(paper.figures["ran_s"]) >= ran
        assert paper.figures["testnet_orders"]
        assert {paper.outcome, whole.outcome} <= {"failed", "not_checked"}, "seconds pass nothing"
        assert not emulator.account.open_orders()
        assert emulator.account.position() is None
        assert not emulator.defects
    finally:
        await emulator.close()


# --- what is kept -----------------------------------------------------------------------------------------------------


def passed(*items: str) -> list[Result]:
    return [Result(item, "passed", {"figure": 1.5}, "looked at") for item in items]


def test_a_receipt_needs_all_fourteen_and_goes_when_one_fails(tmp_path: Path) -> None:
    record = record_at(tmp_path)
    *most, last = receipt.ITEMS
    record.write(passed(*most), T0_NS)
    assert record.issue("testnet") == f"no receipt: {last} did not pass"
    assert not record.path.exists()
    record.write(passed(last), T0_NS)
    assert record.issue("testnet") == ""
    assert record.path.exists()
    assert record.issue("full") == f"no receipt: {REDUCED_RUN} did not pass"
    assert not record.path.exists()
    record.write([Result("fees", "failed", {}, "twice as much")], T0_NS + 1)
    assert "fees did not pass" in record.issue("testnet")
    assert [each.outcome for each in lines([], record.last())].count("failed") == 1
    assert needed("full") == (*receipt.ITEMS, REDUCED_RUN)


def test_what_was_measured_too_long_ago_counts_no_more(tmp_path: Path) -> None:
    record = record_at(tmp_path)
    record.write(passed(*receipt.ITEMS), T0_NS - 30 * 24 * HOUR * NS)
    assert "did not pass" in record.issue("testnet")
    record.write(passed(*receipt.ITEMS), T0_NS - 30 * 24 * HOUR * NS + NS)
    assert record.issue("testnet") == ""


def test_rows_of_anything_else_and_edited_ones_do_not_count(tmp_path: Path) -> None:
    directory = open_dir(tmp_path, {}).lock()
    record = Record(directory, Whose("testnet", "cafe", "a0"), KEEPER, ("sim", "BTCUSDT"))
    record.write(passed("fees"), T0_NS)
    for whose, key in (
        (Whose("live", "cafe", "a0"), KEEPER),
        (Whose("testnet", "beef", "a0"), KEEPER),
        (Whose("testnet", "cafe", "a1"), KEEPER),
        (Whose("testnet", "cafe", "a0", "0.0"), KEEPER),
        (Whose("testnet", "cafe", "a0"), Secret("another")),
    ):
        assert Record(directory, whose, key, ("sim", "BTCUSDT")).rows() == []
    assert len(record.rows()) == 1
    with closing(sqlite3.connect(directory.journal_path)) as db, db:
        db.execute("UPDATE preflights SET figures = '{}'")
    assert record.rows() == []
    assert len(preflights.read(directory.journal_path)) == 1


def test_what_is_taken_over_keeps_its_time(tmp_path: Path) -> None:
    demo, live = record_at(tmp_path / "demo"), record_at(tmp_path / "live", "live")
    demo.write(passed("crash"), T0_NS)
    live.take_over(demo.rows())
    (row,) = live.rows()
    assert (row.mode, row.ts_ns, row.evidence) == ("live", T0_NS, "in demo trading: looked at")


async def test_nothing_is_traded_after_a_ctrl_c_that_a_failed_clean_up_hides(monkeypatch: pytest.MonkeyPatch) -> None:
    traded: list[str] = []
    emptied: list[str] = []

    async def rests(_: Site) -> Finding:
        traded.append("rests")
        try:
            await asyncio.Event().wait()
        finally:
            raise TimeoutError("its cancel was not answered")

    async def takes(_: Site) -> Finding:
        traded.append("takes")
        return Finding({}, "")

    class Nobody:
        has_daemon = False

        async def leave_nothing(self) -> str:
            emptied.append("at the end")
            return ""

    monkeypatch.setattr(running, "BY_HAND", {"instrument": rests, "fees": takes})
    monkeypatch.setattr(running, "TRADING", {"pnl": takes})
    monkeypatch.setattr(running, "CRASH", {"crash": takes})
    task = asyncio.create_task(running.measured(cast("Site", cast("object", Nobody()))))
    while not traded:  # noqa: ASYNC110
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert traded == ["rests"]
    assert emptied == ["at the end"]
