"""An instrument is fixed for a run: rounding, checks, books and the journal all count in its ticks and lots.

What the venue changes while a run is up stops it (`account_facts`); the next start takes the new rules. Where tick or
lot changed, the books of before cannot be gone on with, because their sizes and costs are counted in the old ones: that
start is refused.
"""

from collections.abc import Iterable

from mmdaemon.core.types import Instrument
from mmdaemon.journal.recovery import OtherInstrument

_RULES = ("tick_e10", "lot_e10", "min_qty_lots", "max_qty_lots", "min_notional_e10")
_STEPS = ("tick_e10", "lot_e10")


def changed(held: Instrument, said: Instrument) -> list[str]:
    """The venue's rules that are not those this run counts and checks by, one line each."""
    return [
        f"{name} of {held.symbol} is {getattr(said, name)} and was {getattr(held, name)}: restart to take it in"
        for name in _RULES
        if getattr(said, name) != getattr(held, name)
    ]


def refuse_other_steps(known: Iterable[Instrument], now: Instrument) -> None:
    """Of one instrument version there is one tick and one lot, in the journal and at the venue.

    Raises:
        OtherInstrument: the journal's fills are counted in others.
    """
    for each in known:
        off = [name for name in _STEPS if each.version == now.version and getattr(each, name) != getattr(now, name)]
        if off:
            were = ", ".join(f"{name} {getattr(each, name)} and now {getattr(now, name)}" for name in off)
            raise OtherInstrument(
                f"the journal counts {now.symbol} in other steps: {were} (1e-10); its sizes and costs would be wrong. "
                "Close the position at the venue and begin a new state directory (--state-dir)"
            )
