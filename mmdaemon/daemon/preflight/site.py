"""Where a preflight is made: the venue, hands that place single orders there, and a real daemon beside them.

The daemon is `Daemon` as it is, with the configuration as it is, on a journal of its own. Between it and the venue sits
`Hindered`, the adapter with what an item does to it: an acknowledgement that is thrown away, books that stop coming,
fills that are not told. The hands have a connection of their own, so that what they read is the venue's word.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import msgspec

from mmdaemon.clock import RealClock
from mmdaemon.core.commands import Cancel, Place
from mmdaemon.core.events import BookUpdate, Event, Fill, LinkChanged, OrderUpdate
from mmdaemon.core.reasons import reasons_of
from mmdaemon.core.types import NS, GuardState, OrderStatus, Purpose, Side
from mmdaemon.daemon import wire
from mmdaemon.daemon.supervisor import Daemon
from mmdaemon.journal.state_dir import StateDir, open_dir
from mmdaemon.secret import Credentials
from mmdaemon.settings import Settings
from mmdaemon.venues.base import Cursor, OrderReport, VenueUnavailable
from mmdaemon.venues.bitget.api import Answer, Endpoint, Request, Sends, Unanswered
from mmdaemon.venues.budget import Budget
from mmdaemon.venues.ccxt_config import CcxtConfig
from mmdaemon.venues.ccxt_pro import CcxtVenue
from mmdaemon.venues.probed import Hands, NotEmpty, ProbedVenue

PATIENCE_S: Final = 180.0
"""How long a condition is waited for. In a quiet market quotes take their time."""
OURS: Final = "preflight-"
_LOOK_S: Final = 0.25
"""Between two reads by the hands: the venue counts them with the daemon's own."""
_SKEW_NS: Final = 120 * NS


class _Paced:
    """See `api.Sends`. The venue counts reads of all connections of an account together, so these wait for each
    other."""

    def __init__(self, sends: Sends, clock: RealClock, budgets: dict[str, Budget]) -> None:
        self._sends, self._clock, self._budgets = sends, clock, budgets

    async def ask(self, request: Request) -> Answer:
        endpoint = request.endpoint
        if endpoint.lane == "other":
            await self._budgets.setdefault(endpoint.path, Budget(endpoint, self._clock)).turn(None)
        return await self._sends.ask(request)


class Handed(ProbedVenue):
    """The hands' connection."""

    def __init__(self, config: CcxtConfig, clock: RealClock, budgets: dict[str, Budget]) -> None:
        super().__init__(config, clock)
        self._sends = self.paced = _Paced(self._sends, clock, budgets)


class Hindered(CcxtVenue):
    """The daemon's adapter as it is, and what is done to it."""

    def __init__(self, config: CcxtConfig, clock: RealClock, budgets: dict[str, Budget]) -> None:
        super().__init__(config, clock)
        self._sends = self._forgetting = _Forgetting(_Paced(self._sends, clock, budgets))
        self.is_stale = False
        """Books are not told."""
        self.hides = False
        """Fills of the preflight's own orders are neither told nor read."""
        self.unknown: dict[str, int] = {}
        """Orders that became UNKNOWN, and when (mono)."""
        self.went_down: list[str] = []

    def lose_next_answer(self) -> None:
        """The next order's answer is thrown away, and counts as a time-out."""
        self._forgetting.left = 1

    @property
    def lost(self) -> int:
        return self._forgetting.lost

    def tell(self, event: Event) -> None:
        if (isinstance(event, BookUpdate) and self.is_stale) or self._is_hidden(event):
            return
        if isinstance(event, OrderUpdate) and event.word is OrderStatus.UNKNOWN:
            self.unknown.setdefault(event.client_id, event.mono_ns)
        if isinstance(event, LinkChanged) and not event.up:
            self.went_down.append(event.link.value)
        super().tell(event)

    async def fills(self, since: Cursor) -> list[Fill]:
        return [fill for fill in await super().fills(since) if not self._is_hidden(fill)]

    def _is_hidden(self, event: Event) -> bool:
        return self.hides and isinstance(event, Fill) and event.client_id.startswith(OURS)


class _Forgetting:
    """See `api.Sends`."""

    def __init__(self, sends: Sends) -> None:
        self._sends = sends
        self.left = self.lost = 0

    async def ask(self, request: Request) -> Answer:
        answer = await self._sends.ask(request)
        if self.left and request.endpoint.lane == "order":
            self.left -= 1
            self.lost += 1
            raise Unanswered("timeout")
        return answer


class Site:
    """`open` it, use it, `close` it: then nothing of it rests at the venue, or `left` says what does."""

    def __init__(
        self,
        settings: Settings,
        credentials: Credentials,
        clock: RealClock,
        folder: Path,
        *,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """`folder` is for the daemon's journal, and new."""
        self.settings, self.credentials, self.clock, self.folder = settings, credentials, clock, folder
        self.patience_s = patience_s
        self.config = wire.exchange_config(settings, credentials)
        self._budgets: dict[str, Budget] = {}
        self.venue = Handed(self.config, clock, self._budgets)
        self.hands: Hands
        self.daemon: Daemon
        self.hindered: Hindered
        self.sent: Counter[str] = Counter()
        self.limited: Counter[str] = Counter()
        """Of all connections of the daemons that have ended, by path."""
        self.said: list[str] = []
        self.before: set[str] = set()
        """Trades and ledger lines of before a daemon first began here."""
        self.killed_ns = -(1 << 62)
        """When a process was killed that traded here (mono): what it had sent may land after that."""
        self.trading_ns = 0
        """When that was, less what clocks may differ by (wall)."""
        self.left = ""
        """What `leave_nothing` left the last time; empty: nothing."""
        self._state_dir: StateDir | None = None
        self._running: asyncio.Task[int] | None = None

    async def open(self) -> None:
        """Raises NotEmpty: there are orders or a position, whose is not known; VenueUnavailable."""
        self.hands = Hands(self.venue, self.clock, await self.venue.instrument())
        await self.venue.open(self.hands.deliver)
        resting, before = await self.venue.open_orders(), await self.venue.snapshot()
        if resting or before.position_lots:
            raise NotEmpty(len(resting), before.position_lots)

    async def ask(self, endpoint: Endpoint) -> Any:
        """What the venue answers, as it is. Raises as `Sends.ask`, and VenueUnavailable where it is no JSON."""
        answer = await self.venue.paced.ask(Request(endpoint, {}))
        try:
            return msgspec.json.decode(answer.data)
        except (msgspec.DecodeError, RecursionError) as error:
            raise VenueUnavailable(f"{endpoint.path}: {error}") from None

    async def close(self) -> None:
        if self._running is not None:
            await self.end_daemon()
        await self.venue.close()

    # --- the daemon ---------------------------------------------------------------------------------------------------

    async def begin_daemon(self, name: str) -> Daemon:
        """A real one, on the journal of that name. Raises what `Daemon.start` raises."""
        directory = open_dir(self.folder / name, {}).lock()
        self.hindered = Hindered(self.config, self.clock, self._budgets)
        daemon = Daemon(
            self.settings,
            self.clock,
            self.hindered,
            directory,
            wire.connection_of(self.settings, self.clock),
            fresh_account=False,
            log=lambda word, fields: self.said.append(" ".join([word, *(f"{k}={v}" for k, v in fields.items())])),
        )
        async with AsyncExitStack() as undo:
            undo.callback(directory.release)
            undo.push_async_callback(self.hindered.close)
            await daemon.start()
            undo.pop_all()
        self.daemon, self._state_dir = daemon, directory
        self._running = asyncio.get_running_loop().create_task(daemon.run(), name="preflight.daemon")
        return daemon

    async def note_history(self) -> None:
        """What the account did before a daemon begins is none of its books'."""
        self.trading_ns = self.clock.wall_ns() - _SKEW_NS
        since = Cursor(self.trading_ns)
        self.before = {fill.trade_id for fill in await self.venue.fills(since)}
        self.before |= {bill.bill_id for bill in await self.venue.bills(since)}

    def asked(self) -> tuple[Counter[str], Counter[str]]:
        """Requests by path, of all connections so far; and those that were too many."""
        lanes = (self.venue.lanes, *([self.hindered.lanes] if self.has_daemon else []))
        sent = sum((Counter(each.sent) for each in lanes), self.sent.copy())
        return sent, sum((Counter(each.limited) for each in lanes), self.limited.copy())

    @property
    def has_daemon(self) -> bool:
        return self._running is not None

    async def end_daemon(self) -> int:
        """Its exit code. Cancelled, the daemon goes on ending, and this is to be called again."""
        assert self._running is not None
        assert self._state_dir is not None
        running = self._running
        self.daemon.stop("the preflight is done with it")
        try:
            return await asyncio.shield(running)
        finally:
            if running.done():
                self._running = None
                self._count(self.hindered)
                self._state_dir.release()

    def _count(self, venue: CcxtVenue) -> None:
        self.sent.update(venue.lanes.sent)
        self.limited.update(venue.lanes.limited)

    # --- waiting ------------------------------------------------------------------------------------------------------

    async def until(self, holds: Callable[[], object], why: str, within_s: float | None = None) -> float:
        """Milliseconds until it held. Raises TimeoutError, with `why` and how the daemon is."""
        within_s = within_s or self.patience_s
        begun_ns = self.clock.mono_ns()
        while not holds():
            if self._running is not None and self._running.done():
                raise TimeoutError(f"{why}: the daemon ended ({'; '.join(self.said[-3:])})")
            if self.clock.mono_ns() - begun_ns > within_s * NS:
                raise TimeoutError(f"{why}: not within {within_s:g} s ({self.picture()})")
            await asyncio.sleep(0.01)
        return self.since_ms(begun_ns)

    async def until_read(
        self, holds: Callable[[Sequence[OrderReport]], object], why: str, within_s: float | None = None
    ) -> float:
        """The same, of the open orders as the hands read them. A read that fails proves nothing."""
        within_s = within_s or self.patience_s
        begun_ns = self.clock.mono_ns()
        seen: Sequence[OrderReport] | None = None
        while True:
            try:
                seen = await self.venue.open_orders()
            except VenueUnavailable:
                seen = None
            if seen is not None and holds(seen):
                return self.since_ms(begun_ns)
            if self.clock.mono_ns() - begun_ns > within_s * NS:
                there = "not read" if seen is None else ", ".join(each.client_id for each in seen) or "none"
                raise TimeoutError(f"{why}: not within {within_s:g} s (open orders: {there})")
            await asyncio.sleep(_LOOK_S)

    def since_ms(self, begun_ns: int) -> float:
        return round((self.clock.mono_ns() - begun_ns) / 1e6, 1)

    async def until_quoting(self) -> float:
        """Until the daemon makes a market and the venue shows it: an order of its own on each side. Milliseconds."""

        def both(seen: Sequence[OrderReport]) -> bool:
            return {Side.BUY, Side.SELL} <= {each.side for each in self.own(seen)} and self.is_running

        return await self.until_read(both, f"no quotes on both sides ({self.picture()})")

    @property
    def is_running(self) -> bool:
        return self.daemon.state.guard.state is GuardState.RUNNING

    def own(self, seen: Sequence[OrderReport]) -> list[OrderReport]:
        """Those of this daemon."""
        return [each for each in seen if each.client_id.startswith(f"mm{self.daemon.params.bot_tag}-")]

    def picture(self) -> str:
        if not hasattr(self, "daemon"):
            return "no daemon yet"
        state = self.daemon.state
        reasons = " ".join(reason.value for reason in reasons_of(state.guard.active))
        withheld = ", ".join(dict.fromkeys(refusal.check for refusal in state.withheld))
        said = (state.guard.state.value, reasons, f"held back: {withheld}" if withheld else "")
        return "; ".join(filter(None, said))

    # --- the hands ----------------------------------------------------------------------------------------------------

    async def take(self, side: Side, qty_lots: int) -> list[Fill]:
        """Take so much at once, within a percent of the touch. Raises TimeoutError: not all of it filled."""
        book = await self.hands.some_book()
        # Of coarse steps: whether a fine one is true is the instrument's line to say.
        px_ticks = 100 * (book.asks[0][0] * 101 // 10_000 if side is Side.BUY else book.bids[0][0] * 99 // 10_000)
        client_id = self.hands.new_id()
        order = Place(
            client_id, side, px_ticks, qty_lots, Purpose.QUOTE, 0, post_only=False, reduce_only=False, ioc=True
        )
        await self.venue.send(order)

        def filled() -> bool:
            return sum(fill.qty_lots for fill in self.fills_of(client_id)) == qty_lots

        try:
            await self.hands.until(lambda: filled() or self.hands.is_rejected(client_id), min(10.0, self.patience_s))
        finally:
            if not self.hands.ended(client_id):
                await self.venue.send(Cancel(client_id, risk=True))
        if not filled():
            raise TimeoutError(f"{side.name.lower()} {qty_lots} lots at once: {self.hands.fate(client_id)}")
        return self.fills_of(client_id)

    def fills_of(self, client_id: str) -> list[Fill]:
        found = {fill.trade_id: fill for fill in self.hands.fills if fill.client_id == client_id}
        return list(found.values())

    async def least_lots(self) -> int:
        """The least that the venue takes at a price a percent below the touch."""
        return self.hands.least_lots((await self.hands.some_book()).bids[0][0] * 99 // 100)

    # --- the end ------------------------------------------------------------------------------------------------------

    async def leave_nothing(self) -> str:
        """Cancel and close until the venue is read empty and flat, for as long as something may still land. What is
        left; empty: nothing."""
        begun_ns = self.clock.mono_ns()
        self.left = "the venue could not be read: look there"
        window_ns = round(self.settings.venue.in_flight_max_s * NS)
        in_flight_ns = max(window_ns * self.hands.has_unknown, self.killed_ns + window_ns - begun_ns)
        while self.clock.mono_ns() - begun_ns < in_flight_ns + round(min(30.0, self.patience_s) * NS):
            try:
                await self.venue.cancel_all()
                resting, held = await self.venue.open_orders(), (await self.venue.snapshot()).position_lots
                if held:
                    await self.hands.close_position()
                elif not resting and self.clock.mono_ns() - begun_ns >= in_flight_ns:
                    await self.venue.protect(None)
                    self.left = ""
                    break
                self.left = f"{len(resting)} orders rest and {held} lots are held: look at the venue"
            except (VenueUnavailable, TimeoutError) as error:
                self.left = f"the venue could not be read ({error}): look there"
            await asyncio.sleep(0.2)
        return self.left
