"""The door for signals from outside: what can be read and does not come too fast goes into the inbox, as it was said.

    mmdaemon signal -> control socket -> Signals.say -> offer -> inbox -> core (core/signals.py judges, weighs, ends)

Nothing is believed here. What cannot be read and what comes beyond a source's rate is counted, and told to the core in
sums, so that a flood costs one event in a quarter of a second and one row of the journal.
"""

from collections import Counter
from math import isfinite
from typing import Annotated

import msgspec

from mmdaemon.clock import Clock
from mmdaemon.core.events import SignalReceived, SignalRefused
from mmdaemon.core.params import Params
from mmdaemon.core.signals import REFUSALS, VERSION, why_refused
from mmdaemon.core.state import State
from mmdaemon.core.types import NS
from mmdaemon.daemon.inbox import Inbox
from mmdaemon.daemon.operator import Outcome
from mmdaemon.daemon.pace import sleep_ns

_SUMMED_NS = NS // 4
_BURST = 1.0 / 6.0
"""Of a minute's signals: so many may come at once."""
LINE_MAX_BYTES = 2_048

_Name = Annotated[str, msgspec.Meta(max_length=64)]


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A signal as it is written, one JSON object: `docs/SIGNALS.md`."""

    source: _Name
    kind: _Name
    value: float | _Name
    confidence: float
    ts_ns: int
    """When its source says it, ns of UTC."""
    ttl_s: float
    sequence: int
    version: int = VERSION


class _Rate:
    """A bucket of what a source may still say: it fills by the minute, and holds a sixth of one."""

    __slots__ = ("_left", "_per_minute", "_since_ns")

    def __init__(self, per_minute: int, now_ns: int) -> None:
        self._per_minute = per_minute
        self._left = max(1.0, per_minute * _BURST)
        self._since_ns = now_ns

    def admits(self, now_ns: int) -> bool:
        grown = (now_ns - self._since_ns) * self._per_minute / (60 * NS)
        self._left = min(max(1.0, self._per_minute * _BURST), self._left + grown)
        self._since_ns = now_ns
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


_decode = msgspec.json.Decoder(Message).decode


def read_line(line: bytes) -> Message:
    """A message as it is written.

    Raises:
        ValueError: it is none; says why, and does not repeat it.
    """
    if len(line) > LINE_MAX_BYTES:
        raise ValueError(f"{len(line)} bytes, at most {LINE_MAX_BYTES} are read")
    try:
        message = _decode(line)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ValueError(str(error)[:200]) from error
    if not all(-(1 << 63) <= number < 1 << 63 for number in (message.sequence, message.ts_ns)):
        raise ValueError("`sequence` or `ts_ns` does not fit 64 bits")
    return message


class Signals:
    """Takes what sources say. `run` is one of the daemon's coroutines: it tells the sums."""

    def __init__(self, state: State, params: Params, inbox: Inbox, clock: Clock) -> None:
        self._state = state
        self._params = params
        self._inbox = inbox
        self._clock = clock
        now_ns = clock.mono_ns()
        rates = {name: row.rate_per_minute for name, row in params.signals.sources.items()}
        # Whoever is not named shares one, so that made-up names are no way around it.
        rates[""] = min(rates.values(), default=60)
        self._rates = {name: _Rate(per_minute, now_ns) for name, per_minute in rates.items()}
        self._refused: Counter[tuple[str, str]] = Counter()

    def offer(self, message: Message) -> str:
        """Hand it to the core, or count it. Returns "flooding" where it was dropped, else nothing."""
        now_ns = self._clock.mono_ns()
        known = message.source if message.source in self._rates else ""
        if not self._rates[known].admits(now_ns):
            self._refused[known, "flooding"] += 1
            return "flooding"
        self._inbox.post(self._event(message))
        return ""

    def read(self, line: bytes) -> Message | str:
        """A message, or why it is none. Counted, and never repeated whole."""
        try:
            return read_line(line)
        except ValueError as error:
            self._refused["", "malformed"] += 1
            return str(error)

    async def say(self, line: str) -> Outcome:
        """The verb `signal`: offered, dealt with, and answered with what became of it."""
        message = self.read(line.encode("utf-8", "backslashreplace"))
        if isinstance(message, str):
            return Outcome(False, 1, f"refused, malformed: {message}")
        await self._inbox.settled()  # so that nothing comes between the answer and the event
        why = why_refused(self._state.signals, self._event(message), self._params.signals)
        why = self.offer(message) or why
        await self._inbox.settled()
        if why:
            return Outcome(False, 1, f"refused, {why}: {REFUSALS[why]}")
        row = self._params.signals.sources[message.source]
        does = "recorded, and does nothing (a shadow source)" if row.shadow else "taken"
        return Outcome(True, 0, f"{does}: {message.kind} {message.value} for {message.ttl_s:g} s")

    async def run(self) -> None:
        """Tell the core of what was not let in."""
        while True:
            await sleep_ns(self._clock, _SUMMED_NS)
            refused, self._refused = self._refused, Counter()
            for (source, why), count in sorted(refused.items()):
                self._inbox.post(SignalRefused(self._clock.mono_ns(), self._clock.wall_ns(), None, source, why, count))

    def _event(self, message: Message) -> SignalReceived:
        return SignalReceived(
            mono_ns=self._clock.mono_ns(),
            ts_ns=self._clock.wall_ns(),
            venue_ts_ns=None,
            source=message.source,
            kind=message.kind,
            value=message.value,
            confidence=message.confidence,
            said_ts_ns=message.ts_ns,
            ttl_s=message.ttl_s,
            sequence=message.sequence,
            version=message.version,
        )


def number_or_word(text: str) -> float | str:
    """The value of a signal as a person writes it."""
    try:
        number = float(text)
    except ValueError:
        return text
    return number if isfinite(number) else text
