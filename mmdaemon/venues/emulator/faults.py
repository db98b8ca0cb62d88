"""The faults of the emulated venue: what is to go wrong next, and for how long, at each hook of the server.

Two ways in: `inject`, at once, and `rates`, probabilities for each event that a kind is about. A rate's decision
depends on (seed, kind, where, ordinal) alone, so that taking one fault away moves no other.

    REST          on_request -> the venue works on it -> on_answer
    WebSocket     on_ask (login, subscribe) -> on_frame (each text sent) ; answers_ping, reads_socket
    the rest      `act`, which the server sets: closes, resets, refused connections, what others do to the account
"""

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Final

import msgspec
from aiohttp import web

from mmdaemon.clock import Clock
from mmdaemon.core.types import NS
from mmdaemon.venues.emulator import replies, spoilt
from mmdaemon.venues.emulator.rows import No
from mmdaemon.venues.emulator.wrong import FAULTS, Hook, Seconds, Wrong
from mmdaemon.venues.simulated.latency import Draws

SIDES: Final = ("", "public", "private")
"""`where` of what concerns sockets; "" is both."""
SECONDS_MAX: Final = 86_400.0
_HELD_S: Final = 300.0
"""How long a request that is never answered is kept, if the client does not hang up."""
_KEPT_ANSWERS: Final = 512
_KEPT_INJECTIONS: Final = 10_000
_VOLATILE: Final = frozenset({"startTime", "endTime"})
_ORDER_EPSILON_S: Final = 1e-5

_UNTRUE: Final = frozenset({Wrong.BOOK_CROSSED, Wrong.BOOK_ONE_SIDED, Wrong.BOOK_FROZEN, Wrong.PRICE_ABSURD})
"""What a client may have believed: a gap follows, so that it comes by the truth again."""


class Rate(msgspec.Struct, frozen=True):
    """Probability for each event that the kind is about and whose name has `where` in it; of kinds that have no event
    (sockets, the account), for each minute."""

    kind: Wrong
    probability: float
    seconds: float = 0.0
    where: str = ""


class Injected(msgspec.Struct, frozen=True):
    at_ms: int
    kind: Wrong
    seconds: float
    count: int
    where: str


class _Pending:
    __slots__ = ("kind", "left", "seconds", "until_ns", "where")

    def __init__(self, kind: Wrong, seconds: float, left: int, until_ns: int, where: str) -> None:
        self.kind, self.seconds, self.left, self.until_ns, self.where = kind, seconds, left, until_ns, where
        """`until_ns` 0: counted by `left`."""


def problem_of(kind: Wrong, seconds: float, count: int, where: str) -> str:
    """What is wrong with an injection; empty: nothing."""
    fault = FAULTS[kind]
    if not 0 <= seconds <= SECONDS_MAX:
        return f"{kind}: seconds must be 0 to {SECONDS_MAX:,.0f}, got {seconds:g}"
    if fault.seconds in {Seconds.LATE, Seconds.LASTS} and not seconds:
        return f"{kind}: needs seconds above 0 ({'how late' if fault.seconds is Seconds.LATE else 'how long'})"
    if fault.seconds is Seconds.ONCE and seconds:
        return f"{kind}: happens at once; it takes no seconds"
    if count < 1:
        return f"{kind}: count must be 1 at least, got {count}"
    if count > 1 and (fault.seconds is Seconds.LASTS or (fault.seconds is Seconds.EITHER and seconds)):
        return f"{kind}: it is either counted or lasts; give count or seconds"
    if fault.hook is Hook.SOCKET and where not in SIDES:
        return f"{kind}: where must be public, private or left out, got {where!r}"
    if fault.hook is Hook.ACCOUNT and where:
        return f"{kind}: it takes no where"
    return ""


def matches(kind: Wrong, where: str, name: str) -> bool:
    """Whether an event of this name is one that the kind is about."""
    only = FAULTS[kind].only
    return where in name and (not only or any(each in name for each in only))


class Faults:
    """What is pending, and the hooks that the server calls."""

    def __init__(self, clock: Clock, seed: int = 7, rates: Sequence[Rate] = ()) -> None:
        self._clock, self._seed = clock, seed
        self.act: Callable[[Wrong, float, str], None] | None = None
        """(kind, seconds, where): what the server does at once. Set by whoever has one."""
        self.seen: Counter[str] = Counter()
        """To how many requests, frames and sockets each kind was done."""
        self.injected: deque[Injected] = deque(maxlen=_KEPT_INJECTIONS)
        self._pending: dict[Hook, list[_Pending]] = {hook: [] for hook in Hook}
        self._closed = asyncio.Event()
        self._answers: OrderedDict[tuple[str, ...], str] = OrderedDict()
        self._gaps: set[str] = set()
        self._frozen: dict[str, str] = {}
        self._held_until_ns: dict[bool, int] = {}
        self._rates: dict[Hook, list[tuple[Rate, Draws]]] = {}
        self._ordinals: Counter[tuple[str, str]] = Counter()
        self.set_rates(rates)

    def set_rates(self, rates: Sequence[Rate]) -> None:
        """From now on, these and no others."""
        self._rates = {hook: [] for hook in Hook}
        for rate in rates:
            draws = Draws(self._seed, f"emulator/{rate.kind}/{rate.where}")
            self._rates[FAULTS[rate.kind].hook].append((rate, draws))

    def inject(self, kind: Wrong, *, seconds: float = 0.0, count: int = 1, where: str = "") -> None:
        """Let it go wrong from now on: see `wrong.py` for what `seconds` means. `where` is a part of the event's name:
        of a path or "GET"/"POST", of "public books update", "private orders", "private login".

        Raises:
            ValueError: it cannot be so.
            No: the venue would not do it now (liquidate without a position, ...).
        """
        if problem := problem_of(kind, seconds, count, where):
            raise ValueError(problem)
        fault = FAULTS[kind]
        self.injected.append(Injected(self._clock.wall_ns() // 1_000_000, kind, seconds, count, where))
        lasts = fault.seconds is Seconds.LASTS or (fault.seconds is Seconds.EITHER and seconds > 0)
        if kind in {Wrong.PONG_MUTED, Wrong.HALF_OPEN}:
            self.seen[kind] += 1
        elif fault.hook in {Hook.SOCKET, Hook.ACCOUNT}:
            if self.act is None:
                raise ValueError(f"{kind}: no server is there to do it")
            for _ in range(count):
                self.act(kind, seconds, where)
                self.seen[kind] += 1
            return
        until_ns = self._after_ns(seconds) if lasts else 0
        self._pending[fault.hook].append(_Pending(kind, seconds, 0 if lasts else count, until_ns, where))

    def clear(self) -> None:
        """Nothing more goes wrong, but what is on its way."""
        for pending in self._pending.values():
            pending.clear()
        self.set_rates(())

    def close(self) -> None:
        """Let go of the requests that are kept waiting."""
        self._closed.set()

    @property
    def is_calm(self) -> bool:
        """Nothing is pending, and nothing drawn."""
        return not any(self._lasting(hook) or self._rates[hook] for hook in Hook)

    def minute(self, ordinal: int) -> None:
        """Draw for the kinds that have no event: once a minute, by the server. What the venue would not do then is not
        done."""
        for hook in (Hook.SOCKET, Hook.ACCOUNT):
            for rate, draws in self._rates[hook]:
                if draws.happens(ordinal, rate.probability):
                    with suppress(ValueError, No):
                        self.inject(rate.kind, seconds=rate.seconds, where=rate.where)

    # --- REST ---------------------------------------------------------------------------------------------------------

    async def on_request(self, request: web.Request, path: str) -> web.StreamResponse | None:
        """Before the venue works on a request. None: it goes on. Whatever became of the client meanwhile."""
        if self._is_idle(Hook.REQUEST):
            return None
        for kind, seconds in self._due(Hook.REQUEST, f"{request.method} {path}"):
            match kind:
                case Wrong.LATENCY | Wrong.DELIVERED_LATE:
                    await self._pause(seconds)
                case Wrong.REQUEST_LOST:
                    return await self._never(request)
                case Wrong.CONNECTION_RESET:
                    return replies.cut(request)
                case Wrong.RATE_LIMIT_TEXT:
                    return replies.limited("3")
                case _:
                    return replies.instead(kind, path, self._now_ms())
        return None

    async def on_answer(self, request: web.Request, path: str, response: web.Response) -> web.StreamResponse:
        """After it: what the client is told instead."""
        is_read = request.method == "GET"
        query = sorted((name, value) for name, value in request.query.items() if name not in _VOLATILE)
        key = (path, *(f"{name}={value}" for name, value in query))
        kept = response
        if not self._is_idle(Hook.ANSWER):
            for kind, seconds in self._due(Hook.ANSWER, f"{request.method} {path}"):
                if kind is Wrong.STALE_READS:
                    if key in self._answers:
                        response = kept = replies.of_json(spoilt.at_moment(self._answers[key], self._now_ms()))
                    continue
                done = await self._after(kind, seconds, request, path, response)
                if not isinstance(done, web.Response) or replies.is_gone(request):
                    return done
                response = done
        if is_read and kept.status == 200:  # what the venue said, whatever another fault made of it
            self._answers[key] = kept.text or ""
            self._answers.move_to_end(key)
            if len(self._answers) > _KEPT_ANSWERS:
                self._answers.popitem(last=False)
        return response

    async def _after(
        self, kind: Wrong, seconds: float, request: web.Request, path: str, response: web.Response
    ) -> web.StreamResponse:
        text = response.text or ""
        match kind:
            case Wrong.ANSWER_LOST:
                return await self._never(request)
            case Wrong.ANSWER_SLOW:
                await self._pause(seconds)
                return response
            case Wrong.ANSWER_RESET:
                return replies.cut(request)
            case Wrong.RESET_MID_BODY:
                return await replies.cut_in_half(request, text.encode())
            case Wrong.SLOW_504:
                await self._pause(seconds)
                return replies.instead(kind, path, self._now_ms())
            case Wrong.EMPTY_200:
                return replies.of_json("")
            case Wrong.TRUNCATED_JSON:
                return replies.of_json(text[: len(text) // 2])
            case Wrong.WRONG_CONTENT_TYPE:
                return web.Response(status=response.status, text=text, content_type="text/html")
            case Wrong.DEEP_JSON:
                return replies.of_json(spoilt.DEEP)
            case _ if kind in replies.INSTEAD:
                return replies.instead(kind, path, self._now_ms())
            case _:
                return replies.of_json(spoilt.answer(kind, text), response.status)

    async def _never(self, request: web.Request) -> web.StreamResponse:
        """Keep it until the client gives up, then cut."""
        deadline = self._clock.mono_ns() + round(_HELD_S * NS)
        while self._clock.mono_ns() < deadline and not self._closed.is_set():
            if replies.is_gone(request):
                break
            await self._pause(0.02)
        return replies.cut(request)

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closed.wait()

    # --- WebSocket ----------------------------------------------------------------------------------------------------

    def on_ask(self, private: bool, ask: str) -> tuple[int, str] | None:
        """A login or subscription (`ask`: "login", "subscribe books", ...) that is refused: code and text of the error.
        None: it goes on."""
        if ask == "login":
            name = "GET /api/login"
            for kind in (Wrong.KEY_REVOKED, Wrong.KEY_WRONG):
                if any(each.kind is kind for each in self._live(Hook.REQUEST, name)):
                    self.seen[kind] += 1
                    return replies.NO_LOGIN[kind]
        if not self._is_idle(Hook.ASK):
            for kind, _seconds in self._due(Hook.ASK, f"{_side(private)} {ask}"):
                return replies.NO_LOGIN.get(kind, (30001, "channel doesn't exist"))
        return None

    def on_frame(self, private: bool, kind: str, text: str) -> list[tuple[float, str]]:
        """What is sent instead of a frame of this channel kind (or acknowledgement: "login", "subscribe"), each with a
        delay in seconds."""
        if self._is_idle(Hook.FRAME) and not self._pending[Hook.SOCKET] and not self._gaps and not self._held_until_ns:
            return [(0.0, text)]
        if self._lasts(Wrong.HALF_OPEN, private):
            return []
        if kind == "pong":  # a fault of its own; but what holds frames holds it too
            return [(self._held_s(private), text)]
        name = f"{_side(private)} {kind}"
        if kind.startswith("books"):
            name += " snapshot" if '"snapshot"' in text else " update"
        late_s, again_s, untrue = 0.0, -1.0, False
        for what, seconds in self._due(Hook.FRAME, name):
            match what:
                case (
                    Wrong.FRAME_LOST | Wrong.BOOK_SILENT | Wrong.PUBLIC_SILENT | Wrong.PRIVATE_SILENT
                    | Wrong.FILLS_LOST | Wrong.ORDERS_LOST | Wrong.ACK_LOST
                ):  # fmt: skip
                    return []
                case Wrong.FRAME_TWICE:
                    again_s = seconds
                case Wrong.FRAME_LATE | Wrong.ACK_LATE:
                    late_s = max(late_s, seconds)
                case Wrong.FRAMES_HELD:
                    self._held_until_ns.setdefault(private, self._clock.mono_ns() + round(seconds * NS))
                case Wrong.BOOK_FROZEN if kind != "books":
                    untrue, text = True, spoilt.refreshed(self._frozen.setdefault(kind, text), text)
                case _:
                    untrue = untrue or what in _UNTRUE
                    text = spoilt.frame(what, text)
        if kind.startswith("books"):
            text = self._gapped(kind, text, untrue=untrue)
        late_s = max(late_s, self._held_s(private))
        sent = [(late_s, text)]
        return [*sent, (late_s + again_s, text)] if again_s >= 0 else sent

    def _gapped(self, kind: str, text: str, *, untrue: bool) -> str:
        if untrue:
            self._gaps.add(kind)
        elif kind in self._gaps:
            self._gaps.discard(kind)
            self._frozen.pop(kind, None)
            return spoilt.frame(Wrong.BOOK_GAP, text)
        return text

    def _held_s(self, private: bool) -> float:
        """What is held comes in order: each a little after the one before it."""
        until_ns = self._held_until_ns.get(private)
        if until_ns is None:
            return 0.0
        left_s = (until_ns - self._clock.mono_ns()) / NS
        if left_s <= 0:
            del self._held_until_ns[private]
            return 0.0
        self._held_until_ns[private] = until_ns + round(_ORDER_EPSILON_S * NS)
        return left_s

    def answers_ping(self, private: bool) -> bool:
        return not (self._lasts(Wrong.PONG_MUTED, private) or self._lasts(Wrong.HALF_OPEN, private))

    def reads_socket(self, private: bool) -> bool:
        """Whether what the client sends is read."""
        return not self._lasts(Wrong.HALF_OPEN, private)

    # --- what is due --------------------------------------------------------------------------------------------------

    def _is_idle(self, hook: Hook) -> bool:
        return not self._pending[hook] and not self._rates[hook]

    def _due(self, hook: Hook, name: str) -> Iterator[tuple[Wrong, float]]:
        """The kinds that happen to an event of this name, with their seconds. Each is counted and used up as it is
        taken: what comes after one that ends the event is left for the next."""
        drawn: list[Rate] = []
        for rate, draws in self._rates[hook]:
            if matches(rate.kind, rate.where, name):
                self._ordinals[rate.kind, rate.where] += 1
                if draws.happens(self._ordinals[rate.kind, rate.where], rate.probability):
                    drawn.append(rate)
        for each in self._live(hook, name):
            if not each.until_ns:
                each.left -= 1
                if not each.left:
                    self._pending[hook].remove(each)
            self.seen[each.kind] += 1
            yield each.kind, each.seconds
        for rate in drawn:
            self.seen[rate.kind] += 1
            if FAULTS[rate.kind].seconds in {Seconds.LASTS, Seconds.EITHER} and rate.seconds:
                self.inject(rate.kind, seconds=rate.seconds, where=rate.where)
            yield rate.kind, rate.seconds

    def _live(self, hook: Hook, name: str) -> list[_Pending]:
        return [each for each in self._lasting(hook) if matches(each.kind, each.where, name)]

    def _lasts(self, kind: Wrong, private: bool) -> bool:
        if not self._pending[Hook.SOCKET]:
            return False
        side = _side(private)
        return any(each.kind is kind and each.where in {"", side} for each in self._lasting(Hook.SOCKET))

    def _lasting(self, hook: Hook) -> list[_Pending]:
        """What is pending there; windows that are over are forgotten."""
        now = self._clock.mono_ns()
        pending = self._pending[hook]
        if any(each.until_ns and each.until_ns <= now for each in pending):
            pending[:] = [each for each in pending if not each.until_ns or each.until_ns > now]
        return pending

    def _after_ns(self, seconds: float) -> int:
        return self._clock.mono_ns() + round(seconds * NS)

    def _now_ms(self) -> int:
        return self._clock.wall_ns() // 1_000_000


def _side(private: bool) -> str:
    return "private" if private else "public"
