"""A venue in another process (`mmdaemon venue --listen`), behind a unix socket: the `Venue` that outlives the daemon.

It behaves as a connection to an exchange does. A connection that is lost is told as both links down, and made again by
itself; what was said meanwhile is to be had by reading. A command that was not answered, because the connection was
lost or the time-out came first, is `OrderUpdate(UNKNOWN)`: it may have arrived. A read that was not answered raises.

Times. Events are stamped here, on receipt, with our clocks; `venue_ts_ns` is the venue's. Nothing relies on the two
processes having one monotonic clock. They have one UTC, being on one host: commands carry it, so that the venue can
refuse what lay in a socket for too long (`in_flight_floor_s`).
"""

import asyncio
import os
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from mmdaemon.clock import Clock, Timer
from mmdaemon.core.commands import Command
from mmdaemon.core.events import (
    AccountSnapshot,
    BarClosed,
    Bill,
    FeeSchedule,
    Fill,
    FundingRate,
    LinkChanged,
    MarkPrice,
    OrderUpdate,
    RequestFailed,
)
from mmdaemon.core.types import NS, Instrument, Link, OrderStatus
from mmdaemon.unix_socket import SocketRefused, address_of
from mmdaemon.venues import messages
from mmdaemon.venues.arrival import received
from mmdaemon.venues.base import Absent, AccountFacts, Cursor, Deliver, OrderReport, PositionStop, VenueUnavailable
from mmdaemon.venues.messages import (
    SILENCE_S,
    Answered,
    Ask,
    Beat,
    Failed,
    FromClient,
    Hello,
    Malformed,
    Refused,
    Send,
    Subscribe,
    Told,
    Welcome,
    What,
)
from mmdaemon.venues.outcomes import is_outcome_of

T = TypeVar("T")

BACK_OFF_MIN_S: Final = 0.05
BACK_OFF_MAX_S: Final = 2.0
_LINKS: Final = (Link.PUBLIC, Link.PRIVATE)


class _NotReached(Exception):
    """No connection could be made; the message says why."""


class _Sent:
    """A command that is not answered yet."""

    __slots__ = ("command", "timer")

    def __init__(self, command: Command, timer: Timer) -> None:
        self.command = command
        self.timer = timer


class RemoteVenue:
    """See `venues.base.Venue`. The first call that needs the venue connects; until then it knows no more than a path.

    `name`, `can_amend` and `provenance` are the venue's own once `instrument` has returned. One event loop uses it.
    """

    in_flight_floor_s = 1.0

    def __init__(self, path: Path, clock: Clock, request_timeout_s: float = 5.0, *, kills: bool = False) -> None:
        """`kills`: to cancel and to read, beside whoever is connected; no events, and no outcome of a cancel."""
        self.path = path
        self._kills = kills
        self._clock = clock
        self._timeout_s = request_timeout_s
        self._welcome: Welcome | None = None
        """Of the last connection."""
        self._writer: asyncio.StreamWriter | None = None
        """None while there is no connection."""
        self._why = "not connected yet"
        self._is_up = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._deliver: Deliver | None = None
        self._links_up: set[Link] = set()
        self._closed = False
        self._numbers = 0
        self._asked: dict[int, asyncio.Future[bytes]] = {}
        self._sent: dict[str, list[_Sent]] = {}

    @property
    def name(self) -> str:
        return self._welcome.name if self._welcome else "remote"

    @property
    def why(self) -> str:
        """Why there is no connection now; empty while there is one."""
        return "" if self._writer is not None else self._why

    @property
    def can_amend(self) -> bool:
        return self._welcome is not None and self._welcome.can_amend

    @property
    def provenance(self) -> dict[str, str]:
        return dict(self._welcome.provenance) if self._welcome else {}

    # --- life ---------------------------------------------------------------------------------------------------------

    async def instrument(self) -> Instrument:
        """Raises VenueUnavailable: nobody welcomed us within the time-out; says why."""
        return (await self._reached()).instrument

    async def open(self, deliver: Deliver) -> None:
        if self._deliver is not None:
            raise RuntimeError("a venue is opened once; make a new one")
        await self._reached()
        self._deliver = deliver
        self._write(Subscribe())

    async def close(self) -> None:
        """Nothing is delivered any more, and nothing can be asked. What rests stays the venue's affair."""
        self._closed = True
        self._why = "the venue was closed"
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _reached(self) -> Welcome:
        if self._closed:
            raise VenueUnavailable(self._why)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._keep_connected(), name="venue.connection")
            self._task.add_done_callback(self._ended)
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._is_up.wait()
        except TimeoutError:
            raise VenueUnavailable(self._why) from None
        assert self._welcome is not None
        return self._welcome

    def _ended(self, task: asyncio.Task[None]) -> None:
        """It ends by being cancelled. Anything else is a defect, and the loop's owner must hear of it."""
        if not task.cancelled() and (error := task.exception()) is not None:
            told = {"message": "the connection to the venue failed", "exception": error}
            asyncio.get_running_loop().call_exception_handler(told)

    # --- the connection -----------------------------------------------------------------------------------------------

    async def _keep_connected(self) -> None:
        back_off_s = BACK_OFF_MIN_S
        while True:
            try:
                reader, writer = await self._connect()
            except _NotReached as error:
                self._why = str(error)
                await asyncio.sleep(back_off_s)
                back_off_s = min(2 * back_off_s, BACK_OFF_MAX_S)
                continue
            begun_ns = self._clock.mono_ns()
            self._writer = writer
            self._is_up.set()
            if self._deliver is not None:
                self._write(Subscribe())
            self._beat(writer)
            try:
                await self._listen(reader)
            except TimeoutError:
                self._why = f"the venue at {self.path} has been silent for {SILENCE_S:g} s"
            except Malformed as error:
                self._why = f"the venue at {self.path} said what this version cannot read: {error}"
            except (asyncio.IncompleteReadError, ConnectionError):
                self._why = f"the venue at {self.path} closed the connection"
            finally:
                self._lost(writer)
            with suppress(OSError):
                await writer.wait_closed()  # what it failed of is known here, and nobody else is to find it
            # One that welcomes and is gone at once, again and again, is not asked faster for it.
            lasted = self._clock.mono_ns() - begun_ns > BACK_OFF_MAX_S * NS
            back_off_s = BACK_OFF_MIN_S if lasted else min(2 * back_off_s, BACK_OFF_MAX_S)
            await asyncio.sleep(back_off_s)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        writer: asyncio.StreamWriter | None = None
        welcomed = False
        try:
            async with asyncio.timeout(self._timeout_s):
                with address_of(self.path) as address:
                    reader, writer = await asyncio.open_unix_connection(address)
                writer.write(messages.frame(Hello(messages.VERSION, os.getpid(), self._kills)))
                answer = await messages.read_answer(reader)
            if isinstance(answer, Refused):
                raise _NotReached(f"the venue at {self.path} refused: {answer.why}")
            if not isinstance(answer, Welcome) or answer.version != messages.VERSION:
                raise _NotReached(f"what listens at {self.path} is no venue of this version")
            self._welcome = answer
            welcomed = True
        except TimeoutError:
            raise _NotReached(f"the venue at {self.path} did not answer within {self._timeout_s:g} s") from None
        except Malformed as error:
            raise _NotReached(f"what listens at {self.path} is no venue of this version: {error}") from None
        except (asyncio.IncompleteReadError, ConnectionResetError, BrokenPipeError):
            raise _NotReached(f"the venue at {self.path} closed the connection") from None
        except (FileNotFoundError, ConnectionRefusedError):
            raise _NotReached(
                f"nobody listens at {self.path}; start one with `mmdaemon venue --listen {self.path}`"
            ) from None
        except SocketRefused as refused:
            raise _NotReached(str(refused)) from None
        except OSError as error:
            raise _NotReached(f"{self.path}: {error.strerror or error}") from None
        else:
            return reader, writer
        finally:
            if writer is not None and not welcomed:
                writer.transport.abort()

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        """Until the connection ends, one way or another."""
        while True:
            async with asyncio.timeout(SILENCE_S):
                message = await messages.read_answer(reader)
            match message:
                case Told(event=event):
                    self._told(received(self._clock, event))
                case Answered(number=number, result=result):
                    if (waiting := self._asked.get(number)) is not None and not waiting.done():
                        waiting.set_result(bytes(result))
                case Failed(number=number, why=why):
                    if (waiting := self._asked.get(number)) is not None and not waiting.done():
                        waiting.set_exception(VenueUnavailable(why))
                case Beat():
                    pass
                case Refused() | Welcome():
                    raise Malformed(f"a {type(message).__name__} in the middle of a conversation")

    def _told(self, event: messages.VenueEvent) -> None:
        if isinstance(event, OrderUpdate | RequestFailed):
            self._settle(event)
        elif isinstance(event, LinkChanged):
            (self._links_up.add if event.up else self._links_up.discard)(event.link)
        self._tell(event)

    def _tell(self, event: messages.VenueEvent) -> None:
        if self._deliver is not None and not self._closed:
            self._deliver(event)

    def _beat(self, writer: asyncio.StreamWriter) -> None:
        if self._writer is writer:
            self._write(Beat())
            self._clock.call_at(self._clock.mono_ns() + round(messages.BEAT_S * NS), self._beat, writer)

    def _write(self, message: FromClient) -> None:
        # Closed by the other side, and not listened to since (this process was stopped): uvloop would raise. That the
        # connection is lost is found by who listens, and what was sent or asked meanwhile is given up with it.
        if self._writer is not None and not self._writer.transport.is_closing():
            self._writer.write(messages.frame(message))

    def _lost(self, writer: asyncio.StreamWriter) -> None:
        """The connection is gone: nothing that was asked or sent over it will be answered."""
        self._writer = None
        self._is_up.clear()
        writer.transport.abort()
        for waiting in self._asked.values():
            if not waiting.done():
                waiting.set_exception(VenueUnavailable(self._why))
        for link in _LINKS:
            if link in self._links_up:
                self._links_up.discard(link)
                self._tell(received(self._clock, LinkChanged(0, 0, None, link, False)))
        for client_id, unanswered in list(self._sent.items()):
            for sent in unanswered:
                self._give_up(client_id, sent, "disconnected")

    # --- commands -----------------------------------------------------------------------------------------------------

    async def send(self, command: Command) -> None:
        """Hand over and return at once. The outcome comes as an event, always, unless this is closed before it does.

        Raises:
            VenueUnavailable: it is not open, so nothing was sent.
        """
        if self._deliver is None or self._closed:
            raise VenueUnavailable(self._why if self._closed else "the venue is not open yet")
        now = self._clock.mono_ns()
        reason = "timeout" if self._writer is not None else "disconnected"
        gives_up_ns = now + (round(self._timeout_s * NS) if self._writer is not None else 0)
        unanswered = self._sent.setdefault(command.client_id, [])
        sent = _Sent(command, self._clock.call_at(gives_up_ns, self._time_out, command, reason))
        unanswered.append(sent)
        self._write(Send(self._clock.wall_ns(), command))

    def _time_out(self, command: Command, reason: str) -> None:
        for sent in self._sent.get(command.client_id, ()):
            if sent.command is command:
                self._give_up(command.client_id, sent, reason)
                return

    def _give_up(self, client_id: str, sent: _Sent, reason: str) -> None:
        self._forget(client_id, sent)
        unknown = OrderUpdate(0, 0, None, client_id, OrderStatus.UNKNOWN, None, None, None, None, reason)
        self._tell(received(self._clock, unknown))

    def _settle(self, event: OrderUpdate | RequestFailed) -> None:
        for sent in self._sent.get(event.client_id, [])[:]:
            if is_outcome_of(sent.command, event):
                self._forget(event.client_id, sent)

    def _forget(self, client_id: str, sent: _Sent) -> None:
        sent.timer.cancel()
        unanswered = [each for each in self._sent.get(client_id, ()) if each is not sent]
        if unanswered:
            self._sent[client_id] = unanswered
        else:
            self._sent.pop(client_id, None)

    # --- questions ----------------------------------------------------------------------------------------------------

    async def _ask(self, decoder: msgspec.msgpack.Decoder[T], what: What, argument: str | int | None = None) -> T:
        """Raises VenueUnavailable: no connection, no answer in time, or the venue could not answer."""
        if self._writer is None or self._deliver is None:
            raise VenueUnavailable(f"{what}: {self._why if self._writer is None else 'the venue is not open yet'}")
        self._numbers = number = self._numbers + 1
        waiting: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._asked[number] = waiting
        self._write(Ask(number, what, argument))
        try:
            async with asyncio.timeout(self._timeout_s):
                return decoder.decode(await waiting)
        except TimeoutError:
            raise VenueUnavailable(f"{what}: no answer within {self._timeout_s:g} s") from None
        except (msgspec.MsgspecError, UnicodeError) as error:
            raise VenueUnavailable(f"{what}: an answer that this version cannot read: {error}") from None
        finally:
            del self._asked[number]

    async def cancel_all(self) -> None:
        await self._ask(messages.DONE_RESULT, What.CANCEL_ALL)

    async def protect(self, stop: PositionStop | None) -> None:
        await self._ask(messages.DONE_RESULT, What.PROTECT, None if stop is None else stop.trigger_px_ticks)

    async def dead_man(self, seconds: int) -> bool:
        return await self._ask(messages.DONE_RESULT, What.DEAD_MAN, seconds)

    async def order(self, client_id: str) -> OrderReport | Absent:
        return await self._ask(messages.ORDER_RESULT, What.ORDER, client_id) or Absent(client_id)

    async def open_orders(self) -> list[OrderReport]:
        return await self._ask(messages.ORDERS_RESULT, What.OPEN_ORDERS)

    async def fills(self, since: Cursor) -> list[Fill]:
        found = await self._ask(messages.FILLS_RESULT, What.FILLS, since.venue_ts_ns)
        return [received(self._clock, fill) for fill in found]

    async def bills(self, since: Cursor) -> list[Bill]:
        found = await self._ask(messages.BILLS_RESULT, What.BILLS, since.venue_ts_ns)
        return [received(self._clock, bill) for bill in found]

    async def snapshot(self) -> AccountSnapshot:
        return received(self._clock, await self._ask(messages.SNAPSHOT_RESULT, What.SNAPSHOT))

    async def facts(self) -> AccountFacts:
        return await self._ask(messages.FACTS_RESULT, What.FACTS)

    async def fees(self) -> FeeSchedule:
        return received(self._clock, await self._ask(messages.FEES_RESULT, What.FEES))

    async def candles(self, n: int) -> list[BarClosed]:
        found = await self._ask(messages.CANDLES_RESULT, What.CANDLES, n)
        return [received(self._clock, bar) for bar in found]

    async def funding(self) -> FundingRate:
        return received(self._clock, await self._ask(messages.FUNDING_RESULT, What.FUNDING))

    async def mark(self) -> MarkPrice:
        return received(self._clock, await self._ask(messages.MARK_RESULT, What.MARK))
