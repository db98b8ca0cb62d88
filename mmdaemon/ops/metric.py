"""What a metric is made of: a row with how it is read out of one picture of the daemon."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import Final, Literal

import msgspec

from mmdaemon.ops.status import HistogramView, Status

PREFIX: Final = "mmdaemon_"
LABEL: Final = re.compile(r"[a-z][a-z0-9_]{0,39}")
BPS: Final = 1e-4


class Reading(msgspec.Struct, frozen=True):
    """What one scrape reads."""

    status: Status
    control: Mapping[str, int]
    """Outcomes of the control socket, `ControlServer.counts`."""
    logs_dropped: int
    notify: Mapping[str, int] = {}
    """What became of messages, `Notify.counts`."""


Samples = Iterable[tuple[tuple[str, ...], float]]
"""Label values, in the order of the metric's labels, and the value."""


class Metric(msgspec.Struct, frozen=True):
    """A row of METRICS."""

    name: str
    kind: Literal["gauge", "counter"]
    help: str
    labels: tuple[str, ...]
    read: Callable[[Reading], Samples]


class Distribution(msgspec.Struct, frozen=True):
    """A row of DISTRIBUTIONS: a histogram. Read as label values and what was counted."""

    name: str
    help: str
    labels: tuple[str, ...]
    read: Callable[[Reading], Iterable[tuple[tuple[str, ...], HistogramView]]]


def one(read: Callable[[Status], float | str | None]) -> Callable[[Reading], Samples]:
    """One value; absent where it is None."""

    def samples(reading: Reading) -> Samples:
        value = read(reading.status)
        return () if value is None else (((), float(value)),)

    return samples


def is_state(states: type[StrEnum], read: Callable[[Status], str]) -> Callable[[Reading], Samples]:
    """1 for the state it is in, 0 for the others."""
    return lambda reading: [((state.value,), float(read(reading.status) == state)) for state in states]


def by_label(known: Iterable[str], counts: Mapping[str, int]) -> Samples:
    """Counts by our own words, 0 for each known one. What is not a word of ours is counted as "other"."""
    sums = Counter(dict.fromkeys(known, 0))
    for name, count in counts.items():
        sums[name if LABEL.fullmatch(name) else "other"] += count
    return [((name,), float(count)) for name, count in sums.items()]


def gauge(name: str, text: str, read: Callable[[Reading], Samples], *labels: str) -> Metric:
    return Metric(PREFIX + name, "gauge", text, labels, read)


def counter(name: str, text: str, read: Callable[[Reading], Samples], *labels: str) -> Metric:
    return Metric(f"{PREFIX}{name}_total", "counter", text, labels, read)
