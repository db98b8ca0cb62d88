"""How requests leave this process: each endpoint within its own budget, and nothing in the way of a cancel.

ccxt sends all of REST through one queue, so that a cancel waits behind polls, and 1.1 s behind a batch (measured). Here
an endpoint has a budget of its own (`budget.py`), and its lane says what may be done once that is spent:

    order    what would wait longer than 1 s is not sent: it was decided for a market that is gone. It is signed when it
             is asked for, so that the venue takes it no later than its window after that, wherever it waited
    cancel   waits as long as it takes, behind nothing but cancels of the same endpoint, and is signed as it leaves. One
             that waits already is not queued again: whoever asks for it too gets its outcome. A cancel-all drops the
             orders that wait, be it for a connection: they would land behind it
    other    waits up to the time-out, and is signed as it leaves

A request is sent once, and what comes of it is heard whoever waits: a caller that is cancelled never un-sends it, and
nothing here sends it again. What came of it is one of the four of `api`, always.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final, Protocol

import msgspec

from mmdaemon.clock import Clock
from mmdaemon.venues.bitget import endpoints
from mmdaemon.venues.bitget.api import Answer, Endpoint, Meaning, Refused, Request, Unanswered, Unsent
from mmdaemon.venues.bitget.codes import meaning
from mmdaemon.venues.budget import BACK_OFF_S, Budget
from mmdaemon.venues.codec import Malformed, milliseconds_ns
from mmdaemon.venues.wire_answer import Lost, Reply
from mmdaemon.venues.wire_http import Tell

ORDER_WAIT_S: Final = 1.0
RETRY_AFTER_MAX_S: Final = 30.0
"""A longer `Retry-After` is taken for this. A cancel is held back for `BACK_OFF_S` at most."""
IN_FLIGHT_MAX: Final = 20
"""Orders under way, and other requests, beyond which no more of them leave: each has a connection to itself, and what
nobody answers keeps it for as long as the time-out."""

_SUCCESS: Final = "00000"
_CODE_MAX: Final = 12
_TOO_MANY: Final = 429
_NAMED_STATUSES: Final = frozenset((400, 401, 403, 404, 405, 408, 418, 451, 500, 502, 503, 504, 520, 521, 522, 524))


class Signer(Protocol):
    def sign(self, request: Request) -> tuple[str, dict[str, str], bytes | None]:
        """URL, headers and body, stamped with the time of this call."""
        ...


class Call(Protocol):
    @property
    def is_dialling(self) -> bool:
        """Nothing of it has left."""
        ...

    def give_up(self, why: Lost) -> None:
        """End it, if it has not; what came of it is `why`."""
        ...


class Wire(Protocol):
    """One request, and what came of it: `wire_http.HttpClient`, or a test."""

    @property
    def closed(self) -> bool: ...
    def send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, timeout_s: float, tell: Tell
    ) -> Call:
        """Return at once. `tell` is called once, never within this. Raises ValueError where nothing can be sent."""
        ...


class _Envelope(msgspec.Struct, frozen=True):
    code: str | int
    msg: str | None = None
    requestTime: str | int | None = None  # noqa: N815 - the venue's word
    data: msgspec.Raw = msgspec.Raw(b"null")


_Outcome = Answer | Refused | Unanswered | Unsent


class Lanes:
    """See `api.Sends`. One event loop uses it."""

    def __init__(self, signer: Signer, wire: Wire, clock: Clock, timeout_s: float) -> None:
        """`timeout_s` counts from the moment that a request leaves."""
        self._signer = signer
        self._wire = wire
        self._clock = clock
        self._timeout_s = timeout_s
        self._budgets: dict[str, Budget] = {}
        self._under_way: dict[str, dict[Call, Request]] = {"order": {}, "cancel": {}, "other": {}}
        self._taking_back = ""
        """Why, while orders that had no connection yet are given up."""
        self._waiting: dict[tuple[str, str], asyncio.Future[_Outcome | None]] = {}
        """Cancels whose turn has not come, by path and what is asked for; None: who asked is gone."""
        self._closed = False
        self.sent: Counter[str] = Counter()
        """Requests that left, by path."""
        self.limited: Counter[str] = Counter()
        """Of them, answered with "too many", by path."""
        self.unanswered: Counter[tuple[str, str]] = Counter()
        """Of them, without an answer that says anything, by path and reason."""
        self.unsent: Counter[tuple[str, str]] = Counter()
        """Requests that never left, by path and reason."""

    @property
    def in_flight(self) -> int:
        return sum(len(calls) for calls in self._under_way.values())

    async def ask(self, request: Request) -> Answer:
        """See `api.Sends.ask`. Reasons of `Unsent`: budget, in_flight, cancel_all, closed, malformed. Of `Unanswered`:
        those of `wire_answer.Lost`, http_<status>."""
        endpoint = request.endpoint
        if self._closed:
            raise self._not_sent(endpoint, "closed")
        if endpoint in endpoints.CANCEL_ALLS:
            self._drop("cancel_all", "order")
            self._take_back("cancel_all")
        outcome = await (self._in_turn(request) if endpoint.lane != "cancel" else self._once(request))
        if isinstance(outcome, Answer):
            return outcome
        raise outcome

    async def _once(self, request: Request) -> _Outcome:
        """A cancel, unless the same one waits already: who sweeps in a storm asks for the same ones again and again,
        and what is asked for next would have to wait behind all of that."""
        key = request.endpoint.path, repr(request.params)
        while (same := self._waiting.get(key)) is not None:
            if (outcome := await asyncio.shield(same)) is not None:
                return outcome
        self._waiting[key] = told = asyncio.get_running_loop().create_future()
        outcome: _Outcome | None = None
        try:
            outcome = await self._in_turn(request, lambda: self._waiting.pop(key))
            return outcome
        finally:
            if self._waiting.get(key) is told:
                del self._waiting[key]
            told.set_result(outcome)

    async def _in_turn(self, request: Request, on_turn: Callable[[], object] = lambda: None) -> _Outcome:
        """What came of it; it raises none of that."""
        endpoint = request.endpoint
        signed = self._signer.sign(request) if endpoint.lane == "order" else None
        why_not = await self._budget(endpoint).turn(self._patience_s(endpoint), request)
        on_turn()
        if why_not is not None:
            return self._not_sent(endpoint, why_not)
        under_way = self._under_way[endpoint.lane]
        if endpoint.lane != "cancel" and len(under_way) >= IN_FLIGHT_MAX:
            return self._not_sent(endpoint, "in_flight")
        if self._closed or self._wire.closed:
            return self._not_sent(endpoint, "closed")
        url, headers, body = signed or self._signer.sign(request)
        told: asyncio.Future[_Outcome] = asyncio.get_running_loop().create_future()

        def tell(came: Reply | Lost) -> None:
            del under_way[call]
            if self._taking_back:
                self.sent[endpoint.path] -= 1
                outcome = self._not_sent(endpoint, self._taking_back)
            else:
                outcome = self._outcome(endpoint, came)
            if not told.done():  # else its caller is gone
                told.set_result(outcome)

        try:
            call = self._wire.send(endpoint.method, url, headers, body, self._timeout_s, tell)
        except ValueError:
            return self._not_sent(endpoint, "malformed")
        self.sent[endpoint.path] += 1
        under_way[call] = request
        return await told

    def withdraw(self, request: Request) -> bool:
        """It waits for its turn or a connection, and does not leave: whoever asked hears `Unsent`. False: it left, or
        was not asked."""
        budget = self._budgets.get(request.endpoint.path)
        if budget is not None and budget.drop("withdrawn", request):
            return True
        return self._take_back("withdrawn", request)

    def _take_back(self, why: str, of: Request | None = None) -> bool:
        """Orders whose connection is still being made: nothing of them has left, and nothing will."""
        begun = self._under_way["order"].items()
        calls = [call for call, request in begun if call.is_dialling and (of is None or request is of)]
        self._taking_back = why
        for call in calls:
            call.give_up(Lost.CLOSED)
        self._taking_back = ""
        return bool(calls)

    async def close(self) -> None:
        """Nothing leaves any more. What waits is unsent; what is under way is unanswered, although it may well land."""
        self._closed = True
        self._drop("closed", "order", "cancel", "other")
        for call in [call for calls in self._under_way.values() for call in calls]:
            call.give_up(Lost.CLOSED)

    def _drop(self, why: str, *lanes: str) -> None:
        for budget in self._budgets.values():
            if budget.endpoint.lane in lanes:
                budget.drop(why)

    def _budget(self, endpoint: Endpoint) -> Budget:
        budget = self._budgets.get(endpoint.path)
        if budget is None:
            budget = self._budgets[endpoint.path] = Budget(endpoint, self._clock)
        return budget

    def _patience_s(self, endpoint: Endpoint) -> float | None:
        match endpoint.lane:
            case "order":
                return ORDER_WAIT_S
            case "cancel":
                return None
            case "other":
                return self._timeout_s

    def _not_sent(self, endpoint: Endpoint, why: str) -> Unsent:
        self.unsent[endpoint.path, why] += 1
        return Unsent(why)

    # --- one request --------------------------------------------------------------------------------------------------

    def _outcome(self, endpoint: Endpoint, came: Reply | Lost) -> Answer | Refused | Unanswered:
        if isinstance(came, Lost):
            outcome = Unanswered(came.value)
        else:
            outcome = _read(came.status, came.body, endpoint.path)
            if came.status == _TOO_MANY or (isinstance(outcome, Refused) and outcome.meaning is Meaning.RATE_LIMIT):
                self.limited[endpoint.path] += 1
                most_s = BACK_OFF_S if endpoint.lane == "cancel" else RETRY_AFTER_MAX_S
                self._budget(endpoint).limited(min(most_s, _retry_after_s(came.retry_after)))
        if isinstance(outcome, Unanswered):
            self.unanswered[endpoint.path, str(outcome)] += 1
        return outcome


def _read(status: int, text: bytes, path: str) -> Answer | Refused | Unanswered:
    """What an answer says. Nothing of its text goes into the outcome but the code, where that looks like one."""
    try:
        envelope = msgspec.json.decode(text, type=_Envelope)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Refused(Meaning.RATE_LIMIT, "http_429") if status == _TOO_MANY else _meaningless(status)
    code = str(envelope.code)
    if not (code.isascii() and code.isalnum() and len(code) <= _CODE_MAX):
        return _meaningless(status)
    if code != _SUCCESS:
        return Refused(meaning(code, path), code)
    if status != 200 or envelope.msg not in ("success", "", None):  # the words that ccxt takes for success
        return _meaningless(status)
    try:
        return Answer(envelope.data, milliseconds_ns(envelope.requestTime))
    except Malformed:
        return _meaningless(status)


def _meaningless(status: int) -> Unanswered:
    if status == 200:
        return Unanswered("unreadable")
    return Unanswered(f"http_{status}" if status in _NAMED_STATUSES else f"http_{status // 100}xx")


def _retry_after_s(said: str) -> float:
    """In seconds; a date is not read (the venue sends none), and a budget that is halved must do."""
    return float(said) if said.isascii() and said.isdecimal() and len(said) <= 6 else 0.0
