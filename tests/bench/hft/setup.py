"""What both engines are told, and what each says it saw. Plain JSON, because they live in two environments."""

import msgspec

MS = 1_000_000


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """One run. Decisions fall at `first_ns`, `first_ns + every_ns`, ..., local time; tick and lot are decimals."""

    stream: str
    """Path of the rows for hftbacktest."""
    tick: float
    lot: float
    first_ns: int
    every_ns: int
    decisions: int
    request_ns: int
    response_ns: int
    order_lots: int
    """Size of every order."""
    most_lots: int
    """A side is not quoted while the position has so many lots of it, or more."""
    away_ticks: int
    exponent: int
    """Queue model: 0 is risk-averse, anything else n of the power law."""


class Seen(msgspec.Struct, frozen=True):
    """What was known at one decision, before it acted. Orders are `2 * decision + (1 if a sell)`, -1 is none."""

    position_lots: int
    bid_ticks: int
    ask_ticks: int
    buy: int
    sell: int


class Sent(msgspec.Struct, frozen=True):
    """An order, and the exchange's time of its last fill; 0 if it had none."""

    order: int
    px_ticks: int
    filled_ns: int


class Told(msgspec.Struct):
    """What an engine made of a run, and its CPU seconds by name: processing alone, without loading."""

    seen: list[Seen]
    sent: list[Sent]
    seconds: dict[str, float]
