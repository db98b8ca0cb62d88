"""The two ways from a venue to a decision and back: ours, as the daemon is wired, and plain ccxt.pro.

Both note the same: the venue time of the newest book that a decision saw, and when its first line was reached.
"""

# pyright: reportPrivateUsage=false

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Protocol, cast

import msgspec

from mmdaemon.clock import RealClock, since_boot_ns
from mmdaemon.core import engine
from mmdaemon.core.commands import Place
from mmdaemon.core.decision import Decision, DecisionInputs
from mmdaemon.core.engine import NOTHING, Step, Strategy
from mmdaemon.core.events import BookUpdate, Event, OrderUpdate
from mmdaemon.core.params import Params
from mmdaemon.core.quotes import decide
from mmdaemon.core.state import Dirty, State
from mmdaemon.core.types import NS, GuardState, OrderStatus, Purpose, Side
from mmdaemon.daemon.assertions import Assertions
from mmdaemon.daemon.breaks import Ledger
from mmdaemon.daemon.gate import Gate
from mmdaemon.daemon.inbox import Inbox
from mmdaemon.daemon.quoting import QuotingController
from mmdaemon.daemon.record import Recorder
from mmdaemon.daemon.sender import Sender
from mmdaemon.journal.connection import Durability, ThreadConnection
from mmdaemon.journal.rows import DecisionChain
from mmdaemon.journal.writer import JournalWriter
from mmdaemon.secret import Credentials, Secret
from mmdaemon.venues.bitget.endpoints import CLASSIC_PLACE, CLASSIC_PLACE_BATCH
from mmdaemon.venues.budget import Budget
from mmdaemon.venues.ccxt_client import CcxtClient
from mmdaemon.venues.ccxt_config import CcxtConfig
from mmdaemon.venues.ccxt_pro import CcxtVenue
from tests.core.build import Desk, params
from tests.journal.samples import begin, state_dir

AWAY_TICKS: Final = 1_000
QTY_LOTS: Final = 10
PLENTY: Final = 1_000_000
SYMBOL: Final = "BTC/USDT:USDT"


class Way(Protocol):
    """One side of the comparison. `orders`: an order for each book that a decision sees."""

    orders: bool
    seen: list[tuple[int, int, int]]
    """(venue time of the newest book in ms, monotonic ns, CPU ns of this process), a decision each."""

    def fresh(self) -> None:
        """A snapshot follows."""
        ...

    def living(self) -> None:
        """Raises what it ended of."""
        ...

    async def place(self, client_id: str) -> None:
        """An order, and its answer."""
        ...


def config(url: str) -> CcxtConfig:
    key = Credentials(Secret("key"), Secret("secret-of-nobody"), Secret("passphrase"))
    return CcxtConfig(account="classic", environment="demo", credentials=key, emulator_url=url)


class PlainCcxt:
    """`watch_order_book` in a loop; `create_order` awaited in it. Its rate limiter is off, as ours is."""

    def __init__(self, url: str, clock: RealClock) -> None:
        self._ex: Any = CcxtClient(config(url), clock).exchange  # for its options; nothing is tapped
        vars(self._ex).pop("client")
        self.orders = False
        self.seen: list[tuple[int, int, int]] = []
        self._watching: asyncio.Task[None] | None = None

    async def open(self) -> None:
        await self._ex.load_markets()
        self._watching = asyncio.get_running_loop().create_task(self._watch())

    def fresh(self) -> None:
        self._ex.orderbooks.pop(SYMBOL, None)  # it would merge the snapshot into the old book
        self.seen = []

    async def _watch(self) -> None:
        while True:
            book = await self._ex.watch_order_book(SYMBOL)
            at_ns = time.monotonic_ns()
            self.seen.append((book["timestamp"], at_ns, time.process_time_ns()))
            if self.orders:
                px = book["bids"][0][0] - AWAY_TICKS / 10
                given = {"clientOrderId": f"b{book['timestamp']}", "postOnly": True}
                await self._ex.create_order(SYMBOL, "limit", "buy", QTY_LOTS / 10_000, px, given)

    async def place(self, client_id: str) -> None:
        given = {"clientOrderId": client_id, "postOnly": True}
        await self._ex.create_order(SYMBOL, "limit", "buy", QTY_LOTS / 10_000, 64_000.0, given)

    def living(self) -> None:
        if self._watching is not None and self._watching.done():
            self._watching.result()

    async def close(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        await self._ex.close()


class _Unjournaled:
    """In place of recorder, journal and assertions: what is sent waits for no disk, and nothing is checked but by the
    venue."""

    def record(self, *_of: object) -> int:
        return 0

    def check(self, *_of: object) -> None: ...

    async def durable(self, _number: int) -> None: ...


class Behind:
    """Inbox, quoting controller and sender behind the open venue, up to the first line of `step`, and from there on
    what the round wants: nothing, or an order a book."""

    def __init__(
        self, venue: CcxtVenue, clock: RealClock, hears: list["Behind"], journal: JournalWriter | None
    ) -> None:
        self._hears = hears
        self.inbox = Inbox()
        self.orders = False
        self.seen: list[tuple[int, int, int]] = []
        self.desk = _desk()
        parameters, stub = self.desk.params, _Unjournaled()
        self._venue = venue
        self._is_whole = journal is not None
        self._answered: dict[str, asyncio.Future[None]] = {}
        recorder: Any = stub
        if journal is not None:
            chain, ledger = DecisionChain(1, b""), Ledger("abcd", 1, (), clock.mono_ns())
            recorder = Recorder(journal, parameters, chain, ledger)
        keeper: Any = journal or stub
        self._sender = Sender(venue, keeper, Gate(), self.inbox.post, clock)
        self._controller = QuotingController(
            self.desk.state, parameters, self.inbox, recorder, self._sender, self._stepped, _no_quotes
        )
        self._assertions = Assertions(self.desk.state, parameters)
        checks: Any = stub
        self._controller._assertions = checks
        self._tasks = [asyncio.create_task(run()) for run in (self._controller.run, self._sender.run)]

    def step(self, state: State, event: Event, params: Params, strategy: Strategy) -> Step:
        at_ns = time.monotonic_ns()
        if type(event) is not BookUpdate:
            return NOTHING
        ts_ms = (event.venue_ts_ns or 0) // 1_000_000
        self.seen.append((ts_ms, at_ns, time.process_time_ns()))
        if self._is_whole:
            state.dirty |= Dirty.COSTS  # a decision is due at every book
            result = engine_step(state, event, params, strategy)
            self._assertions.check(state, event, result)
        if not self.orders:
            return NOTHING
        return Step((self._order(f"b{ts_ms}", event.bids[0][0] - AWAY_TICKS),))

    @staticmethod
    def _order(client_id: str, px_ticks: int) -> Place:
        return Place(client_id, Side.BUY, px_ticks, QTY_LOTS, Purpose.QUOTE, 0, post_only=True, reduce_only=False)

    def _stepped(self, event: Event, _step: Step) -> None:
        if type(event) is OrderUpdate:
            assert event.status is OrderStatus.LIVE, event
            answered = self._answered.pop(event.client_id, None)
            if answered is not None and not answered.done():
                answered.set_result(None)

    def fresh(self) -> None:
        self._hears[0] = self
        self.seen = []
        if self._is_whole:  # what was missed of good health, so that what is decided is a ladder
            desk, end_ns = self.desk, since_boot_ns()
            desk.now_ns = max(desk.state.mono_ns, desk.now_ns)
            while desk.now_ns < end_ns:
                desk.now_ns = min(desk.now_ns + NS, end_ns)
                for event in (desk.health(), desk.mark(), desk.account(), desk.reconciled(), desk.book(), desk.timer()):
                    self._assertions.check(desk.state, event, engine_step(desk.state, event, desk.params, _no_quotes))
            assert desk.guard is GuardState.RUNNING, desk.reasons

    async def place(self, client_id: str) -> None:
        answered = self._answered[client_id] = asyncio.get_running_loop().create_future()
        await self._venue.send(self._order(client_id, 640_000))
        await answered

    def living(self) -> None:
        """Raises what ended one of its tasks."""
        for task in self._tasks:
            if task.done():
                task.result()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


engine_step: Final = engine.step


def _no_quotes(inputs: DecisionInputs, params: Params) -> Decision:
    """The real decision, at its price; its orders are the round's."""
    return msgspec.structs.replace(decide(inputs, params), quotes=())


def _desk() -> Desk:
    """A state that runs, whose time is the machine's."""
    desk = Desk(params(shadow=False), now_ns=since_boot_ns())
    desk.now_ns -= round(desk.params.guard.soft_clear_ns + 3e9)
    desk.wall_ns = time.time_ns() - since_boot_ns()
    desk.start()
    desk.state.orders = type(desk.state.orders)()  # none of the ladder that it began with
    return desk


@asynccontextmanager
async def wired(url: str, clock: RealClock, folder: Path) -> AsyncGenerator[tuple[Behind, Behind]]:
    """(lean, whole), both open at the same venue; the second has the journal in it."""
    venue = CcxtVenue(config(url), clock)
    state_folder = state_dir(folder)
    begin(state_folder)
    connection = ThreadConnection(state_folder.journal_path, Durability.POWER)
    await connection.open()
    journal = JournalWriter(connection, clock)
    writing = asyncio.create_task(journal.run())
    hears: list[Behind] = []
    lean, whole = Behind(venue, clock, hears, None), Behind(venue, clock, hears, journal)
    hears.append(lean)

    def step(state: State, event: Event, params: Params, strategy: Strategy = decide) -> Step:
        return hears[0].step(state, event, params, strategy)

    def deliver(event: Event) -> None:
        hears[0].inbox.post(event)

    engine.step = step
    try:
        await venue.open(deliver)
        # Its budget is 8 orders a second; here they are spent by the thousand.
        for endpoint in (CLASSIC_PLACE, CLASSIC_PLACE_BATCH):
            plenty = msgspec.structs.replace(endpoint, per_s=PLENTY, burst=PLENTY)
            venue.lanes._budgets[endpoint.path] = Budget(plenty, clock)
        yield lean, whole
    finally:
        engine.step = engine_step
        for behind in (lean, whole):
            await behind.close()
        await venue.close()
        await journal.close()
        await writing


@asynccontextmanager
async def plain_ccxt(url: str, clock: RealClock) -> AsyncGenerator[PlainCcxt]:
    plain = PlainCcxt(url, clock)
    try:
        await plain.open()
        yield plain
    finally:
        await plain.close()


class Bare(asyncio.Protocol):
    """A socket and a look at the time."""

    def __init__(self) -> None:
        self.orders = False
        self.seen: list[tuple[int, int, int]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.Transport", transport).write(
            b"GET /floor/public HTTP/1.1\r\nUpgrade: websocket\r\nsec-websocket-key: 0\r\n\r\n"
        )

    def data_received(self, data: bytes) -> None:
        at_ns = time.monotonic_ns()
        if (at := data.rfind(b'"ts":')) > 0:  # that of the last frame of them
            self.seen.append((int(data[at + 5 : -1]), at_ns, time.process_time_ns()))

    def fresh(self) -> None:
        self.seen = []

    def living(self) -> None: ...

    async def place(self, client_id: str) -> None:
        raise NotImplementedError(client_id)


@asynccontextmanager
async def bare(url: str) -> AsyncGenerator[Bare]:
    host, _, port = url.removeprefix("http://").partition(":")
    transport, protocol = await asyncio.get_running_loop().create_connection(Bare, host, int(port))
    try:
        yield protocol
    finally:
        transport.close()
