"""What fills taught goes on after a restart as if there had been none; what nobody saw is unavailable, and counted."""

import random
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from mmdaemon.core import engine, markout
from mmdaemon.core.cost import Taken
from mmdaemon.core.events import BookUpdate, Event, Fill, TimerFired
from mmdaemon.core.fill_quality import Phase, Quality
from mmdaemon.core.markout import HORIZONS_S, Markouts
from mmdaemon.core.params import Params
from mmdaemon.core.state import State, new_state
from mmdaemon.core.types import NS, ExecKind, Liquidity, Side
from mmdaemon.daemon import learned
from mmdaemon.daemon.breaks import Ledger
from mmdaemon.daemon.opening import first_state
from mmdaemon.daemon.record import Recorder, checkpoint_of
from mmdaemon.journal import known, rows
from mmdaemon.journal.recovery import JournalUnreadable
from mmdaemon.journal.rows import DecisionChain
from mmdaemon.journal.state_dir import StateDir
from mmdaemon.journal.statements import Row
from tests.core.build import EQUITY_E10, MID, T0_NS, WALL_NS, Desk, params
from tests.daemon.build import World, busy, run_world
from tests.journal.samples import StillClock, begin, query, state_dir, write

# --- events by hand, killed between any two of them -------------------------------------------------------------------

QUICK = params(
    shadow=False,
    quality={"pull_min_fills": 10, "pull_s": 60.0, "return_s": 40.0, "tracker_after_s": 20.0, "tracker_memory_s": 90.0},
    guard={"fills_per_side_per_minute": 500},
)
MINUTES = 13
"""Too short for bars to make a regime: a restart forgets them."""


def history(seed: int) -> list[Event]:
    """Books every 200 ms, the timer each second, fills at any time, buys bad for a while."""
    dice = random.Random(seed)
    made: list[Event] = []
    px, next_fill_ns = MID, T0_NS + 20 * NS
    for step in range(MINUTES * 60 * 5):
        at_ns = T0_NS + 13 * NS + step * NS // 5
        px += dice.choice((-2, -1, 0, 1, 2))
        while next_fill_ns < at_ns:
            side = dice.choice(list(Side))
            is_bad = side is Side.BUY and step < 3_000
            px_ticks = px + side * (400 if is_bad else -300)
            times = (next_fill_ns, next_fill_ns + WALL_NS, next_fill_ns + WALL_NS - 40_000_000)
            whose = "elsewhere" if dice.random() < 0.1 else "mmabcd-1-1"
            which = (f"t{next_fill_ns}", whose, side, px_ticks, dice.randint(1, 9), dice.randint(-90, 90) * 10**6)
            kind = Liquidity.MAKER if dice.random() < 0.9 else Liquidity.TAKER
            made.append(Fill(*times, *which, kind, ExecKind.TRADE))
            next_fill_ns += round(dice.expovariate(1 / 4) * NS) + 1
        times = (at_ns, at_ns + WALL_NS, None)
        sizes = (dice.randint(1, 900), dice.randint(1, 900))
        if not 2_000 < step < 2_120:  # 24 seconds without a book
            made.append(BookUpdate(*times, ((px - 5, sizes[0]),), ((px + 5, sizes[1]),)))
        if step % 5 == 0:
            made.append(TimerFired(at_ns + 7, at_ns + 7 + WALL_NS, None, "sample"))
    return made


class Bot:
    """The core and its recorder, with a journal that keeps all it is handed."""

    def __init__(self, folder: Path) -> None:
        self.directory: StateDir = state_dir(folder)
        self.clock = StillClock()
        self.state: State
        self.rows: list[Row] = []
        self.start(T0_NS)

    def start(self, now_ns: int) -> None:
        """Begin, with whatever the journal knows, and learn what a daemon learns in its first second."""
        self.clock.now_ns, self.clock.offset_ns = now_ns, WALL_NS
        found = begin(self.directory, self.clock)
        self.params: Params = msgspec.structs.replace(QUICK, run_epoch=found.epoch)
        self.state = first_state(found, self.params, EQUITY_E10, now_ns, now_ns + WALL_NS)
        chain, ledger = DecisionChain(found.epoch, b""), Ledger("abcd", found.epoch, (), now_ns)
        self.recorder = Recorder(cast(Any, self), self.params, chain, ledger)
        desk = Desk(self.params, now_ns=now_ns)
        facts = (desk.link("public", True), desk.link("private", True), desk.fees(), desk.funding(), desk.mark())
        for fact in (*facts, desk.account(), desk.health(), desk.reconciled()):
            self.feed(fact)

    def put(self, kept: Sequence[Row], *, urgent: bool = False) -> int:
        self.rows.extend(kept)
        return len(self.rows)

    def feed(self, event: Event) -> None:
        step = engine.step(self.state, event, self.params)
        self.recorder.record(self.state, event, step)

    def kill(self, now_ns: int) -> None:
        """The process is gone, and another one there at once: what it had handed over is in the file."""
        write(self.directory.journal_path, self.rows)
        self.rows = []
        self.start(now_ns)

    @property
    def learned(self) -> tuple[Markouts, Quality, Taken]:
        kept = msgspec.structs.replace(self.state.markouts, matured=(), matured_seq=-1)
        quality = self.state.quality
        return kept, msgspec.structs.replace(quality, verdicts=0), self.state.venue.taken


def moments(events: Sequence[Event]) -> list[int]:
    """Before which events a kill changes nothing: since the last book or timer, which close horizons, none came due."""
    due = sorted(e.mono_ns + h * NS for e in events if isinstance(e, Fill) for h in HORIZONS_S)
    found: list[int] = []
    passed = looked_ns = 0
    for i in range(1, len(events)):
        after = events[i].mono_ns
        looked_ns = looked_ns if isinstance(events[i - 1], Fill) else events[i - 1].mono_ns
        while passed < len(due) and due[passed] < looked_ns:
            passed += 1
        if passed == len(due) or due[passed] >= after:
            found.append(i)
    return found


@pytest.mark.parametrize("seed", range(4))
def test_killed_anywhere_it_has_learned_what_it_would_have(seed: int, tmp_path: Path) -> None:
    events = history(seed)
    whole = Bot(tmp_path / "whole")
    phases: set[Phase] = set()
    for event in events:
        whole.feed(event)
        phases.add(whole.state.quality.buy.phase)
    assert phases == set(Phase)  # else it proves little
    assert any(tracker.markout.count > 5 for tracker in whole.state.quality.trackers.values())
    assert whole.state.markouts.unavailable > 4
    assert 0.02 < whole.state.venue.taken.taker_e10 / whole.state.venue.taken.whole_e10 < 0.3

    dice = random.Random(seed)
    killed = Bot(tmp_path / "killed")
    kills = set(dice.sample(moments(events), 40))
    last_book: Event | None = None
    for i, event in enumerate(events):
        if i in kills:
            killed.kill(events[i - 1].mono_ns)
            if last_book is not None:  # the venue tells it at once, and it is as old as it was
                killed.feed(last_book)
        killed.feed(event)
        last_book = event if isinstance(event, BookUpdate) else last_book
    assert killed.params.run_epoch == 41
    assert killed.learned == whole.learned


def test_after_a_reboot_ages_go_on_by_utc(tmp_path: Path) -> None:
    """Another boot, another monotonic clock: nothing is older or younger for it."""
    bot = Bot(tmp_path)
    for event in history(0)[:2_000]:
        bot.feed(event)
    write(bot.directory.journal_path, bot.rows)
    before = bot.state
    clock = StillClock()
    clock.now_ns, clock.offset_ns = 50 * NS, before.ts_ns - 50 * NS
    found = begin(bot.directory, clock)
    after = first_state(found, QUICK, EQUITY_E10, 50 * NS, before.ts_ns)
    moved_ns = 50 * NS - before.mono_ns
    assert [p.fill.mono_ns for p in after.markouts.pending] == [
        p.fill.mono_ns + moved_ns for p in before.markouts.pending
    ]
    assert after.markouts.next_due_ns == before.markouts.next_due_ns + moved_ns
    for row, seen in before.markouts.impacts.items():
        assert after.markouts.impacts[row].at_ns == seen.at_ns + moved_ns
        assert after.markouts.impacts[row].mean == seen.mean
        faded = markout.adverse_bps(before.markouts, *row, before.mono_ns + NS, QUICK.cost)
        assert markout.adverse_bps(after.markouts, *row, 51 * NS, QUICK.cost) == faded


def test_what_came_due_while_nobody_looked_is_unavailable_and_kept(tmp_path: Path) -> None:
    bot = Bot(tmp_path)
    desk = Desk(QUICK)
    bot.feed(desk.book())
    bot.feed(desk.wait(1).fill(Side.BUY, 3))
    bot.feed(desk.wait(1.5).book(MID - 15, MID - 5))  # 1 s is closed here
    desk.wait(20)
    bot.kill(desk.now_ns)
    bot.feed(desk.book())
    bot.feed(desk.wait(10).book())
    bot.feed(desk.wait(0.001).timer())
    write(bot.directory.journal_path, bot.rows)
    found = query(bot.directory.journal_path, "SELECT epoch, horizon_s, fair_ticks FROM markouts ORDER BY rowid")
    # 30 s after the fill the book was of the other process, 8.5 s old.
    assert found == [(1, 1, float(MID)), (2, 5, None), (2, 30, None)]
    assert bot.state.markouts.unavailable == 2


def test_a_fill_that_is_the_last_event_of_the_slice_is_not_watched_twice(tmp_path: Path) -> None:
    """A stop writes the slice at whatever event was the last."""
    bot = Bot(tmp_path)
    desk = Desk(QUICK)
    bot.feed(desk.book())
    bot.feed(desk.wait(1).fill(Side.BUY, 3))
    bot.put(checkpoint_of(bot.state, bot.params))
    bot.kill(desk.now_ns)
    assert [pending.fill.trade_id for pending in bot.state.markouts.pending] == ["t1"]


def test_an_unpriced_fill_is_counted_once(tmp_path: Path) -> None:
    bot = Bot(tmp_path)
    desk = Desk(QUICK)
    bot.feed(desk.wait(1).fill(Side.BUY, 3))
    assert bot.state.markouts.unpriced == 1
    for _ in range(3):
        bot.kill(desk.wait(1).now_ns)
        assert (bot.state.markouts.unpriced, bot.state.markouts.pending) == (1, [])


def test_what_our_exits_cost_is_not_forgotten_by_a_stop(tmp_path: Path) -> None:
    """A stop writes a checkpoint of the position, so that no fill is booked again at the start: the prior would count,
    a tenth of what was measured, and quotes stand too near until fifty fills have paid for it."""
    bot = Bot(tmp_path)
    desk = Desk(QUICK)
    for _ in range(100):
        taking = msgspec.structs.replace(desk.wait(1).fill(Side.BUY, 9), liquidity=Liquidity.TAKER)
        bot.feed(msgspec.structs.replace(taking, client_id="mmabcd-1-7"))
    bot.feed(desk.timer())
    share = bot.state.sampled.taker_share
    assert share > 0.6
    bot.put(checkpoint_of(bot.state, bot.params))
    bot.kill(desk.wait(60).now_ns)
    bot.feed(desk.timer())
    assert bot.state.sampled.taker_share == share


def test_a_slice_of_before_it_was_kept_is_taken_as_it_is(tmp_path: Path) -> None:
    bot = Bot(tmp_path)
    desk = Desk(QUICK)
    bot.feed(desk.book())
    bot.feed(desk.wait(1).fill(Side.BUY, 3, client_id="mmabcd-1-7"))
    blob = msgspec.msgpack.decode(learned.kept_of(bot.state))
    del blob["taken"]
    bot.put(rows.checkpoint_rows(1, bot.state.seq, bot.state.ts_ns, {"learned": msgspec.msgpack.encode(blob)}))
    bot.kill(desk.now_ns)
    assert bot.state.venue.taken.fills == 1.0
    assert len(bot.state.markouts.pending) == 1


def test_a_damaged_slice_means_killed(tmp_path: Path) -> None:
    bot = Bot(tmp_path)
    write(bot.directory.journal_path, rows.checkpoint_rows(1, 9, WALL_NS, {"learned": b"\x00"}))
    with pytest.raises(JournalUnreadable, match="what the journal kept of fills is damaged"):
        bot.start(T0_NS + NS)


# --- a daemon, killed at any time -------------------------------------------------------------------------------------

LOSING = busy(quality__pull_min_fills=10, quality__pull_s=30.0, quality__return_s=20.0, quality__pull_horizon_s=1)


def crashes(seed: int) -> Iterator[float]:
    """Seconds to live: around a fill's horizons, and any."""
    dice = random.Random(seed)
    yield from (dice.choice((0.4, 1.02, 4.9, 7.0, 31.0)) + dice.uniform(0, 6) for _ in range(6))


@pytest.mark.parametrize("seed", range(3))
def test_over_crashes_each_horizon_of_each_fill_is_closed_once_and_learned_once(seed: int, path: Path) -> None:
    async def script(world: World) -> tuple[Markouts, Quality, Params, int]:
        for seconds in crashes(seed):
            await world.trade(5)
            fills = world.state.position.buys + world.state.position.sells
            await world.until(lambda n=fills: world.state.position.buys + world.state.position.sells > n, 60)
            await world.sleep(seconds)
            await world.crash()
            await world.restart(random.Random(seed).choice((0.0, 0.3, 3.0, 40.0)))
        await world.trade(10)
        await world.parts.operator.pause("the end", "test")
        await world.sleep(70)
        state = world.state
        await world.stop()
        return state.markouts, state.quality, world.daemon.params, state.mono_ns - state.ts_ns

    markouts, quality, p, offset_ns = run_world(script, path, LOSING)
    with closing(sqlite3.connect(path / "journal.sqlite")) as db:
        found: list[tuple[Any, ...]] = db.execute("SELECT trade_id, horizon_s, fair_ticks FROM markouts").fetchall()
        priced = [t for (t,) in db.execute("SELECT trade_id FROM fills WHERE fair0_ticks IS NOT NULL")]
        (unpriced,) = db.execute("SELECT count(*) FROM fills WHERE fair0_ticks IS NULL").fetchone()
        db.execute("DELETE FROM checkpoints WHERE slice = 'learned'")
        everything = known.learned(db, 1)
    assert Counter((t, h) for t, h, _ in found) == Counter((t, h) for t in priced for h in HORIZONS_S)
    lost = sum(fair is None for _, _, fair in found)
    assert lost > 3
    assert len(found) - lost > 100
    assert (markouts.unavailable, markouts.unpriced, markouts.pending) == (lost, unpriced, [])

    # From all rows at once, without any slice, the same was learned.
    again = new_state(p, 0)
    again.mono_ns, again.ts_ns = 4 * 10**18 + offset_ns, 4 * 10**18
    learned.restore(again, everything, p)
    assert again.markouts.impact_5s_e10 == markouts.impact_5s_e10
    assert again.markouts.impacts == markouts.impacts
    assert {k: t.markout for k, t in again.quality.trackers.items()} == {
        k: t.markout for k, t in quality.trackers.items()
    }
