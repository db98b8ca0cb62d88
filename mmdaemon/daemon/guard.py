"""The guard's eyes: measures what only the daemon can (loop lag, clock, journal, account) and posts it as
`HealthFacts`.

It wakes at the next deadline that the guard's table published, and once a second at most. What it could not measure
is None, which the table takes for bad: not measured is not fine.
"""

import asyncio
from collections.abc import Callable, Mapping

from mmdaemon.clock import Clock
from mmdaemon.core.events import AccountHint, HealthFacts
from mmdaemon.core.state import State
from mmdaemon.core.types import NS, Instrument
from mmdaemon.daemon.inbox import Inbox
from mmdaemon.daemon.instrument import changed
from mmdaemon.daemon.pace import sleep_ns, sleep_until
from mmdaemon.journal.writer import JournalWriter
from mmdaemon.venues.base import AccountFacts, Venue, VenueUnavailable

_LONGEST_NS = NS
_FACTS_EVERY_NS = 60 * NS
_FACTS_AGE_MAX_NS = 300 * NS
"""Facts that were not read again for this long are not known any more: the clock drifts, and people change accounts."""
_FACTS_RETRY_NS = 5 * NS
_FACTS_HINTED_NS = 5 * NS
"""Between two readings, where the stream says that something is not as it was read. It may be the stream that errs."""
_MARGIN_MODE = "crossed"
"""What sizes and margin limits are counted by; no setting, because nothing here would be right with another."""


class GuardActor:
    """Two coroutines in one task: `HealthFacts` at each deadline, and the account's facts each minute."""

    def __init__(  # everything it measures
        self,
        state: State,
        venue: Venue,
        journal: JournalWriter,
        clock: Clock,
        inbox: Inbox,
        leverage: float,
        instrument: Instrument,
        unprotected_s: Callable[[int], float],
        log: Callable[[str, Mapping[str, object]], None],
    ) -> None:
        self._state = state
        self._venue = venue
        self._journal = journal
        self._clock = clock
        self._inbox = inbox
        self._leverage = leverage
        self._unprotected_s = unprotected_s
        self._log = log
        self._told: list[str] = []
        self._look = asyncio.Event()
        self._instrument = instrument
        self.instrument = instrument
        """As the venue last stated it."""
        self.facts: AccountFacts | None = None
        self._account = ""
        """Whose facts were read first. Another's are not those of the positions and orders in the books."""
        self._facts_ns = 0
        self._lag_ns = 0
        """How late it was woken when it last was."""
        self._wall_less_mono_ns = 0
        """When the facts were read: what is more or less since then is a step of our clock, seen before they are read
        again."""

    async def run(self) -> None:
        async with asyncio.TaskGroup() as both:
            both.create_task(self._watch_account(), name="guard.account")
            both.create_task(self._watch(), name="guard.watch")

    async def _watch(self) -> None:
        self._report()
        while True:
            now = self._clock.mono_ns()
            wake_at = now + _LONGEST_NS
            deadline = self._state.guard.deadline_ns
            if now < deadline < wake_at:
                wake_at = deadline
            await sleep_until(self._clock, wake_at)
            self._lag_ns = self._clock.mono_ns() - wake_at
            self._report()

    def _report(self) -> None:
        now, wall = self._clock.mono_ns(), self._clock.wall_ns()
        stepped_ns = wall - now - self._wall_less_mono_ns
        wrong = self.wrong_facts()
        if self.facts and wrong != self._told:
            self._told = wrong
            if wrong:  # the guard stops for it in a word; what to do about it must be in the log too
                self._log("account_wrong", {"what": "; ".join(wrong)})
        self._inbox.post(
            HealthFacts(
                now,
                wall,
                None,
                # Whichever is worse: how late we were woken, or how far behind the core is with what has come.
                loop_lag_s=max(self._lag_ns, self._inbox.behind_ns(now)) / NS,
                clock_offset_s=self.facts.clock_offset_s - stepped_ns / NS if self.facts else None,
                journal_age_s=self._journal.oldest_pending_ns(now) / NS,
                journal_failed=self._journal.failed,
                account_facts_ok=not wrong if self.facts else None,
                unprotected_s=self._unprotected_s(now),
                account_detail="; ".join(wrong),
            )
        )

    async def _watch_account(self) -> None:
        while True:
            was_unknown = self.facts is None
            try:
                self.facts, self.instrument = await self._venue.facts(), await self._venue.instrument()
                self._account = self._account or self.facts.account
                self._facts_ns = self._clock.mono_ns()
                self._wall_less_mono_ns = self._clock.wall_ns() - self._facts_ns
            except VenueUnavailable:
                if self._clock.mono_ns() - self._facts_ns > _FACTS_AGE_MAX_NS:
                    self.facts = None
                await sleep_ns(self._clock, _FACTS_RETRY_NS)
                continue
            if was_unknown:  # nothing is quoted for want of them
                self._report()
            await self._until_due()

    async def _until_due(self) -> None:
        timer = self._clock.call_at(self._facts_ns + _FACTS_EVERY_NS, self._look.set)
        try:
            await self._look.wait()
        finally:
            timer.cancel()
        self._look.clear()
        await sleep_until(self._clock, self._facts_ns + _FACTS_HINTED_NS)

    def hinted(self, hint: AccountHint) -> None:
        """Read now, if the stream says that leverage or a mode is another than was read."""
        facts = self.facts
        if facts is not None and (
            hint.leverage not in (None, facts.leverage)
            or hint.margin_mode not in ("", facts.margin_mode)
            or hint.position_mode not in ("", facts.position_mode)
        ):
            self._look.set()

    def wrong_facts(self) -> list[str]:
        """What of the account is not as it must be and what to do about it, one line each. The daemon mends none of it:
        what somebody set may have been set on purpose."""
        facts = self.facts
        if facts is None:
            return ["the account's facts were never read"]
        wrong: list[str] = []
        if facts.position_mode != "one_way":
            wrong.append(f"position mode is {facts.position_mode}, only one_way is supported: set it at the venue")
        if facts.margin_mode != _MARGIN_MODE:
            wrong.append(f"margin mode is {facts.margin_mode}, only {_MARGIN_MODE} is supported: set it at the venue")
        if facts.leverage != self._leverage:
            wrong.append(
                f"leverage is {facts.leverage:g}, configured {self._leverage:g}: set it to that at the venue "
                "(or venue.leverage here, and restart)"
            )
        if facts.account != self._account:
            wrong.append(f"the account is {facts.account} and was {self._account}: the key is another's, restart")
        if not facts.can_trade:
            wrong.append("the key cannot trade: allow it to at the venue, or use one that can")
        if facts.can_withdraw:
            wrong.append("the key can withdraw: make one that cannot")
        if facts.fees_in:
            wrong.append(
                f"fees are paid in {', '.join(facts.fees_in)}, and result and edge are counted in quote currency: "
                "switch that off at the venue, and restart"
            )
        return wrong + changed(self._instrument, self.instrument)
