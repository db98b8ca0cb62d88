"""A venue process's inside in the test's own loop: server, record and socket, over a market made by hand.

Real time, because sockets are: nothing here is asserted of wall time. Requests take 5 ms, answers 5, the stream 10.
"""

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, TypeVar

from mmdaemon.clock import RealClock
from mmdaemon.core.commands import Cancel, Place
from mmdaemon.core.events import Event, Fill, LinkChanged, OrderUpdate, RequestFailed
from mmdaemon.core.types import Purpose, Side
from mmdaemon.unix_socket import listener_at
from mmdaemon.venues import messages
from mmdaemon.venues.messages import FromClient, FromVenue, Hello, Subscribe
from mmdaemon.venues.remote import RemoteVenue
from mmdaemon.venues.simulated.config import SimulatedConfig
from mmdaemon.venues.simulated.latency import Delay
from mmdaemon.venues.simulated.ledger import Ledger
from mmdaemon.venues.simulated.server import VenueServer
from mmdaemon.venues.simulated.venue import SimulatedVenue
from tests.venues.simulated.test_venue import Market, book, ended, trade

T = TypeVar("T")
PATIENCE_S = 20.0
PID = 4_242

PRINTS = Market(book(0), *(trade(at / 20, 995, 50, Side.SELL) for at in range(1, 4_000)), ended(3_600))
"""Ten lots at each of 999, 998, 997 and 1,001.. and a print at 995 every 50 ms: a bid above it fills soon, one below
rests."""


async def until(holds: Callable[[], object]) -> None:
    """Patience, not a measurement."""
    async with asyncio.timeout(PATIENCE_S):
        while not holds():  # noqa: ASYNC110 - what is waited for has no event of its own
            await asyncio.sleep(0.002)


def place(client_id: str, px: int = 990, qty: int = 5, side: Side = Side.BUY) -> Place:
    return Place(client_id, side, px, qty, Purpose.QUOTE, 0, post_only=True, reduce_only=False)


def cancel(client_id: str) -> Cancel:
    return Cancel(client_id, risk=False)


def framed(message: object) -> bytes:
    """A frame of what need not be a message."""
    body = messages.encode(message)
    return len(body).to_bytes(4, "big") + body


class Site:
    """Where a venue process would be."""

    def __init__(self, folder: Path, market: Market = PRINTS, **settings: Any) -> None:
        self.path = folder / "venue.sock"
        self.record = folder / "venue.sqlite"
        self.clock = RealClock(asyncio.get_running_loop())
        latency: dict[str, Any] = {"request": Delay(0.005), "response": Delay(0.005), "stream": Delay(0.01)}
        self.config = SimulatedConfig(**{**latency, **settings})
        self.market = market
        self.logged: list[tuple[str, Mapping[str, object]]] = []
        self.venue: SimulatedVenue
        self.server: VenueServer

    def log(self, name: str, fields: Mapping[str, object]) -> None:
        self.logged.append((name, fields))

    def said(self, name: str) -> list[object]:
        """Why, of each line of that name."""
        return [fields.get("why") for line, fields in self.logged if line == name]

    async def start(self, account: str = "a1") -> None:
        self.venue = SimulatedVenue(self.market, self.clock, self.config)
        instrument = await self.venue.instrument()
        ledger = Ledger(self.record, account, instrument, self.config.start_e10, self.clock.wall_ns())
        self.server = VenueServer(self.venue, ledger, account, self.clock, self.log)
        await self.server.start(listener_at(self.path))

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """From the record, by a connection of its own: what is committed."""
        with closing(sqlite3.connect(self.record)) as db:
            return db.execute(query, values).fetchall()


@asynccontextmanager
async def served(folder: Path, market: Market = PRINTS, **settings: Any) -> AsyncGenerator[Site, None]:
    site = Site(folder, market, **settings)
    await site.start()
    try:
        yield site
    finally:
        await site.server.close()


class Client:
    """A `RemoteVenue` and what it delivered."""

    def __init__(self, path: Path, clock: RealClock, timeout_s: float = 5.0) -> None:
        self.venue = RemoteVenue(path, clock, timeout_s)
        self.clock = clock
        self.seen: list[Event] = []

    def of(self, kind: type[T]) -> list[T]:
        return [event for event in self.seen if isinstance(event, kind)]

    def links(self) -> list[tuple[str, bool]]:
        return [(event.link, event.up) for event in self.of(LinkChanged)]

    def told(self, client_id: str) -> list[str]:
        """Each word on one order."""
        return [
            e.status.value if isinstance(e, OrderUpdate) else f"{e.request}:{e.reason}"
            for e in self.seen
            if isinstance(e, OrderUpdate | RequestFailed) and e.client_id == client_id
        ]

    async def until_told(self, client_id: str, word: str) -> None:
        await until(lambda: word in self.told(client_id))

    async def until_up(self, times: int = 1) -> None:
        await until(lambda: self.links().count(("private", True)) >= times)

    async def until_filled(self, client_id: str) -> Fill:
        await until(lambda: [fill for fill in self.of(Fill) if fill.client_id == client_id])
        return next(fill for fill in self.of(Fill) if fill.client_id == client_id)


@asynccontextmanager
async def connected(path: Path, timeout_s: float = 5.0) -> AsyncGenerator[Client, None]:
    """Open, with the private link up."""
    client = Client(path, RealClock(asyncio.get_running_loop()), timeout_s)
    await client.venue.open(client.seen.append)
    await client.until_up()
    try:
        yield client
    finally:
        await client.venue.close()


class Raw:
    """A client that speaks for itself: whatever bytes a test wants."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def say(self, *said: FromClient) -> None:
        self.writer.write(b"".join(messages.frame(each) for each in said))

    async def hear(self, kind: type[T]) -> T:
        """The next message of a kind; others are passed over."""
        async with asyncio.timeout(PATIENCE_S):
            while not isinstance(heard := await messages.read_answer(self.reader), kind):
                pass
            return heard

    async def is_cut_off(self) -> bool:
        """Whether the other side ended it, sooner or later."""
        async with asyncio.timeout(PATIENCE_S):
            try:
                while await self.reader.read(65_536):
                    pass
            except ConnectionError:
                pass
        return True


@asynccontextmanager
async def raw(path: Path, *said: FromClient) -> AsyncGenerator[Raw, None]:
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        client = Raw(reader, writer)
        client.say(*said)
        yield client
    finally:
        writer.transport.abort()


GREETING = (Hello(messages.VERSION, PID), Subscribe())


@asynccontextmanager
async def acting(path: Path, *answers: FromVenue | bytes) -> AsyncGenerator[list[FromClient], None]:
    """A venue that says the first of these once greeted and the others once subscribed to, and then only listens.
    Yields all it heard."""
    heard: list[FromClient] = []
    tasks: set[asyncio.Task[None]] = set()

    async def act(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            heard.append(await messages.read_request(reader))
            for answer in answers[:1]:
                writer.write(answer if isinstance(answer, bytes) else messages.frame(answer))
            while True:
                heard.append(await messages.read_request(reader))
                for answer in answers[1:] if isinstance(heard[-1], Subscribe) else ():
                    writer.write(answer if isinstance(answer, bytes) else messages.frame(answer))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.transport.abort()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(act(reader, writer))
        tasks.add(task)

    server = await asyncio.start_unix_server(begin, path)
    try:
        yield heard
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
