"""What both engines are told, and what each says it saw. Plain files between two environments: JSON and `.npz`."""

from pathlib import Path

import msgspec

MS = 1_000_000


class Setup(msgspec.Struct, frozen=True):
    """One run. Decisions fall at `first_ns`, `first_ns + every_ns`, ..., local time; prices and sizes are decimals."""

    stream: str
    tick: float
    lot: float
    first_ns: int
    every_ns: int
    decisions: int
    request_ns: int
    response_ns: int
    most: int
    away_ticks: int


class Seen(msgspec.Struct, frozen=True):
    """What was known at one decision, before it acted. Orders are named by `2 * decision + (1 if a sell)`, -1 is none."""

    position: int
    bid_ticks: int
    ask_ticks: int
    buy: int
    sell: int


class Sent(msgspec.Struct, frozen=True):
    """An order, and the exchange's time of its fill; 0 if it had none."""

    order: int
    px_ticks: int
    filled_ns: int


class Told(msgspec.Struct):
    """What an engine made of a run, and how long it took, best of several: processing alone, without loading."""

    seen: list[Seen]
    sent: list[Sent]
    seconds: dict[str, float]


def read_told(path: Path) -> Told:
    return msgspec.json.decode(path.read_bytes(), type=Told)
