"""Several recordings of one market, in order, as one. Nothing is told where one ends and the next begins.

So the book stays as it was until the next one speaks, and orders keep their places in the queue. The time between two
recordings is a gap like any other. What they must agree in is what orders and clocks depend on: instrument, corrections
and funding interval; one that differs is refused by name, and so is one that begins before the one above it ends.
"""

from collections.abc import Iterator, Sequence

import msgspec

from mmdaemon.core.types import Instrument
from mmdaemon.tapes.playing import utc
from mmdaemon.tapes.records import Depth, Facts, Record, Recording
from mmdaemon.tapes.rows import Refusals, TapeError

SAID_IN_FULL = 3
"""Where the files say different things of the same, as many are told."""
ADVICE = {
    "clock_shift_ns": "convert each to the same correction, or play them one by one",
    "book_lag_ns": "convert each to the same correction, or play them one by one",
    "book_step_ticks": "play them one by one",
    "funding_interval_s": "play them one by one",
}


class Chain:
    """A `Recording` made of others. `names` are what messages call them, usually their paths.

    Raises:
        TapeError: two of them do not fit together.
    """

    def __init__(self, recordings: Sequence[Recording], names: Sequence[str]) -> None:
        if not recordings:
            raise TapeError("no recording to play; name at least one")
        self._parts = list(zip(names, recordings, strict=True))
        for (earlier, before), (later, after) in zip(self._parts, self._parts[1:], strict=False):
            _agree(earlier, before.facts, later, after.facts)
            end = before.end_ts_ns
            if end is not None and after.start_ts_ns < end:
                raise _misordered(earlier, later, after.start_ts_ns, end)
        self._facts = _together([(name, recording.facts) for name, recording in self._parts])

    @property
    def facts(self) -> Facts:
        return self._facts

    @property
    def start_ts_ns(self) -> int:
        return self._parts[0][1].start_ts_ns

    @property
    def end_ts_ns(self) -> int | None:
        return self._parts[-1][1].end_ts_ns

    @property
    def refusals(self) -> Refusals:
        """Those of all parts, of the latest playing of each."""
        whole = Refusals()
        for _, recording in self._parts:
            for reason, count in recording.refusals.counts.items():
                whole.counts[reason] = whole.counts.get(reason, 0) + count
            whole.described.extend(recording.refusals.described)
        return whole

    def records(self) -> Iterator[Record]:
        """Raises TapeError, when reached, where a part begins before the one above it ended."""
        lag = self._facts.book_lag_ns
        previous = ""
        latest = 0
        for name, recording in self._parts:
            is_first = True
            record: Record | None = None
            for record in recording.records():
                if is_first:
                    is_first = False
                    at = _at(record, lag)
                    if at < latest:
                        raise _misordered(previous, name, at, latest)
                yield record
            if record is not None:
                previous, latest = name, _at(record, lag)


def _at(record: Record, lag: int) -> int:
    return record.venue_ts_ns - lag if isinstance(record, Depth) else record.venue_ts_ns


def _misordered(earlier: str, later: str, start_ns: int, end_ns: int) -> TapeError:
    return TapeError(
        f"{later}: begins {utc(start_ns)}, {(end_ns - start_ns) / 1e9:.3f} s before {earlier} ends ({utc(end_ns)}); "
        "name the files in the order of their time, and none of them twice"
    )


def _agree(earlier: str, before: Facts, later: str, after: Facts) -> None:
    """Raise TapeError for the first thing that two recordings in a row must agree in and do not."""
    for field in Instrument.__struct_fields__:
        one, other = getattr(before.instrument, field), getattr(after.instrument, field)
        if one != other:
            said = f" ({before.steps_from} and {after.steps_from})" if field in {"tick_e10", "lot_e10"} else ""
            raise TapeError(
                f"{later}: {field} is {other}, and {one} in {earlier}{said}; they are not of one instrument, "
                "or not converted with the same steps: give --tick and --lot at conversion"
            )
    for field, advice in ADVICE.items():
        one, other = getattr(before, field), getattr(after, field)
        if one != other:
            raise TapeError(f"{later}: {field} is {other}, and {one} in {earlier}; {advice}")


def _together(parts: list[tuple[str, Facts]]) -> Facts:
    first = parts[0][1]
    if len(parts) == 1:
        return first

    def said(texts: list[str]) -> str:
        different = list(dict.fromkeys(texts))
        rest = len(different) - SAID_IN_FULL
        return "; ".join(different[:SAID_IN_FULL]) + (f"; and {rest} more" if rest > 0 else "")

    all_facts = [facts for _, facts in parts]
    keys = dict.fromkeys(key for facts in all_facts for key in facts.provenance)
    provenance = {key: said([facts.provenance[key] for facts in all_facts if key in facts.provenance]) for key in keys}
    provenance["files"] = f"{len(parts)} in order: {said([name for name, _ in parts])}"
    return msgspec.structs.replace(
        first,
        steps_from=said([facts.steps_from for facts in all_facts]),
        minimum_from=said([facts.minimum_from for facts in all_facts]),
        clock_from=said([facts.clock_from for facts in all_facts]),
        lag_from=said([facts.lag_from for facts in all_facts]),
        provenance=provenance,
    )
