"""The composition root: the one module that knows every concrete class. Read it to see what a daemon is made of.

`market_of`, `venue_of`, `remote_of`, `exchange_of`, `paper_of` and `connection_of` say what settings mean, and
`venue_for` which of the venues a run trades at; `parts_of` puts the coroutines around
one `State`. The same wiring runs in real and in virtual time: what differs is the clock, the journal's connection and
the venue, and all three are handed in.
"""

import asyncio
import os
from collections.abc import Callable, Coroutine, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, assert_never

import msgspec

from mmdaemon.clock import Clock, VirtualClock
from mmdaemon.core.engine import Step, Strategy
from mmdaemon.core.events import Event, Fill
from mmdaemon.core.params import Params
from mmdaemon.core.quotes import decide
from mmdaemon.core.state import State
from mmdaemon.core.types import E10, NS
from mmdaemon.daemon import cost, regime, timers
from mmdaemon.daemon.backup import Apart, Backups, InLine, Plan, Taker
from mmdaemon.daemon.breaks import Ledger
from mmdaemon.daemon.gate import Gate
from mmdaemon.daemon.guard import GuardActor
from mmdaemon.daemon.hints import Hints
from mmdaemon.daemon.inbox import Inbox
from mmdaemon.daemon.kill_switch import KillSwitch
from mmdaemon.daemon.operator import Operator
from mmdaemon.daemon.protect import Protector
from mmdaemon.daemon.prune import Pruner
from mmdaemon.daemon.quoting import QuotingController
from mmdaemon.daemon.reconcile import Cadences, Reconciler
from mmdaemon.daemon.record import Recorder
from mmdaemon.daemon.sender import Sender
from mmdaemon.daemon.signals import Signals
from mmdaemon.daemon.status import StatusView
from mmdaemon.journal.connection import Connection, Durability, InlineConnection, ThreadConnection
from mmdaemon.journal.records import Break
from mmdaemon.journal.rows import DecisionChain
from mmdaemon.journal.state_dir import StateDir
from mmdaemon.journal.writer import JournalWriter
from mmdaemon.secret import Credentials
from mmdaemon.settings import Settings
from mmdaemon.settings.rules import in_flight_floor_s
from mmdaemon.tapes.reading import open_tape
from mmdaemon.venues.base import MarketSource, Venue
from mmdaemon.venues.ccxt_config import CcxtConfig
from mmdaemon.venues.paper import PaperVenue
from mmdaemon.venues.remote import RemoteVenue
from mmdaemon.venues.simulated.config import SimulatedConfig
from mmdaemon.venues.simulated.latency import Delay
from mmdaemon.venues.simulated.market import SyntheticMarket
from mmdaemon.venues.simulated.matching import FillModel, PostOnly
from mmdaemon.venues.simulated.order_flow import MarketConfig
from mmdaemon.venues.simulated.queueing import QueueModel, QueueRule
from mmdaemon.venues.simulated.stretches import Schedule
from mmdaemon.venues.simulated.venue import SimulatedVenue

if TYPE_CHECKING:
    from mmdaemon.venues.ccxt_pro import CcxtVenue
    from mmdaemon.venues.generic import GenericVenue

_encode = msgspec.msgpack.Encoder().encode


def market_of(settings: Settings, start_ts_ns: int, schedule: Schedule = ()) -> MarketSource:
    """The market that the settings name: a recording, or the synthetic perpetual from `start_ts_ns` on.

    Raises:
        TapeError: the recording cannot be used; names file and row.
    """
    if settings.run.tape:
        return open_tape([Path(path) for path in settings.run.tape.split(os.pathsep)])
    config = MarketConfig(feed_latency_ms=settings.simulated.feed_latency_s * 1e3)
    return SyntheticMarket(seed=settings.run.seed, start_ts_ns=start_ts_ns, schedule=schedule, config=config)


def venue_of(settings: Settings, source: MarketSource, clock: Clock, tag: str) -> SimulatedVenue:
    """The simulated venue around a market. `tag` opens every id it gives, so that those of two runs never meet."""
    return SimulatedVenue(source, clock, simulated_config(settings, tag), settings.run.seed)


def simulated_config(settings: Settings, tag: str) -> SimulatedConfig:
    """What the settings say of the simulated venue, which is paper's too."""
    chosen = settings.simulated
    jitter = chosen.latency_jitter_fraction

    def delay(base_s: float) -> Delay:
        return Delay(base_s, base_s * jitter)

    return SimulatedConfig(
        tag=tag,
        start_e10=round(Decimal(str(chosen.equity_quote)) * E10),
        maker_rate=Decimal(str(chosen.maker_fee_bps)) / 10_000,
        taker_rate=Decimal(str(chosen.taker_fee_bps)) / 10_000,
        leverage=int(settings.venue.leverage),
        fills=FillModel(chosen.fills),
        queue=QueueModel(QueueRule(chosen.queue_model), chosen.queue_exponent),
        post_only=PostOnly(chosen.post_only),
        can_amend=settings.venue.amend,
        has_dead_man=chosen.dead_man,
        request=delay(chosen.request_latency_s),
        response=delay(chosen.response_latency_s),
        stream=delay(chosen.response_latency_s),
        # A recording carries its own arrival times, and so does the synthetic market.
        feed=Delay(0.0),
        request_timeout_s=settings.venue.request_timeout_s,
    )


def remote_of(settings: Settings, clock: Clock) -> RemoteVenue:
    """The venue process that `venue.remote` names. Its market and its account are its own."""
    return RemoteVenue(Path(settings.venue.remote), clock, settings.venue.request_timeout_s)


def exchange_of(settings: Settings, clock: Clock, credentials: Credentials | None) -> "CcxtVenue | GenericVenue":
    """The exchange that the settings name, or the emulator in its place; without credentials its public data alone."""
    from mmdaemon.venues.exchanges import exchange  # noqa: PLC0415 - ccxt is loaded where it is used, and nowhere else

    return exchange(exchange_config(settings, credentials), clock)


def exchange_config(settings: Settings, credentials: Credentials | None) -> CcxtConfig:
    """How that exchange is reached."""
    venue, mode = settings.venue, settings.run.mode
    return CcxtConfig(
        exchange=venue.exchange,
        account=venue.account,
        symbol=venue.symbol,
        environment="demo" if mode == "testnet" else "live",
        credentials=credentials,
        emulator_url=venue.emulator,
        request_timeout_s=venue.request_timeout_s,
        in_flight_floor_s=in_flight_floor_s(venue.exchange, venue.emulator),
        book_depth=venue.book_depth,
        tries_dead_man=venue.dead_man_s > 0,
    )


async def paper_of(settings: Settings, clock: Clock, tag: str) -> PaperVenue:
    """The exchange's public data, and the simulated venue's matching.

    Raises:
        VenueUnavailable: the exchange does not say what the contract's steps are.
    """
    return await PaperVenue.at(
        exchange_of(settings, clock, None), clock, simulated_config(settings, tag), settings.run.seed
    )


async def venue_for(settings: Settings, clock: Clock, tag: str, credentials: Credentials | None = None) -> Venue:
    """The venue of a run in real time.

    Raises:
        TapeError, VenueUnavailable: the market cannot be had; says why.
    """
    match settings.run.mode:
        case "testnet" | "live":
            if credentials is None:
                raise ValueError(f"{settings.run.mode} trades, and was given no credentials")
            return exchange_of(settings, clock, credentials)
        case "paper":
            return await paper_of(settings, clock, tag)
        case "simulated":
            if settings.venue.remote:
                return remote_of(settings, clock)
            return venue_of(settings, market_of(settings, clock.wall_ns()), clock, tag)
        case _:
            assert_never(settings.run.mode)


def connection_of(settings: Settings, clock: Clock) -> Callable[[StateDir], Connection]:
    """aiosqlite in real time; sqlite3 in line, with a seeded completion delay, in virtual time."""
    durability = Durability(settings.journal.durability)

    def connect(state_dir: StateDir) -> Connection:
        if isinstance(clock, VirtualClock):
            return InlineConnection(state_dir.journal_path, durability, clock, seed=settings.run.seed)
        return ThreadConnection(state_dir.journal_path, durability)

    return connect


def backup_folder(settings: Settings, state_dir: StateDir) -> Path:
    """Where the journal's copies are."""
    return Path(settings.backup.dir) if settings.backup.dir else state_dir.path / "backups"


def backups_of(settings: Settings, clock: Clock, state_dir: StateDir, bot_tag: str) -> Taker | None:
    """How the journal's daily copies are made; None where none are. A run at full speed is no day of trading."""
    chosen = settings.backup
    if not chosen.enabled or settings.run.speed == "max":
        return None
    folder = backup_folder(settings, state_dir)
    plan = Plan(state_dir.journal_path, folder, chosen.keep_daily, chosen.keep_monthly)
    return InLine(plan, bot_tag, clock) if isinstance(clock, VirtualClock) else Apart(plan, bot_tag)


class Parts:
    """Everything of one running daemon, built around one `State`. `coroutines` are what the supervisor runs."""

    def __init__(  # the world, handed in
        self,
        settings: Settings,
        params: Params,
        state: State,
        inbox: Inbox,
        gate: Gate,
        venue: Venue,
        journal: JournalWriter,
        state_dir: StateDir,
        clock: Clock,
        *,
        since_ns: int,
        opened_ns: int,
        latched: str,
        breaks: Sequence[Break],
        on_step: Callable[[Event, Step], None],
        on_latch_failure: Callable[[str], None],
        log: Callable[[str, Mapping[str, object]], None],
        metrics_port: Callable[[], int],
        page_port: Callable[[], int],
        strategy: Strategy = decide,
    ) -> None:
        post = inbox.post
        self.journal = journal

        async def write_latch(reason: str) -> None:
            # It may wait for the disk, so in real time the loop and the cancels do not wait for it.
            in_line = isinstance(clock, VirtualClock)
            write = state_dir.write_latch
            for failure in write(reason) if in_line else await asyncio.to_thread(write, reason):
                on_latch_failure(failure)

        def stepped(event: Event, step: Step) -> None:
            if type(event) is Fill:
                self.protector.on_fill()
            self.hints.on_event(event)
            on_step(event, step)

        self.kill_switch = KillSwitch(
            state,
            params,
            venue,
            gate,
            journal,
            clock,
            post,
            write_latch,
            latched,
        )
        self.chain = DecisionChain(params.run_epoch, _encode(params))
        self.ledger = Ledger(params.bot_tag, params.run_epoch, breaks, clock.mono_ns())
        self.recorder = Recorder(journal, params, self.chain, self.ledger)
        self.sender = Sender(venue, journal, gate, post, clock, self.recorder.telemetry.sent)
        journal.on_commit = self.recorder.telemetry.committed
        self.controller = QuotingController(state, params, inbox, self.recorder, self.sender, stepped, strategy)
        cadences = Cadences(
            orders_ns=round(settings.venue.reconcile_orders_s * NS),
            position_ns=round(settings.venue.reconcile_position_s * NS),
        )
        self.reconciler = Reconciler(state, params, venue, inbox, clock, cadences, self.ledger, since_ns, opened_ns)
        self.protector = Protector(
            state,
            params,
            venue,
            inbox,
            clock,
            settings.venue.dead_man_s,
            settings.venue.stop_bps,
            self.reconciler.wake,
            log,
        )
        leverage, unprotected_s = settings.venue.leverage, self.protector.unprotected_s
        self.guard = GuardActor(state, venue, journal, clock, inbox, leverage, params.instrument, unprotected_s, log)
        self.hints = Hints(state, params, self.reconciler, clock, self.guard.hinted)
        self.operator = Operator(
            state, params, gate, self.kill_switch, self.reconciler, inbox, journal, clock, state_dir.clear_latch
        )
        self.signals = Signals(state, params, inbox, clock)
        pruner = Pruner(
            state_dir.journal_path,
            backup_folder(settings, state_dir),
            journal,
            settings.journal.keep_days,
            clock,
            log,
            in_line=isinstance(clock, VirtualClock),
        )
        self.backups = Backups(
            backups_of(settings, clock, state_dir, params.bot_tag),
            settings.backup.hour_utc,
            clock,
            opened_ns,
            log,
            pruner,
        )
        self.status = StatusView(
            state,
            params,
            self.controller,
            self.sender,
            self.recorder,
            inbox,
            gate,
            self.kill_switch,
            self.ledger,
            journal,
            state_dir,
            self.backups,
            clock,
            settings.run.mode,
            metrics_port,
            page_port,
        )
        ledger_ns = round(settings.venue.reconcile_ledger_s * NS)
        self.coroutines: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
            "journal": journal.run,
            "quoting": self.controller.run,
            "sender": self.sender.run,
            "kill_switch": self.kill_switch.run,
            "kill_file": lambda: self.kill_switch.watch_file(state_dir.latched),
            "guard": self.guard.run,
            "reconcile": self.reconciler.run,
            "protect": self.protector.run,
            "cost": lambda: cost.run(venue, clock, post, ledger_ns, opened_ns, since_ns, state.venue.charged),
            "regime": lambda: regime.run(venue, clock, post),
            "timers": lambda: timers.run(clock, post),
            "hints": self.hints.run,
            "signals": self.signals.run,
            "backup": self.backups.run,
        }
