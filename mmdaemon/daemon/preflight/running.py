"""The items in their turn, what each came to, and rows of it.

What fails takes nothing else with it: after a failed item the account is emptied, and the next one gets a new daemon on
a new journal.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Final

from mmdaemon.daemon.preflight import account, books, breaches, crash, trading
from mmdaemon.daemon.preflight.items import Finding, Result
from mmdaemon.daemon.preflight.site import Site
from mmdaemon.journal.connection import JournalFailed
from mmdaemon.journal.recovery import RecoveryRefused
from mmdaemon.settings import Settings
from mmdaemon.venues.base import VenueUnavailable
from mmdaemon.venues.bitget.api import Refused, Unanswered, Unsent

Measure = Callable[[Site], Awaitable[Finding]]
BY_HAND: Final[Mapping[str, Measure]] = {
    "account": account.account,
    "instrument": account.instrument,
    "fees": account.fees,
    "guards": breaches.guards,
}
TRADING: Final[Mapping[str, Measure]] = {
    "order_life": trading.order_life,
    "strangers": trading.strangers,
    "feeds": trading.feeds,
    "reconciliation": trading.reconciliation,
    "pnl": books.pnl,
    "kill_switch": trading.kill_switch,
    "budgets": books.budgets,
}
"""With a daemon that quotes, in this order."""
CRASH: Final[Mapping[str, Measure]] = {"crash": crash.crash}
LEFT: Final = "left_behind"
_FAILS: Final = (VenueUnavailable, Refused, Unanswered, Unsent, TimeoutError, JournalFailed, RecoveryRefused, OSError)


def as_live(settings: Settings) -> str:
    """The hash of the configuration as it would trade live: what a preflight of it is bound to, wherever it is made."""
    return settings.model_copy(update={"run": settings.run.model_copy(update={"mode": "live"})}).config_hash


async def measured(
    site: Site,
    only: Collection[str] = (),
    *,
    begins: Callable[[str], None] = lambda _: None,
    ended: Callable[[str], None] = lambda _: None,
) -> list[Result]:
    """Every item that can be measured at once, or `only` some; `begins` and `ended` are told of each, and of the
    emptying of the account, whose result is the last."""
    results: list[Result] = []

    async def run(item: str, measure: Measure) -> bool:
        begins(item)
        results.append(await _result(item, measure, site))
        ended(item)
        return results[-1].outcome == "passed"

    def chosen(table: Mapping[str, Measure]) -> Mapping[str, Measure]:
        return {item: measure for item, measure in table.items() if not only or item in only}

    try:
        for item, measure in chosen(BY_HAND).items():
            if not await run(item, measure):
                await site.leave_nothing()
        quotes = False
        for item, measure in chosen(TRADING).items():
            if not quotes and (why := await _begun(site, len(results))):
                results.append(Result(item, "failed", {}, why))
                continue
            quotes = await run(item, measure)
            if not quotes:
                await _over(site)
        await _over(site)
        for item, measure in chosen(CRASH).items():
            await run(item, measure)
    finally:
        begins(LEFT)
        try:
            await _over(site)
        finally:  # whatever becomes of the daemon
            left = await site.leave_nothing()
        results.append(
            Result(LEFT, "failed" if left else "passed", {}, left or "read: no order rests, nothing is held")
        )
        ended(LEFT)
    return results


async def _result(item: str, measure: Measure, site: Site) -> Result:
    try:
        found = await measure(site)
    except _FAILS as error:
        _end_if_asked(error)
        return Result(item, "failed", {}, f"{error}" if isinstance(error, TimeoutError) else _named(error))
    if found.wrong:
        return Result(item, "failed", found.figures, "; ".join(found.wrong))
    return Result(item, "passed", found.figures, found.evidence)


def _end_if_asked(error: Exception) -> None:
    """What fails while it is cleared away after a Ctrl-C hides that Ctrl-C: nothing more is traded for all that."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError from error


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


async def _begun(site: Site, number: int) -> str:
    """A new daemon that quotes. Why there is none; empty: there is."""
    try:
        await site.note_history()
        await site.begin_daemon(f"daemon-{number}")
        await site.until_quoting()
    except _FAILS as error:
        await _over(site)
        _end_if_asked(error)
        return f"no daemon that quotes: {error}"
    return ""


async def _over(site: Site) -> None:
    """End the daemon, if there is one, and empty the account."""
    if site.has_daemon:
        try:
            await site.end_daemon()
        finally:
            await site.leave_nothing()
