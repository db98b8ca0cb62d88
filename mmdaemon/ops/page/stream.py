"""What a browser is sent: at first the whole of what is kept, then each second what is new, as JSON in one version.

    event: whole    {"version":1,"keep_s":1800,"status":{...},"columns":[...],"rows":[...],"fills":[...],"notes":[...]}
    event: more     the same, with the rows, fills and notes of the last second

Rows are samples for drawing, floats in the order of `columns`, null where unknown. Figures that are shown come from
`status`, which is what `mmdaemon status --json` prints. Each row is encoded once, when it is sampled, so that a
browser that comes costs a join of bytes and no more.
"""

from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from mmdaemon.ops.status import Status

VERSION: Final = 1
FILLS_KEPT: Final = 2_000
NOTES_KEPT: Final = 300
_TEXT_MAX: Final = 400
"""Characters of a field of a note: some quote what a venue said."""

_encode = msgspec.json.Encoder().encode


class Row(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """A sample of what is drawn over time. Prices and money in quote currency, sizes in base; None is unknown."""

    ts_ms: float
    guard: str
    regime: str
    fair: float | None
    bid: float | None
    """The market's."""
    ask: float | None
    quote_bid: float | None
    """Our innermost quotes that stand at the venue."""
    quote_ask: float | None
    position: float
    largest: float | None
    """The largest position that is allowed now."""
    spread: float | None
    """Addends of PnL since the account was first met, and their total; without transfers."""
    impact: float | None
    inventory: float | None
    fees: float | None
    funding: float | None
    total: float | None
    read_age_s: float | None
    """How old the last whole read of the venue's truth is."""


class Note(msgspec.Struct, frozen=True):
    """Something that was said aloud: a fill, a move of the guard, a break, what a person did."""

    ts_ms: float
    name: str
    fields: dict[str, str]


class _Update(msgspec.Struct, frozen=True):
    version: int
    keep_s: int
    status: Status
    columns: tuple[str, ...]
    rows: list[msgspec.Raw]
    fills: list[msgspec.Raw]
    notes: list[msgspec.Raw]


class History:
    """The last `keep_s` seconds, in memory alone. Called on the loop; `note` may be called at any time."""

    def __init__(self, keep_s: int, now_ns: Callable[[], int], redact: Callable[[str], str] = str) -> None:
        """`now_ns` is UTC; `redact` blots secrets out of the text of notes."""
        self._keep_s = keep_s
        self._now_ns = now_ns
        self._redact = redact
        self._rows: deque[msgspec.Raw] = deque(maxlen=keep_s)
        self._fills: deque[msgspec.Raw] = deque(maxlen=FILLS_KEPT)
        self._notes: deque[msgspec.Raw] = deque(maxlen=NOTES_KEPT)
        self._said: deque[tuple[float, str, Mapping[str, object]]] = deque(maxlen=FILLS_KEPT)
        self._new: tuple[list[msgspec.Raw], list[msgspec.Raw], list[msgspec.Raw]] = ([], [], [])

    def note(self, name: str, fields: Mapping[str, object]) -> None:
        """Keep it for the next `sample`: an append, since it is said between two events."""
        self._said.append((self._now_ns() / 1e6, name, fields))

    def sample(self, row: Row) -> None:
        """A second has passed: `row` and what was noted since the last one are new from here on."""
        fills: list[msgspec.Raw] = []
        notes: list[msgspec.Raw] = []
        while self._said:
            ts_ms, name, fields = self._said.popleft()
            told = {key: self._redact(str(value))[:_TEXT_MAX] for key, value in fields.items()}
            (fills if name == "fill" else notes).append(msgspec.Raw(_encode(Note(ts_ms, name, told))))
        rows = [msgspec.Raw(_encode(row))]
        self._rows.extend(rows)
        self._fills.extend(fills)
        self._notes.extend(notes)
        self._new = (rows, fills, notes)

    def whole(self, status: Status) -> bytes:
        """For a browser that has nothing yet: everything up to the last sample."""
        return self._event(b"whole", status, (list(self._rows), list(self._fills), list(self._notes)))

    def more(self, status: Status) -> bytes:
        """For those who have everything up to the sample before."""
        return self._event(b"more", status, self._new)

    def _event(
        self, kind: bytes, status: Status, kept: tuple[list[msgspec.Raw], list[msgspec.Raw], list[msgspec.Raw]]
    ) -> bytes:
        update = _Update(VERSION, self._keep_s, status, Row.__struct_fields__, *kept)
        return b"event: " + kind + b"\ndata: " + _encode(update) + b"\n\n"
