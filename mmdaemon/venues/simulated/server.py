"""The simulated venue as a process of its own: it outlives whoever trades there, and keeps its own record.

    socket ──► client ──► SimulatedVenue ──► outbox ──► [ledger committed] ──► socket

One account for the life of the process. It trades on while nobody is connected: orders rest and fill, the dead man's
hand lets go, and what was said on the private stream meanwhile is said to nobody; it is to be had by reading, as
anywhere. A process that is started anew has a new account.

  * One client at a time; another is refused by name. A killed one leaves at once (the kernel closes its socket), and a
    newcomer waits a moment for that; one that is stopped or hangs is not heard, and loses its place after 10 s.
  * Who comes to kill is let in beside it at once, as an exchange lets in a second session with the same key: it may
    cancel and read, nothing else, and is told answers alone.
  * A request goes on with the venue's latency whatever becomes of who sent it. One that was sent longer ago than the
    window (it lay in a socket while somebody was stopped) is refused: what `in_flight_floor_s` promises.
  * Whatever happened is committed to the ledger before any of it is told, once a turn of the loop.
  * A client that does not read is cut off when 32 MiB wait for it.
"""

import asyncio
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final, assert_never

import msgspec

from mmdaemon.clock import Clock
from mmdaemon.core.commands import Cancel, Command
from mmdaemon.core.events import Event, LinkChanged
from mmdaemon.core.types import NS, Instrument, Link
from mmdaemon.venues import messages
from mmdaemon.venues.base import VenueUnavailable
from mmdaemon.venues.messages import (
    ANSWER_MAX_BYTES,
    SILENCE_S,
    Answered,
    Ask,
    Beat,
    Failed,
    FromVenue,
    Hello,
    Malformed,
    Refused,
    Send,
    Subscribe,
    Told,
    VenueEvent,
    Welcome,
    What,
)
from mmdaemon.venues.simulated.answers import answer_to, expired
from mmdaemon.venues.simulated.ledger import Ledger
from mmdaemon.venues.simulated.venue import SimulatedVenue

Log = Callable[[str, Mapping[str, object]], None]
"""(event name, fields). Never on the hot path."""

BUFFER_MAX_BYTES: Final = 2 * ANSWER_MAX_BYTES
ASKED_MAX: Final = 64
"""Questions of one client at work at once."""
_HELLO_S: Final = 5.0
_PLACE_S: Final = 2.0
"""How long a newcomer waits for the one before it to be gone."""
_CHANGES: Final = frozenset({What.CANCEL_ALL, What.PROTECT, What.DEAD_MAN})
_NO_KILL: Final = frozenset({What.PROTECT, What.DEAD_MAN})
"""What somebody who came to kill may not ask: it would change what protects the position of who trades."""
KILLERS_MAX: Final = 4


class _Client:
    """One connection that was welcomed."""

    def __init__(self, number: int, pid: int, writer: asyncio.StreamWriter, *, kills: bool) -> None:
        self.number = number
        self.pid = pid
        self.writer = writer
        self.kills = kills
        self.outbox: list[bytes] = []
        self.subscribed = False
        self.asking: set[asyncio.Task[None]] = set()
        self.why = ""
        """Why it was cut off by us."""

    def cut(self, why: str) -> None:
        self.why = self.why or why
        self.writer.transport.abort()


class VenueServer:
    """Serves one `SimulatedVenue`, which it opens and closes."""

    def __init__(self, venue: SimulatedVenue, ledger: Ledger, account: str, clock: Clock, log: Log) -> None:
        self._venue, self._ledger, self._account, self._clock, self._log = venue, ledger, account, clock, log
        config = venue.config
        slowest_ns = round((config.request.base_s + config.request.jitter_s) * NS)
        self.window_ns = max(NS // 10, round(venue.in_flight_floor_s * NS) - slowest_ns)
        """How old a request may be when it comes in: with the way to the matching engine it is in time."""
        self._instrument: Instrument | None = None
        self._server: asyncio.Server | None = None
        self._client: _Client | None = None
        """Who trades."""
        self._killers: list[_Client] = []
        self._gone = asyncio.Event()
        self._serving: set[asyncio.Task[None]] = set()
        self._flush_is_due = self._is_closed = False
        self._links = {Link.PUBLIC: False, Link.PRIVATE: False}

    async def start(self, listener: socket.socket) -> None:
        """Open the market and listen. The socket is `unix_socket.listener_at`'s, and closed with this."""
        self._instrument = await self._venue.instrument()
        await self._venue.open(self._deliver)
        self._server = await asyncio.start_unix_server(self._accept, sock=listener)
        self._beat()

    async def close(self) -> None:
        """The end of the account. Who is connected is cut off; what was not told is in the record."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._server is not None:
            self._server.close()
            self._server = None
        for client in self._clients():
            client.cut("the venue ends")
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        self._ledger.keep(self._venue.truth())
        await self._venue.close()
        self._ledger.close(self._clock.wall_ns())

    # --- connections --------------------------------------------------------------------------------------------------

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer), name="venue.client")
        self._serving.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """What a task raised is a defect, or a record that cannot be written: whoever runs the loop must know."""
        self._serving.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            told = {"message": f"{task.get_name()} failed", "exception": error}
            asyncio.get_running_loop().call_exception_handler(told)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client: _Client | None = None
        why = "it went away"
        try:
            client = await self._welcome(reader, writer)
            while client is not None:
                async with asyncio.timeout(SILENCE_S):
                    request = await messages.read_request(reader)
                await self._take(client, request)
        except TimeoutError:
            why = f"silent for {SILENCE_S:g} s" if client else f"no greeting within {_HELLO_S:g} s"
        except Malformed as error:
            why = f"malformed: {error}"
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        except VenueUnavailable as error:
            why = str(error)
        finally:
            writer.transport.abort()
            if client is None:
                self._log("turned_away", {"why": why})
            else:
                self._part(client, client.why or why)
            with suppress(OSError):
                await writer.wait_closed()  # what it failed of is known here, and nobody else is to find it

    async def _welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> _Client | None:
        """Greet whoever came. None: refused, and told why."""
        async with asyncio.timeout(_HELLO_S):
            hello = await messages.read_request(reader)
        if not isinstance(hello, Hello):
            raise Malformed(f"a {type(hello).__name__} before any greeting")
        if hello.version != messages.VERSION:
            return await self._refuse(writer, f"you speak version {hello.version}, this venue {messages.VERSION}")
        why = await self._why_no_place(kills=hello.kills)
        if why:
            return await self._refuse(writer, why)
        number = self._ledger.connected(hello.pid, self._clock.wall_ns())
        client = _Client(number, hello.pid, writer, kills=hello.kills)
        if client.kills:
            self._killers.append(client)
        else:
            self._client = client
        assert self._instrument is not None
        told = {**self._venue.provenance, "venue": f"a process of its own, account {self._account}"}
        self._write(
            client,
            Welcome(messages.VERSION, self._venue.name, self._account, self._instrument, self._venue.can_amend, told),
        )
        self._log("connected", {"pid": hello.pid, "kills": hello.kills})
        return client

    async def _why_no_place(self, *, kills: bool) -> str:
        """Empty: there is one."""
        if kills:
            full = len(self._killers) >= KILLERS_MAX
            return f"{KILLERS_MAX} clients are connected to kill; look what became of them" if full else ""
        deadline = asyncio.get_running_loop().time() + _PLACE_S
        while (holder := self._client) is not None:
            self._gone.clear()
            try:
                async with asyncio.timeout_at(deadline):
                    await self._gone.wait()
            except TimeoutError:
                return f"process {holder.pid} is connected, and one client at a time is served; stop it first"
        return ""

    async def _refuse(self, writer: asyncio.StreamWriter, why: str) -> None:
        self._log("refused", {"why": why})
        writer.write(messages.frame(Refused(why)))
        async with asyncio.timeout(_HELLO_S):
            await writer.drain()
            writer.close()
            await writer.wait_closed()

    def _part(self, client: _Client, why: str) -> None:
        for task in client.asking:
            task.cancel()
        client.outbox.clear()
        if client.kills:
            self._killers.remove(client)
        else:
            self._client = None
            self._gone.set()
        self._ledger.disconnected(client.number, self._clock.wall_ns(), why)
        self._due()
        self._log("disconnected", {"pid": client.pid, "why": why})

    def _beat(self) -> None:
        if self._server is None:
            return
        for client in self._clients():
            self._say(client, Beat())
        self._clock.call_at(self._clock.mono_ns() + round(messages.BEAT_S * NS), self._beat)

    # --- to the client ------------------------------------------------------------------------------------------------

    def _deliver(self, event: Event) -> None:
        """What the venue tells its account. To nobody, if nobody is there; the record has it all the same."""
        if isinstance(event, LinkChanged):
            self._links[event.link] = event.up
        client = self._client
        if client is not None and client.subscribed and isinstance(event, VenueEvent):
            self._say(client, Told(event))
        elif not isinstance(event, messages.MARKET):
            self._due()

    def _clients(self) -> list[_Client]:
        return [*([self._client] if self._client else ()), *self._killers]

    def _say(self, client: _Client, message: FromVenue) -> None:
        client.outbox.append(messages.frame(message))
        self._due()

    def _due(self) -> None:
        if not self._flush_is_due:
            self._flush_is_due = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        """Commit, then tell. What raises here goes to the loop's exception handler, and nothing was told."""
        self._flush_is_due = False
        if self._server is None:
            return
        self._ledger.keep(self._venue.truth())
        self._ledger.commit()
        for client in self._clients():
            frames, client.outbox = client.outbox, []
            if not frames or client.writer.transport.is_closing():
                continue
            if client.writer.transport.get_write_buffer_size() > BUFFER_MAX_BYTES:
                client.cut(f"it does not read: {BUFFER_MAX_BYTES:,} bytes wait for it")
                continue
            client.writer.write(b"".join(frames))

    def _write(self, client: _Client, message: FromVenue) -> None:
        """Past the outbox: what says nothing of the account."""
        if not client.writer.transport.is_closing():
            client.writer.write(messages.frame(message))

    # --- from the client ----------------------------------------------------------------------------------------------

    async def _take(self, client: _Client, request: messages.FromClient) -> None:
        if client.kills and not _is_of_a_kill(request):
            raise Malformed("who comes to kill cancels and reads, and nothing else")
        match request:
            case Beat():
                pass
            case Subscribe():
                client.subscribed = not client.kills
                for link, up in self._links.items():
                    if up and client.subscribed:
                        self._say(client, Told(LinkChanged(0, 0, None, link, True)))
            case Send(sent_ts_ns=sent_ts_ns, command=command):
                await self._command(client, sent_ts_ns, command)
            case Ask():
                if request.what in _CHANGES:
                    self._ledger.received_other(client.number, self._clock.wall_ns(), request.what)
                if len(client.asking) >= ASKED_MAX:
                    self._say(client, Failed(request.number, f"{ASKED_MAX} questions are at work already"))
                    return
                task = asyncio.get_running_loop().create_task(self._answer(client, request), name=request.what)
                client.asking.add(task)
                task.add_done_callback(client.asking.discard)
                task.add_done_callback(self._ended)
            case Hello():
                raise Malformed("a second greeting")
            case _:
                assert_never(request)

    async def _command(self, client: _Client, sent_ts_ns: int, command: Command) -> None:
        now = self._clock.wall_ns()
        late = now - sent_ts_ns > self.window_ns
        self._ledger.received(client.number, now, sent_ts_ns, command, "expired" if late else "")
        self._due()
        if late:
            if client.subscribed:
                self._say(client, Told(expired(command, now)))
            return
        await self._venue.send(command)

    async def _answer(self, client: _Client, ask: Ask) -> None:
        try:
            result = await answer_to(self._venue, ask)
        except VenueUnavailable as error:
            answer: FromVenue = Failed(ask.number, str(error))
        except Malformed as error:
            client.cut(f"malformed: {error}")
            return
        else:
            packed = messages.encode(result)
            answer = Answered(ask.number, msgspec.Raw(packed))
            if len(packed) + 64 > ANSWER_MAX_BYTES:
                answer = Failed(ask.number, f"the answer has {len(packed):,} bytes, more than a frame takes")
        if client in self._clients():
            self._say(client, answer)


def _is_of_a_kill(request: messages.FromClient) -> bool:
    if isinstance(request, Send):
        return isinstance(request.command, Cancel)
    return not isinstance(request, Ask) or request.what not in _NO_KILL
