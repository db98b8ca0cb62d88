"""How a row of the table is played: a daemon that trades, a fault on the wire, and what must hold during and after it.

    the daemon makes a market: quotes on both sides, a position, fills
    the fault begins                                                      every invariant at each of its moments
    the fault is over: it trades again within a bound, or has stopped for good with nothing resting
    a clean stop                                                          journal and venue are the same, to the digit

Rows are played side by side, each in a thread and an event loop of its own, so that none can disturb another.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import msgspec

from mmdaemon.core.events import LinkChanged, MarketDataRefused, OrderUpdate
from mmdaemon.core.types import NS, GuardState, KillState, Link, OrderStatus
from mmdaemon.venues.base import VenueUnavailable
from mmdaemon.venues.ccxt_client import exchange_class
from mmdaemon.venues.emulator.wrong import Wrong
from tests.emulated.build import KINDS, Kind, Site, Value, site
from tests.emulated.invariants import Watch, WatchedDaemon, WatchedFaults

SIDE_BY_SIDE: Final = 12
"""All in one process: with twice as many it takes a whole processor, and where it gets half of one every request is
late, which is another fault than the row's."""
STARTS: Final = 10
RECOVERED_S: Final = 40.0
"""Within so long after the end of a fault it trades again, or has stopped as it must."""
HAPPENS_S: Final = 30.0
Ends = Literal["trades", "stopped"]


class Inject(msgspec.Struct, frozen=True):
    """See `Faults.inject`."""

    kind: Wrong
    seconds: float = 0.0
    count: int = 1
    where: str = ""

    def __str__(self) -> str:
        words = [f"`{self.kind}`"]
        words += [f"for or by {self.seconds:g} s"] * bool(self.seconds)
        words += [f"{self.count} times"] * (self.count > 1)
        words += [f"at `{self.where.strip()}`"] * bool(self.where)
        return " ".join(words)


class Row(NamedTuple):
    id: str
    catalogue: str
    """Ids of docs/FAULTS.md."""
    inject: tuple[Inject, ...]
    must: str
    """What is right here. Asserted by the fields below, and by what holds for each row."""
    kinds: tuple[Kind, ...]
    ends: Ends = "trades"
    unknown: bool = False
    """An order becomes UNKNOWN, and finds its end."""
    down: Link | None = None
    """This link goes down, and comes back."""
    state: GuardState | None = None
    reason: str = ""
    """Of the guard, among its reasons meanwhile."""
    refused: str = ""
    """Market data or a private frame is refused for something that begins so."""
    settings: tuple[tuple[str, Value], ...] = ()
    venue: tuple[tuple[str, Any], ...] = ()
    """Fields of `EmulatorConfig`."""
    certain: str = ""
    """Orders are refused for something that begins so, and freed for it: none of them becomes UNKNOWN."""
    also: "Callable[[Played], Awaitable[None]] | None" = None


class Outcome(msgspec.Struct):
    """What the daemon did."""

    states: list[str] = []
    reasons: list[str] = []
    links: list[str] = []
    unknown: int = 0
    """Orders that became UNKNOWN."""
    became: dict[str, int] = {}
    """Of them, by what they ended as."""
    connections: int = 0
    """That were made anew."""
    recovered_s: float = 0.0
    fills: tuple[int, int] = (0, 0)
    """Before, and from then on."""
    broken: dict[str, str] = {}


class Played:
    """One row at one kind of account, while it is played."""

    def __init__(self, row: Row, here: Site, watch: Watch) -> None:
        self.row, self.site, self.watch = row, here, watch
        self.faults = here.emulator.faults
        self.outcome = Outcome()
        self.since = self.moved = self.said = self.sockets = 0
        """What had been told, moved, said and connected as the fault began."""

    def mark(self) -> None:
        self.since, self.moved = len(self.watch.told), len(self.site.daemon.transitions)
        self.said, self.sockets = len(self.site.said), len(self.site.emulator.connections)

    @property
    def reasons(self) -> set[str]:
        """Of the guard, since the fault began."""
        said = [str(fields["reasons"]) for name, fields in self.site.said[self.said :] if name == "guard"]
        return {reason for words in said for reason in words.split()}

    @property
    def states(self) -> list[GuardState]:
        return [moved.after for _, moved in [*self.site.daemon.transitions][self.moved :]]

    def went_down(self, link: Link) -> bool:
        told = self.watch.told[self.since :]
        return any(isinstance(event, LinkChanged) and event.link == link and not event.up for event in told)

    def was_refused(self, reason: str) -> bool:
        told = self.watch.told[self.since :]
        return any(isinstance(event, MarketDataRefused) and event.reason.startswith(reason) for event in told)

    def was_certain(self, reason: str) -> bool:
        told = self.watch.told[self.since :]
        refused = [event for event in told if isinstance(event, OrderUpdate) and event.word is OrderStatus.REJECTED]
        return any(event.reason.startswith(reason) for event in refused)

    @property
    def unknown(self) -> dict[str, list[str]]:
        return self.watch.unknowns(self.since)

    def are_known(self) -> bool:
        live = self.site.daemon.state.orders.live
        return all(c not in live or live[c].status is not OrderStatus.UNKNOWN for c in self.unknown)

    async def until(self, what: Callable[[], object], within_s: float, why: str) -> None:
        try:
            await self.site.until(what, within_s)
        except AssertionError as error:
            raise AssertionError(f"{why}: {error}") from None

    # --- the parts ----------------------------------------------------------------------------------------------------

    async def trades(self, why: str, within_s: float) -> None:
        """Both links, quotes on both sides, an order placed and a fill booked from now on, books as the venue's."""
        here, placed, fills = self.site, self.watch.placed, len(self.site.venue_fills())

        def holds() -> bool:
            is_busy = self.watch.placed > placed and len(here.venue_fills()) > fills
            venue = here.daemon.state.venue
            is_linked = venue.public_up and venue.private_up
            return is_busy and is_linked and here.is_quoting() and self.watch.is_equal()

        await self.until(holds, within_s, why)

    async def begin(self) -> None:
        """A market is made: quotes on both sides, a position, fills booked."""

        def holds() -> bool:
            state = self.site.daemon.state
            is_linked = state.venue.public_up and state.venue.private_up
            is_trading = self.site.is_quoting() and state.position.position_lots and state.position.trade_ids
            return bool(is_linked and is_trading and self.watch.is_equal())

        await self.until(holds, 60, "before the fault")
        self.outcome.fills = len(self.site.venue_fills()), 0

    async def go_wrong(self) -> None:
        seen = {each.kind: self.faults.seen[each.kind] for each in self.row.inject}
        self.watch.faults_begin()
        self.mark()
        for each in self.row.inject:
            self.faults.inject(each.kind, seconds=each.seconds, count=each.count, where=each.where)
        for kind, before in seen.items():
            await self.until(lambda k=kind, b=before: self.faults.seen[k] > b, HAPPENS_S, f"{kind} never happened")
        if self.row.ends == "stopped":
            return
        # What is counted may wait for an event that does not come again; what lasts is waited for.
        lasts_s = max((each.seconds for each in self.row.inject), default=0.0)
        end_ns = self.site.clock.mono_ns() + round((lasts_s + 5.0) * NS)
        await self.until(lambda: self.faults.is_calm or self.site.clock.mono_ns() > end_ns, lasts_s + 10, "its end")

    async def get_over(self) -> None:
        row, began_ns = self.row, self.site.clock.mono_ns()
        if row.unknown:
            await self.until(lambda: self.unknown, HAPPENS_S, "no order became UNKNOWN")
        if row.certain:
            await self.until(lambda: self.was_certain(row.certain), HAPPENS_S, f"none refused for {row.certain}")
            assert not self.unknown, f"the refusal is certain, and became UNKNOWN: {self.unknown}"
        if row.ends == "stopped":
            await self.until(
                lambda: self.site.daemon.state.guard.state is GuardState.HARD_STOP, RECOVERED_S, "not HARD"
            )
        self.faults.clear()
        if row.down is not None:
            await self.until(lambda: self.went_down(Link(str(row.down))), HAPPENS_S, f"{row.down} never went down")
        if row.state is not None:
            await self.until(lambda: row.state in self.states, RECOVERED_S, f"never {row.state}")
        if row.reason:
            await self.until(lambda: row.reason in self.reasons, RECOVERED_S, f"never {row.reason}")
        if row.refused:
            await self.until(lambda: self.was_refused(row.refused), HAPPENS_S, f"nothing refused for {row.refused}")
        self.watch.faults_end()
        if row.ends == "trades":
            await self.trades("after the fault", RECOVERED_S)
            await self.until(self.are_known, RECOVERED_S, "still UNKNOWN")
        else:
            switch = self.site.daemon.parts.kill_switch
            done = (KillState.VERIFIED, KillState.KILLED)
            await self.until(lambda: switch.kill_state in done, RECOVERED_S, "not stopped")
            await self.until(lambda: not self.watch.own_resting(), 2.0, "stopped, and something rests")
            await self.until(self.watch.is_equal, RECOVERED_S, "books are not the venue's")
        self.outcome.recovered_s = (self.site.clock.mono_ns() - began_ns) / NS

    def note(self) -> None:
        outcome, before = self.outcome, self.outcome.fills[0]
        outcome.states = list(dict.fromkeys(state.value for state in self.states))
        outcome.reasons = sorted(self.reasons)
        outcome.links = [link.value for link in Link if self.went_down(link)]
        outcome.unknown = len(self.unknown)
        for told in self.unknown.values():
            became = next((each for each in reversed(told) if not each.startswith("unknown")), "open").split(":")[0]
            outcome.became[became] = outcome.became.get(became, 0) + 1
        outcome.connections = len(self.site.emulator.connections) - self.sockets
        outcome.fills = before, len(self.site.venue_fills()) - before

    async def end(self) -> None:
        """A clean stop, nothing of ours on the venue and what is not ours left alone, the same fills on both sides."""
        orders, own = self.site.emulator.account.exchange.orders, self.watch.own_resting()
        others = set(self.site.resting()) - set(own)
        code = await self.site.stop()
        self.watch.ended()
        assert code == 0, f"stopped with {code}: {self.site.said[-8:]}"
        assert not self.watch.own_resting(), f"it has ended, and {self.watch.own_resting()} rest"
        assert all(orders[each].status is not OrderStatus.CANCELLED for each in others), "an order of others is gone"
        assert self.watch.is_equal(), "ended, and the books are not the venue's"
        self.watch.journal_is_the_venues(self.site.journaled())
        assert not self.site.emulator.defects, f"the emulator: {self.site.emulator.defects}"


async def begin(here: Site, row: Row) -> None:
    """As the service does, which starts anew a daemon that did not reach the venue in time."""
    for _ in range(STARTS - 1):
        try:
            return await here.begin(**dict(row.settings))
        except VenueUnavailable:
            pass
    await here.begin(**dict(row.settings))


async def play(row: Row, kind: Kind, path: Path) -> Outcome:
    """Raises AssertionError with what did not hold."""
    async with site(path, kind, faults=WatchedFaults, **dict(row.venue)) as here:
        here.daemon_type = WatchedDaemon
        faults = here.emulator.faults
        assert isinstance(faults, WatchedFaults)
        watch = Watch(here, faults)
        await begin(here, row)
        assert isinstance(here.daemon, WatchedDaemon)
        watch.began(here.daemon)
        played = Played(row, here, watch)
        try:
            await played.begin()
            await played.go_wrong()
            if row.also is not None:
                await row.also(played)
            await played.get_over()
            played.note()
            await played.end()
        except AssertionError as error:
            raise AssertionError(f"{error}; {watch.broken}") from None
        assert not watch.broken, f"{watch.broken}; {here.said[-12:]}"
        played.outcome.broken = watch.broken
        return played.outcome


def play_all(rows: Sequence[Row], path: Path) -> dict[tuple[str, Kind], Outcome | str]:
    """Side by side. An outcome, or what did not hold."""
    exchange_class("bitget")  # once, before there are threads

    longest = sorted(rows, key=lambda row: -max(each.seconds for each in row.inject))

    def one(row: Row, kind: Kind) -> Outcome | str:
        try:
            return asyncio.run(play(row, kind, path / f"{row.id}-{kind}"))
        except Exception as error:  # noqa: BLE001 - told with its row
            return f"{type(error).__name__}: {error}"

    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        began = {(row, kind): pool.submit(one, row, kind) for row in longest for kind in row.kinds}
        outcomes: dict[tuple[str, Kind], Outcome | str] = {
            (row.id, kind): began[row, kind].result() for row in rows for kind in row.kinds
        }
    return outcomes


BOTH = KINDS
CLASSIC: tuple[Kind, ...] = ("classic",)
UNIFIED: tuple[Kind, ...] = ("unified",)
