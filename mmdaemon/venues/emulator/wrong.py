"""Everything that the emulated venue, and the network before it, can be made to do wrong: one row each.

`what` is done on the wire, `must` is what an honest client does about it. `seconds` of an injection means:

    LATE      how late, or how long it takes; the next `count` events that match
    EITHER    0: the next `count` events that match; above 0: all that match for so long
    LASTS     how long; it cannot be counted
    ONCE      nothing: it happens when it is asked for, or to the next `count` events that match
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, NamedTuple


class Hook(StrEnum):
    REQUEST = "request"
    """Before the venue works on a REST request: it may never do."""
    ANSWER = "answer"
    """After it worked on it: whatever was asked for has happened."""
    FRAME = "frame"
    """What is sent on a WebSocket: pushes, and acknowledgements ("login", "subscribe")."""
    ASK = "ask"
    """A login or subscription that a client asks for."""
    SOCKET = "socket"
    """The sockets themselves, at once."""
    ACCOUNT = "account"
    """What somebody else does to the account, at once."""


class Seconds(StrEnum):
    LATE = "late"
    EITHER = "either"
    LASTS = "lasts"
    ONCE = "once"


class Fault(NamedTuple):
    hook: Hook
    seconds: Seconds
    what: str
    must: str
    only: tuple[str, ...] = ()
    """Events that it is about; one of these is in "METHOD /api/path", "public books", "private orders", ..."""


class Wrong(StrEnum):
    """The kinds. What each does, and what it asks of a client, is its row of `FAULTS`."""

    LATENCY = "latency"
    DELIVERED_LATE = "delivered_late"
    REQUEST_LOST = "request_lost"
    CONNECTION_RESET = "connection_reset"
    RATE_LIMIT = "rate_limit"
    RATE_LIMIT_TEXT = "rate_limit_text"
    FORBIDDEN_HTML = "forbidden_html"
    UNAVAILABLE_503 = "unavailable_503"
    MAINTENANCE_CODE = "maintenance_code"
    MAINTENANCE_HTTP = "maintenance_http"
    SERVICE_ERROR_UNDONE = "service_error_undone"
    CLOCK_REFUSED = "clock_refused"
    KEY_REVOKED = "key_revoked"
    KEY_WRONG = "key_wrong"
    PERMISSION_REFUSED = "permission_refused"
    MARGIN_REFUSED = "margin_refused"
    READS_FAIL = "reads_fail"
    READ_NOT_FOUND = "read_not_found"
    CANCEL_NOT_FOUND = "cancel_not_found"

    ANSWER_LOST = "answer_lost"
    ANSWER_SLOW = "answer_slow"
    ANSWER_RESET = "answer_reset"
    RESET_MID_BODY = "reset_mid_body"
    SLOW_504 = "slow_504"
    ERROR_500 = "error_500"
    BAD_GATEWAY_HTML = "bad_gateway_html"
    SERVICE_ERROR = "service_error"
    SYSTEM_ERROR = "system_error"
    REQUEST_TIMED_OUT = "request_timed_out"
    UNKNOWN_CODE = "unknown_code"
    HTML_200 = "html_200"
    EMPTY_200 = "empty_200"
    TRUNCATED_JSON = "truncated_json"
    WRONG_CONTENT_TYPE = "wrong_content_type"
    DEEP_JSON = "deep_json"
    MISTYPED_ANSWER = "mistyped_answer"
    DUPLICATE_FIELDS = "duplicate_fields"
    BATCH_ROWS_DROPPED = "batch_rows_dropped"
    PAGE_TRUNCATED = "page_truncated"
    STALE_READS = "stale_reads"
    FUTURE_CLOCK = "future_clock"
    MINIMUM_CHANGED = "minimum_changed"
    DELISTED = "delisted"

    FRAME_LOST = "frame_lost"
    FRAME_TWICE = "frame_twice"
    FRAME_LATE = "frame_late"
    FRAMES_HELD = "frames_held"
    FRAME_TRUNCATED = "frame_truncated"
    FRAME_NOT_JSON = "frame_not_json"
    FRAME_DEEP = "frame_deep"
    FRAME_HUGE = "frame_huge"
    FRAME_MISTYPED = "frame_mistyped"
    FRAME_OTHER_SYMBOL = "frame_other_symbol"
    FRAME_FUTURE = "frame_future"
    PRICE_NAN = "price_nan"
    PRICE_INFINITE = "price_infinite"
    PRICE_ZERO = "price_zero"
    PRICE_NEGATIVE = "price_negative"
    PRICE_ABSURD = "price_absurd"
    BOOK_GAP = "book_gap"
    BOOK_RESTART = "book_restart"
    BOOK_CHECKSUM = "book_checksum"
    BOOK_CROSSED = "book_crossed"
    BOOK_ONE_SIDED = "book_one_sided"
    BOOK_FROZEN = "book_frozen"
    BOOK_SILENT = "book_silent"
    PUBLIC_SILENT = "public_silent"
    PRIVATE_SILENT = "private_silent"
    FILLS_LOST = "fills_lost"
    ORDERS_LOST = "orders_lost"
    ACK_LATE = "ack_late"
    ACK_LOST = "ack_lost"

    LOGIN_REFUSED = "login_refused"
    SUBSCRIBE_REFUSED = "subscribe_refused"
    PONG_MUTED = "pong_muted"
    HALF_OPEN = "half_open"
    FORCED_CLOSE = "forced_close"
    SOCKET_RESET = "socket_reset"
    CONNECTION_REFUSED = "connection_refused"
    RESTART = "restart"

    FOREIGN_ORDER = "foreign_order"
    MANUAL_TRADE = "manual_trade"
    LIQUIDATION = "liquidation"
    TRANSFER = "transfer"
    LEVERAGE_CHANGED = "leverage_changed"
    HEDGE_MODE = "hedge_mode"
    PERMISSION_WIDENED = "permission_widened"
    PERMISSION_NARROWED = "permission_narrowed"
    FEES_CHANGED = "fees_changed"


_BOOKS: Final = ("public books",)
_UPDATES: Final = ("public books update",)
_MARKET: Final = ("public books", "public trades", "public ticker")
_READS: Final = ("GET ",)
_ORDER: Final = ("GET /api/v2/mix/order/detail", "GET /api/v3/trade/order-info")
_PLACES: Final = ("order/place-order", "trade/place-order")
_CANCELS: Final = ("order/cancel-order", "trade/cancel-order")
_BATCHES: Final = ("batch-place-order", "trade/place-batch")
_INSTRUMENT: Final = ("market/contracts", "market/instruments")
_ACKS: Final = ("public subscribe", "private subscribe", "private login")
_AMBIGUOUS: Final = "an order of it is UNKNOWN until the venue is asked for it; it is not sent again"
_CERTAIN: Final = "certain: not placed"
_REREAD: Final = "the book is invalid until a snapshot; quotes are pulled"
_BAD_FRAME: Final = "refused and counted; nothing is taken from it; what it may have said is read over REST"


def _rows() -> dict[Wrong, Fault]:
    def before(seconds: Seconds, what: str, must: str, only: tuple[str, ...] = ()) -> Fault:
        return Fault(Hook.REQUEST, seconds, what, must, only)

    def after(seconds: Seconds, what: str, must: str, only: tuple[str, ...] = ()) -> Fault:
        return Fault(Hook.ANSWER, seconds, what, must, only)

    def frame(seconds: Seconds, what: str, must: str, only: tuple[str, ...] = ()) -> Fault:
        return Fault(Hook.FRAME, seconds, what, must, only)

    def socket(seconds: Seconds, what: str, must: str) -> Fault:
        return Fault(Hook.SOCKET, seconds, what, must)

    def outside(what: str, must: str) -> Fault:
        return Fault(Hook.ACCOUNT, Seconds.ONCE, what, must)

    late, either, lasts = Seconds.LATE, Seconds.EITHER, Seconds.LASTS
    w = Wrong
    return {
        # --- before the venue works on it -----------------------------------------------------------------------------
        w.LATENCY: before(late, "the request takes longer to arrive", "no request of another lane waits for it"),
        w.DELIVERED_LATE: before(
            late,
            "the request arrives late, whatever the client believes by then",
            "a time-out is no rejection: the order is UNKNOWN, and `not found` counts after the in-flight window only",
        ),
        w.REQUEST_LOST: before(
            either, "the request never arrives and is never answered", "time-out, UNKNOWN; resolved as not found, late"
        ),
        w.CONNECTION_RESET: before(
            either, "the connection is reset before the venue worked on the request", "the same as a lost answer"
        ),
        w.RATE_LIMIT: before(
            either, "HTTP 429 with JSON code 429", f"{_CERTAIN}; back off, cancels go on, no storm of retries"
        ),
        w.RATE_LIMIT_TEXT: before(
            either, "HTTP 429 with text and Retry-After", f"{_CERTAIN}; waits as long as it is told"
        ),
        w.FORBIDDEN_HTML: before(either, "HTTP 403 with an HTML page (firewall, ban)", _AMBIGUOUS),
        w.UNAVAILABLE_503: before(either, "HTTP 503 with text; nothing is done", _AMBIGUOUS),
        w.MAINTENANCE_CODE: before(either, "code 40200, under maintenance", f"{_CERTAIN}; pauses, reads on"),
        w.MAINTENANCE_HTTP: before(either, "HTTP 503 with an HTML maintenance page", f"{_AMBIGUOUS}; pauses"),
        w.SERVICE_ERROR_UNDONE: before(
            either, "code 40725 (service error), and nothing is done", f"{_AMBIGUOUS}; found absent"
        ),
        w.CLOCK_REFUSED: before(
            either, "code 40008: the timestamp lies outside the window", f"{_CERTAIN}; reads the venue's clock, no loop"
        ),
        w.KEY_REVOKED: before(
            either, "code 40006, login 30011: no such key", f"{_CERTAIN}; reads fail: facts unknown, quoting stops"
        ),
        w.KEY_WRONG: before(either, "code 40012, login 30012: key or passphrase wrong", "as for a revoked key"),
        w.PERMISSION_REFUSED: before(
            either,
            "code 40014 for whatever changes something: the key may not",
            f"{_CERTAIN}; reject streak",
            ("POST ",),
        ),
        w.MARGIN_REFUSED: before(
            either, "an order is refused for want of margin (40762, 25202)", f"{_CERTAIN}; no storm of retries", _PLACES
        ),
        w.READS_FAIL: before(
            either, "reads are answered with code 40015", "a failed read says nothing; it is never zero", _READS
        ),
        w.READ_NOT_FOUND: before(
            either,
            "an order's read says there is none, although it may rest",
            "counts after the in-flight window only, and twice",
            _ORDER,
        ),
        w.CANCEL_NOT_FOUND: before(
            either,
            "a cancel is refused for want of such an order, although it may rest; nothing is done",
            "what became of the order is read; it stays reserved, and is cancelled again",
            _CANCELS,
        ),
        # --- after it did what was asked ------------------------------------------------------------------------------
        w.ANSWER_LOST: after(either, "it is done; the answer never comes", _AMBIGUOUS),
        w.ANSWER_SLOW: after(late, "it is done; the answer comes late", f"past the time-out: {_AMBIGUOUS}"),
        w.ANSWER_RESET: after(either, "it is done; the connection is reset instead of an answer", _AMBIGUOUS),
        w.RESET_MID_BODY: after(either, "it is done; the connection is reset in the middle of the answer", _AMBIGUOUS),
        w.SLOW_504: after(late, "it is done; after a while comes HTTP 504", _AMBIGUOUS),
        w.ERROR_500: after(either, "it is done; HTTP 500 with JSON code 500", _AMBIGUOUS),
        w.BAD_GATEWAY_HTML: after(either, "it is done; HTTP 502 with an HTML page", _AMBIGUOUS),
        w.SERVICE_ERROR: after(either, "it is done; code 40725 (service error)", _AMBIGUOUS),
        w.SYSTEM_ERROR: after(either, "it is done; code 40015 (system error)", _AMBIGUOUS),
        w.REQUEST_TIMED_OUT: after(either, "it is done; code 40010 (request timed out)", _AMBIGUOUS),
        w.UNKNOWN_CODE: after(either, "it is done; a code that nobody knows", _AMBIGUOUS),
        w.HTML_200: after(either, "it is done; an HTML page with HTTP 200", _AMBIGUOUS),
        w.EMPTY_200: after(either, "it is done; HTTP 200 and no body", f"{_AMBIGUOUS}; of a read: no empty list"),
        w.TRUNCATED_JSON: after(either, "it is done; half of the JSON", _AMBIGUOUS),
        w.WRONG_CONTENT_TYPE: after(
            either, "the right JSON as text/html", "read as what it is, or taken for no answer"
        ),
        w.DEEP_JSON: after(either, "it is done; JSON of 100,000 levels", f"{_AMBIGUOUS}; no crash"),
        w.MISTYPED_ANSWER: after(
            either, "it is done; in `data`, each text is an object and each list a text", "taken for no answer"
        ),
        w.DUPLICATE_FIELDS: after(
            either, "code, msg and data are there twice, the first ones wrong", "the last count, or it is no answer"
        ),
        w.BATCH_ROWS_DROPPED: after(
            either, "the batch is done; its failures and its last success are not in the answer", _AMBIGUOUS, _BATCHES
        ),
        w.PAGE_TRUNCATED: after(
            either,
            "of a list of two rows or more only the first half is there; its cursor is that of the whole",
            "pages on from the last row it has, until a page is empty",
            _READS,
        ),
        w.STALE_READS: after(
            lasts,
            "a replica that stands still: reads are answered as they last were before",
            "no fill or cancel is undone by an older answer; `absent` counts late and twice",
            _READS,
        ),
        w.FUTURE_CLOCK: after(
            either,
            "the venue's time (`requestTime`, `serverTime`) is an hour ahead",
            "the clock check says so, and quoting stops; no age is negative",
        ),
        w.MINIMUM_CHANGED: after(
            either, "the instrument's smallest size is ten times as large", "account facts: HARD_STOP", _INSTRUMENT
        ),
        w.DELISTED: after(either, "the instrument is `off`", "account facts: HARD_STOP; cancels go on", _INSTRUMENT),
        # --- what is sent on the sockets ------------------------------------------------------------------------------
        w.FRAME_LOST: frame(either, "a frame never comes", "book: a gap; private: the reconciliation finds it"),
        w.FRAME_TWICE: frame(late, "a frame comes, and once more later", "nothing is booked twice; the book: a gap"),
        w.FRAME_LATE: frame(late, "a frame comes after those behind it", "no state goes backwards; the book: a gap"),
        w.FRAMES_HELD: frame(
            lasts,
            "all frames wait, and come in order at the end",
            "stale is seen by age; nothing is lost, nothing twice",
        ),
        w.FRAME_TRUNCATED: frame(either, "half of a frame", _BAD_FRAME),
        w.FRAME_NOT_JSON: frame(either, "a frame of text that is no JSON", _BAD_FRAME),
        w.FRAME_DEEP: frame(either, "JSON of 100,000 levels instead of a frame", _BAD_FRAME),
        w.FRAME_HUGE: frame(either, "JSON of 6 MiB instead of a frame", _BAD_FRAME),
        w.FRAME_MISTYPED: frame(either, "in a frame's `data`, each text is an object and each list a text", _BAD_FRAME),
        w.FRAME_OTHER_SYMBOL: frame(
            either, "a frame of another symbol", "not taken for ours; the book: a gap", (*_MARKET, "private ")
        ),
        w.FRAME_FUTURE: frame(
            either, "a frame's times lie an hour ahead", "no age is negative; a book of the future is no fresh one"
        ),
        w.PRICE_NAN: frame(either, 'prices are "NaN"', _BAD_FRAME, _MARKET),
        w.PRICE_INFINITE: frame(either, 'prices are "Infinity"', _BAD_FRAME, _MARKET),
        w.PRICE_ZERO: frame(either, "prices are 0", _BAD_FRAME, _MARKET),
        w.PRICE_NEGATIVE: frame(either, "prices have a minus", _BAD_FRAME, _MARKET),
        w.PRICE_ABSURD: frame(
            either, "prices are twice as high; then a gap", "beyond the collar: no order at such a price", _MARKET
        ),
        w.BOOK_GAP: frame(either, "`pseq` is not the last `seq`", _REREAD, _UPDATES),
        w.BOOK_RESTART: frame(either, "an update with `pseq` 0, as after the venue's restart", _REREAD, _UPDATES),
        w.BOOK_CHECKSUM: frame(either, "a checksum that is not the book's", _REREAD, _UPDATES),
        w.BOOK_CROSSED: frame(either, "a bid far above the asks; then a gap", "no quote from it", _BOOKS),
        w.BOOK_ONE_SIDED: frame(either, "a snapshot without asks; then a gap", "no quote from it", _BOOKS),
        w.BOOK_FROZEN: frame(
            lasts, "book frames go on, with new times and no change; then a gap", "frozen: quotes are pulled", _BOOKS
        ),
        w.BOOK_SILENT: frame(lasts, "no book comes; trades do", "the book's age pulls the quotes", _BOOKS),
        w.PUBLIC_SILENT: frame(
            lasts, "nothing public comes; pings are answered", "the book's age pulls the quotes", ("public ",)
        ),
        w.PRIVATE_SILENT: frame(
            lasts,
            "nothing private comes; pings are answered",
            "REST finds what happened; no fill is lost",
            ("private ",),
        ),
        w.FILLS_LOST: frame(
            lasts,
            "no fills come, orders do",
            "a filled order waits for its fills; REST brings them",
            ("private fills",),
        ),
        w.ORDERS_LOST: frame(lasts, "no orders come, fills do", "REST settles each order", ("private orders",)),
        w.ACK_LATE: frame(late, "an acknowledgement of login or subscription is late", "waits, or begins anew", _ACKS),
        w.ACK_LOST: frame(
            either,
            "login or subscription is taken and never acknowledged",
            "the link is not up, or data says so",
            _ACKS,
        ),
        # --- the sockets ----------------------------------------------------------------------------------------------
        w.LOGIN_REFUSED: Fault(
            Hook.ASK, either, "the login is refused (30005)", "private stays down; no quotes; backs off", ("login",)
        ),
        w.SUBSCRIBE_REFUSED: Fault(
            Hook.ASK, either, "a subscription is refused (30001)", "the link is down; begins anew", ("subscribe",)
        ),
        w.PONG_MUTED: socket(lasts, "pings are not answered; data comes", "the link is given up and dialled anew"),
        w.HALF_OPEN: socket(
            lasts, "nothing is read, nothing sent, nothing closed", "silence is seen by age; the link is dialled anew"
        ),
        w.FORCED_CLOSE: socket(
            Seconds.ONCE, "the sockets are closed with code 1000", "private: REST after it; book: a new snapshot"
        ),
        w.SOCKET_RESET: socket(Seconds.ONCE, "the sockets are reset", "the same as a close"),
        w.CONNECTION_REFUSED: socket(
            lasts,
            "nobody listens: REST and sockets are cut and refused",
            "backs off, dials again, reads before quoting",
        ),
        w.RESTART: socket(Seconds.ONCE, "all sockets are cut and the book's sequence begins anew", "as for a close"),
        # --- what somebody else does ----------------------------------------------------------------------------------
        w.FOREIGN_ORDER: outside("an order that is not ours rests", "left alone and told"),
        w.MANUAL_TRADE: outside("somebody trades by hand on the account", "booked, and a break until accepted"),
        w.LIQUIDATION: outside("the venue liquidates the position", "booked as such: a hard break"),
        w.TRANSFER: outside("100 quote are taken out", "booked as a transfer, never as PnL"),
        w.LEVERAGE_CHANGED: outside("the leverage is another", "account facts: HARD_STOP"),
        w.HEDGE_MODE: outside("the position mode is hedge", "account facts: HARD_STOP"),
        w.PERMISSION_WIDENED: outside("the key may withdraw", "account facts: HARD_STOP"),
        w.PERMISSION_NARROWED: outside("the key may no longer trade", "account facts: HARD_STOP"),
        w.FEES_CHANGED: outside("maker and taker pay twice as much", "the next quotes are made at the new fees"),
    }


FAULTS: Final[Mapping[Wrong, Fault]] = _rows()
