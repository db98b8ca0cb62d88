"""The sender: no order before its intent is durable, cancels before everything, what was never sent is withdrawn."""

import asyncio
from pathlib import Path

from mmdaemon.clock import VirtualClock, run_virtual
from mmdaemon.core.commands import Amend, Cancel, Command, Place
from mmdaemon.core.engine import Step
from mmdaemon.core.events import Event, OrderUpdate, RequestFailed
from mmdaemon.core.state import State
from mmdaemon.core.types import GuardState, OrderStatus, Purpose, Side
from mmdaemon.daemon.gate import Gate
from mmdaemon.daemon.sender import Sender
from mmdaemon.journal.connection import JournalFailed
from mmdaemon.journal.statements import Row, Statement
from mmdaemon.journal.writer import JournalWriter
from mmdaemon.venues.simulated.market import SyntheticMarket
from mmdaemon.venues.simulated.venue import SimulatedVenue
from tests.daemon.build import START_NS, World, run_world, say_nothing

ROW: Row = (Statement.DIGEST, (0, b"", 0, 0, b""))
"""Which row it is does not matter to the sender; that it waits for the disk does."""


def place(number: int, side: Side = Side.BUY) -> Place:
    return Place(f"mmdemo-1-{number}", side, 600_000, 10, Purpose.QUOTE, 0, post_only=True, reduce_only=False)


class Disk:
    """A journal's connection whose commits take as long as the test says."""

    def __init__(self) -> None:
        self.may_commit = asyncio.Event()
        self.fails = False

    async def open(self) -> None: ...

    async def commit(self, rows: object) -> None:
        await self.may_commit.wait()
        if self.fails:
            raise JournalFailed("disk full")

    async def close(self) -> None: ...


class Bench:
    """A sender with its journal and gate, and a venue that only writes down what it is handed."""

    def __init__(self, clock: VirtualClock) -> None:
        self.disk = Disk()
        self.gate = Gate()
        self.posted: list[Event] = []
        self.sent: list[Command] = []
        bench = self

        class Venue(SimulatedVenue):
            async def send(self, command: Command) -> None:
                bench.sent.append(command)

        self.journal = JournalWriter(self.disk, clock)
        source = SyntheticMarket(start_ts_ns=START_NS)
        self.sender = Sender(Venue(source, clock), self.journal, self.gate, self.posted.append, clock)
        self.tasks = [asyncio.create_task(self.journal.run()), asyncio.create_task(self.sender.run())]

    def submit(self, *commands: Command) -> None:
        self.sender.submit(commands, self.journal.put([ROW]))

    async def end(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


def on_a_bench(script) -> None:
    async def main(clock: VirtualClock) -> None:
        bench = Bench(clock)
        await script(bench)
        await bench.end()

    run_virtual(main, start_wall_ns=START_NS)


# --- the lanes --------------------------------------------------------------------------------------------------------


def test_orders_wait_for_their_rows_and_cancels_do_not() -> None:
    async def script(bench: Bench) -> None:
        order, amend, cancel = place(1), Amend("mmdemo-1-7", 2, 600_001, 9), Cancel("mmdemo-1-8", risk=False)
        bench.submit(order, amend, cancel)
        await asyncio.sleep(0.5)
        assert bench.sent == [cancel]
        bench.disk.may_commit.set()
        await asyncio.sleep(0.001)
        assert bench.sent == [cancel, order, amend]
        assert bench.posted == []
        assert bench.sender.sent == 3

    on_a_bench(script)


def test_orders_of_later_steps_follow_in_their_order() -> None:
    async def script(bench: Bench) -> None:
        bench.submit(place(1), place(2))
        bench.submit(place(3))
        bench.disk.may_commit.set()
        await asyncio.sleep(0.001)
        assert [command.client_id for command in bench.sent] == ["mmdemo-1-1", "mmdemo-1-2", "mmdemo-1-3"]

    on_a_bench(script)


def test_a_cancel_withdraws_an_order_that_was_not_sent() -> None:
    async def script(bench: Bench) -> None:
        bench.submit(place(1), place(2))
        bench.submit(Cancel("mmdemo-1-1", risk=True))
        bench.disk.may_commit.set()
        await asyncio.sleep(0.001)
        assert [command.client_id for command in bench.sent] == ["mmdemo-1-2"]
        (answer,) = bench.posted
        assert isinstance(answer, OrderUpdate)
        assert (answer.client_id, answer.status, answer.cum_filled_lots) == ("mmdemo-1-1", OrderStatus.CANCELLED, 0)
        assert answer.reason == "never_sent"
        # Once sent it is the venue's, and a cancel goes there.
        bench.submit(Cancel("mmdemo-1-2", risk=True))
        await asyncio.sleep(0.001)
        assert bench.sent[-1] == Cancel("mmdemo-1-2", risk=True)

    on_a_bench(script)


def test_a_journal_that_fails_refuses_orders_and_lets_cancels_pass() -> None:
    async def script(bench: Bench) -> None:
        bench.disk.fails = True
        bench.submit(place(1), Amend("mmdemo-1-7", 2, 600_001, 9))
        bench.disk.may_commit.set()
        await asyncio.sleep(0.001)
        bench.sender.submit((place(2), Cancel("mmdemo-1-8", risk=True)), None)  # as the controller does from now on
        await asyncio.sleep(0.001)
        assert bench.sent == [Cancel("mmdemo-1-8", risk=True)]
        told = [(e.client_id, e.reason) for e in bench.posted if isinstance(e, OrderUpdate | RequestFailed)]
        assert told == [("mmdemo-1-1", "gate:journal"), ("mmdemo-1-7", "gate:journal"), ("mmdemo-1-2", "gate:journal")]
        assert bench.sender.refused == 3

    on_a_bench(script)


def test_a_gate_that_closes_while_orders_wait_for_the_disk_refuses_them() -> None:
    async def script(bench: Bench) -> None:
        bench.submit(place(1))
        await asyncio.sleep(0.01)
        bench.gate.close("kill: test")
        bench.disk.may_commit.set()
        await asyncio.sleep(0.001)
        assert bench.sent == []
        (answer,) = bench.posted
        assert isinstance(answer, OrderUpdate)
        assert (answer.status, answer.cum_filled_lots, answer.reason) == (OrderStatus.REJECTED, 0, "gate:kill: test")

    on_a_bench(script)


# --- in a daemon ------------------------------------------------------------------------------------------------------


def test_every_intent_is_committed_at_the_moment_of_its_send(path: Path) -> None:
    """Over a whole run of every kind: quotes, amends, a kill with its slices, a restart."""

    async def script(world: World) -> int:
        unjournaled: list[Command] = []

        def check(command: Command) -> None:
            if isinstance(command, Cancel):
                return
            revision = command.revision if isinstance(command, Amend) else 0
            if (command.client_id, revision) not in world.connection.intents | before:
                unjournaled.append(command)

        before: set[tuple[str, int]] = set()
        world.venue.on_send = check
        await world.trade(60)
        await world.parts.operator.kill("test", "test", say_nothing, flatten=True)
        await world.stop()
        before = world.connection.intents
        (path / "KILLED").unlink()
        await world.restart()
        world.venue.on_send = check
        await world.until(lambda: world.guard is GuardState.HARD_STOP, 5)
        await world.sleep(5)
        assert (await world.parts.operator.resume("test", "test")).ok
        await world.sleep(60)
        assert unjournaled == []
        amends = sum(isinstance(each.command, Amend) for each in world.venue.sent)
        assert amends > 20
        return len(world.venue.sent)

    assert run_world(script, path) > 100


def test_an_order_withdrawn_in_a_daemon_never_reaches_the_venue(path: Path) -> None:
    """The disk hangs while orders wait for it, an operator pauses: nothing is sent when the disk is back."""

    async def script(world: World) -> None:
        await world.trade()
        world.connection.slow(400_000_000)
        waiting: list[str] = []

        def is_waiting() -> bool:
            waiting.extend(world.parts.sender._unsent)
            return bool(waiting)

        await world.until(is_waiting, 60, every_s=0.001)
        await world.parts.operator.pause("test", "test")
        await world.sleep(5)
        sent = {each.command.client_id for each in world.venue.sent}
        withdrawn = [client_id for client_id in waiting if client_id not in sent]
        assert withdrawn
        assert not world.state.orders.live
        assert world.venue.resting() == []
        with world.journal() as journal:
            for client_id in withdrawn:
                history = journal.order(client_id)
                assert history is not None
                assert history.order.status is OrderStatus.CANCELLED
                assert history.order.reason == "never_sent"
                assert history.order.settled

    run_world(script, path)


def test_a_hung_journal_stops_new_orders_but_no_cancel(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        hung_ns = world.now_ns
        world.connection.hangs = True
        await world.until(lambda: world.guard is GuardState.SOFT_PAUSE, 10)
        assert "journal_slow" in world.parts.status().reasons
        await world.until(lambda: not world.venue.resting(), 1)
        # What was durable before the disk hung may still have gone out; nothing else.
        for each in world.venue.increasing_since(hung_ns):
            revision = each.command.revision if isinstance(each.command, Amend) else 0
            assert (each.command.client_id, revision) in world.connection.intents
        await world.crash()

    run_world(script, path)


def test_without_intents_the_controller_sends_no_order(path: Path) -> None:
    """The rows of a step could not be handed over, and nobody has noticed yet: its orders stay here."""

    async def script(world: World) -> None:
        await world.trade()

        def refuse(state: State, event: Event, step: Step) -> int:
            raise JournalFailed("closing")

        world.parts.recorder.record = refuse
        failed_ns = world.now_ns
        await world.sleep(20)
        assert world.guard is GuardState.RUNNING
        assert world.parts.sender.refused > 3
        assert world.venue.increasing_since(failed_ns + 5_000_000) == []

    run_world(script, path)


def test_a_refused_order_frees_its_reservation_when_the_journal_is_gone(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        world.connection.fails = True
        await world.until(lambda: world.guard is GuardState.HARD_STOP, 10)
        await world.sleep(15)
        assert not world.state.orders.live
        assert world.state.orders.reserved_buy_lots == world.state.orders.reserved_sell_lots == 0

    run_world(script, path)
