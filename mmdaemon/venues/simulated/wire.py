"""What lies between the daemon and the exchange: requests, answers, the private stream, reads, and their faults.

A request leaves, arrives after the request latency, is worked on, and its answer comes back after the response latency.
Fills and whatever else the account sees come on the private stream. Each of the three is first in, first out; only a
request that a fault makes late comes out of order.

  * The exchange works on its own timers. A client that gives a request up (`request_timeout_s`) gets
    `OrderUpdate(UNKNOWN, reason="timeout")`; the request goes on to arrive, and a later answer is not told.
  * Nothing is said twice: an answer that is lost is only to be had by asking. Where answers are bare (`bare_answers`)
    the stream says what they leave out.
  * A private gap loses what is on its way and what happens in it. Nothing is replayed.
  * A client that is gone (`hang_up`) un-sends nothing: its requests go on to arrive, and are answered to nobody.
"""

from asyncio import Future, get_running_loop
from collections.abc import Callable
from typing import Protocol, TypeVar

import msgspec

from mmdaemon.clock import Clock
from mmdaemon.core.commands import Cancel, Command, Place
from mmdaemon.core.events import Event, LinkChanged, OrderUpdate, RequestFailed
from mmdaemon.core.types import NS, Link, OrderStatus
from mmdaemon.venues.base import Deliver, VenueUnavailable
from mmdaemon.venues.simulated import rules
from mmdaemon.venues.simulated.config import SimulatedConfig
from mmdaemon.venues.simulated.exchange import Exchange
from mmdaemon.venues.simulated.faults import SPOILED, WINDOWS, Fate, FaultKind, FaultPlan
from mmdaemon.venues.simulated.latency import DelayDraws, Lane
from mmdaemon.venues.simulated.records import refused

T = TypeVar("T")
F = TypeVar("F", bound=msgspec.Struct)
Answer = OrderUpdate | RequestFailed | None
"""None: an acknowledgement that says nothing of the order."""
Asked = tuple[Command, int, int, bool, Fate]
"""A request on its way, the connection it was sent over, the monotonic time at which its sender gives up, whether it
will be answered, and what else becomes of it."""

MINUTE_NS = 60 * NS
LINKS = {FaultKind.PRIVATE_DOWN: Link.PRIVATE, FaultKind.PUBLIC_DOWN: Link.PUBLIC}
FREEZES = {FaultKind.BOOK_SILENT: False, FaultKind.BOOK_FROZEN: True}


class Market(Protocol):
    """What brings the market to the exchange: `feed.Feed` plays a source, paper's is live. The venue's time is its."""

    def advance(self) -> int:
        """Bring the exchange up to now. Returns the venue's now."""
        ...

    def arm(self) -> None:
        """The exchange may be due earlier than it was."""
        ...

    def venue_now_ns(self) -> int: ...
    def mono_of(self, venue_ns: int) -> int: ...
    def disconnect(self) -> None: ...
    def reconnect(self) -> None: ...
    def freeze_books(self, repeat: bool | None) -> None: ...
    def spoil_books(self, kind: FaultKind | None) -> None: ...
    def close(self) -> None: ...


class Wire:
    """One connection to one exchange. `deliver` gets private events, stamped; the feed has its own way there."""

    def __init__(
        self,
        exchange: Exchange,
        feed: Market,
        clock: Clock,
        config: SimulatedConfig,
        seed: int,
        faults: FaultPlan,
        deliver: Deliver,
    ) -> None:
        self._exchange, self._feed, self._clock, self._deliver, self._faults = exchange, feed, clock, deliver, faults
        self._request = DelayDraws(config.request, seed, "request")
        self._response = DelayDraws(config.response, seed, "response")
        self._stream = DelayDraws(config.stream, seed, "stream")
        self._read_out = DelayDraws(config.request, seed, "read_out")
        self._read_back = DelayDraws(config.response, seed, "read_back")
        self._says_little = config.bare_answers
        self._timeout_ns = round(config.request_timeout_s * NS)
        self._arrivals: Lane[Asked] = Lane(clock, self._arrive)
        self._answers: Lane[tuple[str, Answer, int]] = Lane(clock, self._answer)
        self._private: Lane[Event] = Lane(clock, self.tell)
        self._orders = rules.Bucket(config.orders_per_s, config.burst)
        self._cancels = rules.Bucket(config.cancels_per_s, config.burst)
        self._read_rate = rules.Bucket(config.reads_per_s, config.burst)
        self._sent = self._asked = self._streamed = 0
        self._ends_ns: dict[FaultKind, int] = {}
        """Windows that are open."""
        self._connection = 0
        """Which client it is: answers to the one before are not told to the next."""
        self._closed = False

    def hang_up(self) -> None:
        """The client is gone, and whatever was on its way to it is lost. What it sent stays on its way."""
        self._connection += 1
        self._answers.clear()
        self._private.clear()

    def close(self) -> None:
        self._closed = True
        self._arrivals.clear()
        self._answers.clear()
        self._private.clear()

    def say_up(self) -> None:
        """The streams are there, those that no fault took down meanwhile."""
        for kind, link in LINKS.items():
            if kind not in self._ends_ns:
                self.tell(LinkChanged(0, 0, None, link, True))

    # --- requests -----------------------------------------------------------------------------------------------------

    def send(self, command: Command) -> None:
        now = self._clock.mono_ns()
        deadline = now + self._timeout_ns
        self._sent += 1
        fate = self._faults.request(self._sent)
        arrives = now + self._request.next_ns()
        if not fate.arrives or FaultKind.REST_DOWN in self._ends_ns:
            self._give_up(deadline, command.client_id)
            return
        asked = self._connection
        answered = fate.answered and arrives + fate.late_ns < deadline
        if not answered:
            self._give_up(deadline, command.client_id)
        if fate.late_ns:
            self._clock.call_at(arrives + fate.late_ns, self._arrive, (command, asked, deadline, answered, fate))
        else:
            self._arrivals.put(arrives, (command, asked, deadline, answered, fate))

    def _arrive(self, asked: Asked) -> None:
        if self._closed:
            return
        command, connection, deadline, answered, fate = asked
        at = self._feed.advance()
        stopped = self._stopped(at, command, fate)
        answer = first = stopped or self._work_on(at, command)
        if fate.twice and stopped is None:
            answer = self._work_on(at, command)
        if answered and connection == self._connection:
            back = self._clock.mono_ns() + self._response.next_ns()
            if back >= deadline:
                self._give_up(deadline, command.client_id)
                return
            self._answers.put(back, (command.client_id, answer, deadline))
            if fate.first_ns and back + fate.first_ns < deadline:
                self._clock.call_at(back + fate.first_ns, self._answer_first, first, connection)

    def _stopped(self, at_ns: int, command: Command, fate: Fate) -> OrderUpdate | RequestFailed | None:
        """The refusal of a request that never reaches the engine: it is over the rate limit, or has that fate."""
        is_cancel = isinstance(command, Cancel)
        bucket = self._cancels if is_cancel else self._orders
        if FaultKind.RATE_STORM in self._ends_ns or not bucket.take(at_ns):
            reason = rules.RATE_LIMIT
        elif fate.refused and not is_cancel:
            reason = rules.REFUSED
        else:
            return None
        if self._exchange.on_limited is not None:
            self._exchange.on_limited(command)
        return refused(at_ns, command, reason)

    def _work_on(self, at_ns: int, command: Command) -> Answer:
        """What the exchange answers, or as little of it as it says where answers are bare."""
        answer = self._exchange.request(at_ns, command)
        if not self._says_little or isinstance(answer, RequestFailed) or answer.status is OrderStatus.REJECTED:
            return answer
        self.stream(answer)
        if not isinstance(command, Place):
            return None
        return OrderUpdate(0, 0, at_ns, command.client_id, OrderStatus.LIVE, None, None, None, None, "")

    def _answer(self, item: tuple[str, Answer, int]) -> None:
        client_id, answer, deadline = item
        if FaultKind.REST_DOWN in self._ends_ns:
            self._give_up(deadline, client_id)
        elif answer is not None:
            self.tell(answer)

    def _answer_first(self, answer: Answer, connection: int) -> None:
        """Of a request that came twice, after the answer to its second copy."""
        if answer is not None and connection == self._connection and FaultKind.REST_DOWN not in self._ends_ns:
            self.tell(answer)

    def _give_up(self, deadline_ns: int, client_id: str) -> None:
        self._clock.call_at(deadline_ns, self._time_out, client_id, self._connection)

    def _time_out(self, client_id: str, connection: int) -> None:
        if connection == self._connection:  # whose process ended has no timer any more
            self.tell(OrderUpdate(0, 0, None, client_id, OrderStatus.UNKNOWN, None, None, None, None, "timeout"))

    # --- the private stream -------------------------------------------------------------------------------------------

    def stream(self, event: Event) -> None:
        """The exchange says something to the account; it happened at `event.venue_ts_ns`."""
        if FaultKind.PRIVATE_DOWN not in self._ends_ns:
            happened_ns = event.venue_ts_ns or self._feed.venue_now_ns()
            due_ns = self._feed.mono_of(happened_ns) + self._stream.next_ns()
            self._streamed += 1
            fate = self._faults.stream(self._streamed, event)
            if fate.vague and type(event) is OrderUpdate:
                event = msgspec.structs.replace(event, cum_filled_lots=None)
            if fate.late_ns and fate.comes:
                self._clock.call_at(due_ns + fate.late_ns, self._tell_late, event, self._connection)
            elif fate.comes:
                self._private.put(due_ns, event)
            if fate.again_ns:
                self._clock.call_at(due_ns + fate.again_ns, self._tell_late, event, None)

    def _tell_late(self, event: Event, connection: int | None) -> None:
        """Out of order; a second delivery (None) to whoever is there by then."""
        if connection in (None, self._connection) and FaultKind.PRIVATE_DOWN not in self._ends_ns:
            self.tell(event)

    def tell(self, event: Event) -> None:
        if not self._closed:
            self._deliver(self.received(event))

    def received(self, event: F) -> F:
        """The same fact, with the moment of its receipt."""
        return msgspec.structs.replace(event, mono_ns=self._clock.mono_ns(), ts_ns=self._clock.wall_ns())

    # --- questions ----------------------------------------------------------------------------------------------------

    async def ask(self, what: str, answer: Callable[[int], T], *, changes: bool = False) -> T:
        """Put a question (or, if `changes`, a request whose answer is awaited) to the exchange.

        `answer` is called with the venue's time when it arrives there.

        Raises:
            VenueUnavailable: no answer within the time-out, the venue could not answer, or the rate limit.
        """
        self._asked += 1
        fails = self._faults.read_fails(self._asked)
        deadline = self._clock.mono_ns() + self._timeout_ns
        found: list[T] = []
        limited = False

        def arrive() -> None:
            nonlocal limited
            now = self._feed.advance()
            bucket = self._cancels if changes else self._read_rate
            limited = FaultKind.RATE_STORM in self._ends_ns or not bucket.take(now)
            if not (limited or fails or (FaultKind.READS_FAIL in self._ends_ns and not changes)):
                found.append(answer(now))
            if changes:
                self._feed.arm()

        # A change works on a timer of the venue's: a client that is cancelled meanwhile un-sends nothing.
        await self._to_and_fro(self._read_out, deadline, what, arrive if changes else None)
        if not changes:
            arrive()
        await self._to_and_fro(self._read_back, deadline, what)
        if not found:
            raise VenueUnavailable(
                f"{what}: {'over the rate limit' if limited else 'the venue answered with an error'}"
            )
        return found[0]

    async def _to_and_fro(
        self, latency: DelayDraws, deadline_ns: int, what: str, arrive: Callable[[], None] | None = None
    ) -> None:
        arrives = self._clock.mono_ns() + latency.next_ns()
        if FaultKind.REST_DOWN not in self._ends_ns and arrives < deadline_ns:
            if arrive is not None:
                self._clock.call_at(arrives, self._unless_down, arrive)
            await self._until(arrives)
            if FaultKind.REST_DOWN not in self._ends_ns:
                return
        await self._until(deadline_ns)
        raise VenueUnavailable(f"{what}: no answer within {self._timeout_ns / NS:g} s")

    def _unless_down(self, arrive: Callable[[], None]) -> None:
        if not self._closed and FaultKind.REST_DOWN not in self._ends_ns:
            arrive()

    async def _until(self, mono_ns: int) -> None:
        waiter: Future[None] = get_running_loop().create_future()
        timer = self._clock.call_at(mono_ns, _release, waiter)
        try:
            await waiter
        finally:
            timer.cancel()
        if self._closed:
            raise VenueUnavailable("the venue was closed")

    # --- faults -------------------------------------------------------------------------------------------------------

    def inject(self, kind: FaultKind, length_ns: int) -> None:
        """Open a window of faults now, or give the next request or read its fate."""
        if self._closed:
            return
        if kind not in WINDOWS:
            self._faults.force(kind, length_ns)
            return
        self._faults.seen[kind] += 1
        ends_ns = self._clock.mono_ns() + length_ns
        was_open = kind in self._ends_ns
        self._ends_ns[kind] = max(ends_ns, self._ends_ns.get(kind, 0))
        self._clock.call_at(ends_ns, self._end, kind)
        if kind in FREEZES:
            self._feed.freeze_books(FREEZES[kind])
        elif kind in SPOILED:
            self._feed.spoil_books(kind)
        if kind is FaultKind.PRIVATE_DOWN:
            self._private.clear()
        elif kind is FaultKind.PUBLIC_DOWN:
            self._feed.disconnect()
        if kind in LINKS and not was_open:
            # On a timer, as all else: a script may call this from within a delivery.
            self._clock.call_at(self._clock.mono_ns(), self.tell, LinkChanged(0, 0, None, LINKS[kind], False))

    def _end(self, kind: FaultKind) -> None:
        if self._closed or self._ends_ns.get(kind, 0) > self._clock.mono_ns() or kind not in self._ends_ns:
            return
        self._feed.advance()  # what happened in the gap stays in it
        del self._ends_ns[kind]
        if kind in FREEZES and not FREEZES.keys() & self._ends_ns.keys():
            self._feed.freeze_books(None)
        if kind in SPOILED:
            self._feed.spoil_books(next((each for each in SPOILED if each in self._ends_ns), None))
        if kind is FaultKind.PUBLIC_DOWN:
            self._feed.reconnect()
        if kind in LINKS:
            self.tell(LinkChanged(0, 0, None, LINKS[kind], True))

    def draw_windows(self, minute: int = 0) -> None:
        """Let this minute's windows come, and look again in the next."""
        now = self._clock.mono_ns()
        for offset_ns, kind, length_ns in self._faults.windows(minute):
            self._clock.call_at(now + offset_ns, self.inject, kind, length_ns)
        if not self._closed:
            self._clock.call_at(now + MINUTE_NS, self.draw_windows, minute + 1)


def _release(waiter: "Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)
