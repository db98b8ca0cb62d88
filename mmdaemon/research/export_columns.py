"""Columns of the tables that `export` writes: the lines they are written as, and those that tables share."""

from collections.abc import Mapping
from typing import Final

from mmdaemon.core.decision import EdgeBreakdown, QuoteAddends
from mmdaemon.research.export_desk import DERIVED
from mmdaemon.research.export_rows import Column, Kind


def _moment(prefix: str, about: str, source: str = "") -> tuple[Column, Column]:
    """A UTC time twice: to read, and as the integer it is."""
    source = source or f"{prefix}_ns"
    return (
        Column(prefix, Kind.TIME, source, about),
        Column(f"{prefix}_ns", Kind.INTEGER, source, "the same, in ns since 1970 UTC"),
    )


def columns(rows: str, more: Mapping[str, tuple[Column, ...]] | None = None) -> tuple[Column, ...]:
    """Columns out of lines "name | kind | source | about"; an empty source is the name. `@x` puts in `more[x]`."""
    made: list[Column] = []
    for line in filter(None, map(str.strip, rows.splitlines())):
        if line.startswith("@"):
            made.extend({**_SHARED, **(more or {})}[line[1:]])
            continue
        name, kind, source, about = map(str.strip, line.split("|", 3))
        made.append(Column(name, Kind(kind), source or name, about))
    return tuple(made)


_RUN = Column("epoch", Kind.INTEGER, "epoch", "number of the run")
_SEQ = Column("seq", Kind.INTEGER, "seq", "the event within the run that the row follows from")
_MONO = Column("mono_ns", Kind.INTEGER, "mono_ns", "local monotonic clock, ns")
_SHARED: Final[Mapping[str, tuple[Column, ...]]] = {
    "run": (_RUN,),
    "event": (_RUN, _SEQ, *_moment("ts", "when it was received or decided, UTC")),
    "clocked": (_RUN, _SEQ, *_moment("ts", "when it was received or decided, UTC"), _MONO),
    "venue_ts": _moment("venue_ts", "the venue's own time of it"),
    "market": (
        Column("exchange", Kind.TEXT, "(SELECT venue FROM meta)", "venue"),
        Column("trading_pair", Kind.TEXT, "(SELECT symbol FROM meta)", "symbol at the venue"),
    ),
    "updated": (
        Column("updated_seq", Kind.INTEGER, "updated_seq", "event of the last change"),
        *_moment("updated_ts", "time of the last change"),
    ),
    "opened": _moment("opened_ts", "first seen"),
    "last_seen": _moment("last_seen_ts", "last seen"),
    "closed": _moment("closed_ts", "resolved; absent while open"),
    "funding_due": _moment("funding_due_ts", "when that is"),
    "started": _moment("started_ts", "start"),
    "ended": _moment("ended_ts", "end; absent while it runs, or where it was cut off"),
    "first": _moment("first_ts", "first met"),
    "buy_edge": tuple(
        Column(f"buy_{name}", Kind.FLOAT, f"made.buy_edge.{name}", "required edge of a bid: addend")
        for name in EdgeBreakdown.__struct_fields__
    ),
    "sell_edge": tuple(
        Column(f"sell_{name}", Kind.FLOAT, f"made.sell_edge.{name}", "required edge of an ask: addend")
        for name in EdgeBreakdown.__struct_fields__
    ),
    "addends": tuple(
        Column(f"{name}_ticks", Kind.FLOAT, f"quote.addends.{name}", "addend of the price, in ticks")
        for name in QuoteAddends.__struct_fields__
    ),
    **DERIVED,
}
