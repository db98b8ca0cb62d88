"""`make bench`: where the time goes, each figure beside the one it is held against, in one run.

Only ratios taken in one run mean anything (the machines are shared and drift by a fifth), so rounds are interleaved
and medians are printed. Nothing here passes or fails: figures are read, kept in docs/RESULTS.md and compared.
"""

import copy
import gc
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from mmdaemon.clock import Clock
from mmdaemon.core import engine
from mmdaemon.core.events import BookUpdate
from mmdaemon.core.params import Params
from mmdaemon.core.quotes import decide
from mmdaemon.core.state import State
from mmdaemon.core.types import NS, GuardState, Regime
from mmdaemon.daemon.pace import sleep_ns
from mmdaemon.daemon.supervisor import Daemon
from mmdaemon.daemon.wire import market_of
from mmdaemon.journal.state_dir import open_dir
from mmdaemon.research.session import Script, Session, play
from mmdaemon.settings import load
from mmdaemon.venues.simulated.venue import SimulatedVenue

START_TS_NS = 1_767_571_200 * NS
WHOLE = {
    # Two orders a side and the whole signal, over twenty levels: `tight` as calibrated, and a rung more.
    **{f"regimes.{regime}.levels_max": 2 for regime in Regime},
    "signal.print_weight": 0.6,
    "signal.momentum_weight": 0.4,
    "signal.gap_weight": 0.6,
    "signal.lean_weight": 0.4,
}
ROUNDS = 15
CALLS = 2_000
PACED_CALLS = 300


def ladder(fair: int, half: int, step: int, qty: int) -> list[tuple[int, int, int]]:
    """The yardstick: ten orders of integer quote maths, constructed. Nothing can be quoted for less."""
    orders: list[tuple[int, int, int]] = []
    for level in range(5):
        away = half + level * step
        orders.append((1, fair - away, qty))
        orders.append((-1, fair + away, qty))
    return orders


def hot_ns(call: Callable[[], object]) -> float:
    begun = time.perf_counter_ns()
    for _ in range(CALLS):
        call()
    return (time.perf_counter_ns() - begun) / CALLS


def paced_ns(call: Callable[[], object]) -> float:
    """One call a millisecond, so that caches are as cold as between real books."""
    took: list[int] = []
    for _ in range(PACED_CALLS):
        time.sleep(0.001)
        begun = time.perf_counter_ns()
        call()
        took.append(time.perf_counter_ns() - begun)
    return statistics.median(took)


def run(script: Script) -> tuple[Session, float]:
    """A session on the synthetic market, and its CPU seconds."""
    settings = load(None, {"run.speed": "max", **WHOLE}, {}).settings
    with tempfile.TemporaryDirectory() as folder:
        directory = open_dir(Path(folder), {}).lock()
        begun = time.process_time()
        session = play(settings, directory, market_of(settings, START_TS_NS), script, bot_tag="benc")
        directory.release()
        return session, time.process_time() - begun


def for_hours(hours: float, *, paused: bool) -> Script:
    async def wait(daemon: Daemon, _venue: SimulatedVenue, clock: Clock) -> str:
        if paused:
            await daemon.parts.operator.pause("bench", "bench")
        await sleep_ns(clock, round(hours * 3600 * NS))
        return "bench"

    return wait


class Captured(msgspec.Struct):
    state: State | None = None
    params: Params | None = None


def capture(into: Captured) -> Script:
    """A copy of the state as it is when the daemon quotes both sides."""

    async def wait(daemon: Daemon, _venue: SimulatedVenue, clock: Clock) -> str:
        await sleep_ns(clock, 1800 * NS)
        while True:
            await sleep_ns(clock, NS // 10)
            decision = daemon.state.decision
            settled = all(o.acked_ns and not o.pending_ns for o in daemon.state.orders.live.values())
            if daemon.state.guard.state is GuardState.RUNNING and decision and len(decision.quotes) >= 4 and settled:
                into.state, into.params = copy.deepcopy(daemon.state), daemon.params
                return "captured"

    return wait


def main() -> int:
    console = Console()
    console.print(f"Python {sys.version.split()[0]}, {ROUNDS} interleaved rounds, medians")
    captured = Captured()
    run(capture(captured))
    state, params = captured.state, captured.params
    assert state is not None
    assert params is not None
    assert state.inputs is not None
    inputs = state.inputs
    quotes = len(state.decision.quotes) if state.decision else 0
    seq = 0

    def still() -> object:
        """A book that moves sizes far from the touch: an event that changes nothing."""
        nonlocal seq
        seq += 1
        book = state.book
        bids = (*book.bids[:-1], (book.bids[-1][0], book.bids[-1][1] + seq % 2))
        now = state.mono_ns + 1_000
        return engine.step(state, BookUpdate(now, state.ts_ns + 1_000, None, bids, book.asks), params)

    before = state.decision_seq
    calls: dict[str, Callable[[], object]] = {
        "ladder": lambda: ladder(600_000, 30, 12, 16),
        f"decide ({quotes} quotes)": lambda: decide(inputs, params),
        "step that changes nothing": still,
    }
    gc.collect()
    gc.freeze()
    hot: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            hot[name].append(hot_ns(call))
    paced = {name: paced_ns(call) for name, call in calls.items()}
    assert state.decision_seq == before, "the step that changes nothing made a decision"

    table = Table(title="the core, against a constructed ten-order ladder")
    for column in ("what", "hot, µs", "x ladder", "at 1,000 a second, µs", "x ladder paced"):
        table.add_column(column, justify="left" if column == "what" else "right")
    yardstick, paced_yardstick = statistics.median(hot["ladder"]), paced["ladder"]
    for name in calls:
        median = statistics.median(hot[name])
        table.add_row(
            name,
            f"{median / 1e3:.2f}",
            f"{median / yardstick:.1f}",
            f"{paced[name] / 1e3:.2f}",
            f"{paced[name] / paced_yardstick:.1f}",
        )
    console.print(table)
    gc.unfreeze()

    hours = 2.0
    idle, idle_s = run(for_hours(hours, paused=True))
    busy, busy_s = run(for_hours(hours, paused=False))
    events = idle.daemon.state.seq
    commands = busy.daemon.parts.controller.commands
    whole = Table(
        title=f"the whole daemon, {hours:g} virtual hours of the synthetic market, journal and venue included"
    )
    for column in ("what", "figure"):
        whole.add_column(column, justify="left" if column == "what" else "right")
    whole.add_row("virtual hours a CPU-second, quoting", f"{hours / busy_s:.2f}")
    whole.add_row("virtual hours a CPU-second, paused", f"{hours / idle_s:.2f}")
    whole.add_row("µs an event, paused (market, timers, health)", f"{idle_s / events * 1e6:.1f}")
    whole.add_row(
        "µs a command, all in (decision, journal, venue, answers)", f"{(busy_s - idle_s) / commands * 1e6:.0f}"
    )
    whole.add_row(
        "events, commands, decisions",
        f"{busy.daemon.state.seq:,}, {commands:,}, {busy.daemon.parts.recorder.decisions:,}",
    )
    console.print(whole)
    return 0


if __name__ == "__main__":
    sys.exit(main())
