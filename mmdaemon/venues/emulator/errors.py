"""What the venue says when it says no: HTTP status, code and text for each reason, per API.

Codes and texts are the venue's own where `bitget.md` has them. What it does not have is marked "guess": nothing that
is proven may rest on such a code being this one.
"""

from collections.abc import Mapping
from typing import Final

from mmdaemon.venues.emulator.rows import No, Why

Refusal = tuple[int, str, str]
"""HTTP status, code, text."""

CLASSIC: Final[Mapping[Why, Refusal]] = {
    Why.NOT_FOUND: (400, "40768", "Order does not exist"),
    Why.NOTHING_TO_CANCEL: (400, "22001", "No order to cancel"),
    Why.DUPLICATE: (400, "40786", "Duplicate clientOid"),
    Why.MARGIN: (400, "40762", "The order amount exceeds the balance"),
    Why.TOO_SMALL: (400, "45111", "less than the minimum order quantity"),  # guess
    Why.NOTIONAL: (400, "45110", "less than the minimum amount 5 USDT"),
    Why.PRICE_SCALE: (400, "41103", "param price scale error"),
    Why.SIZE_SCALE: (400, "40808", "Parameter verification exception size checkScale"),
    Why.PARAMETER: (400, "40017", "Parameter verification failed"),
    Why.SYMBOL: (400, "40309", "The contract has been removed"),
    Why.REDUCE_ONLY: (400, "22002", "No position to close"),
    Why.POSITION_MODE: (
        400,
        "40774",
        "The order type for unilateral position must also be the unilateral position type.",
    ),
    Why.AMEND_NOTHING: (400, "40923", "Order size and price have not changed"),  # guess
    Why.RATE_LIMIT: (429, "429", "Too Many Requests"),
    Why.SIGNATURE: (400, "40009", "sign signature error"),
    Why.KEY: (400, "40006", "Invalid ACCESS_KEY"),
    Why.PASSPHRASE: (400, "40012", "apikey/password is incorrect"),
    Why.ADDRESS: (400, "40018", "Invalid IP"),
    Why.PERMISSION: (400, "40014", "Incorrect permissions"),
    Why.CLOCK: (400, "40008", "Request timestamp expired"),
    Why.ENVIRONMENT: (400, "40099", "exchange environment is incorrect"),
    Why.CLASSIC_ONLY: (400, "40084", "Your account is a classic account, the unified account API is not for it"),
    Why.UNIFIED_ONLY: (400, "40085", "Your account is a unified account, the classic account API is not for it"),
    Why.MAINTENANCE: (400, "40200", "Server upgrade, please try again later"),
    Why.SERVICE: (400, "40725", "service return an error"),
    Why.SYSTEM: (500, "40015", "System is abnormal, please try again later"),
    Why.NOT_GRANTED: (400, "40014", "Incorrect permissions"),  # guess
}

UNIFIED: Final[Mapping[Why, Refusal]] = {
    **CLASSIC,
    Why.NOT_FOUND: (400, "25204", "Order does not exist"),
    Why.MARGIN: (400, "25202", "Insufficient balance"),
    Why.DUPLICATE: (400, "25212", "Duplicate clientOid"),
    Why.REDUCE_ONLY: (400, "25227", "No position to close"),
}


class Told(No):
    """A refusal with a code of its own: the same reason has another one on this call."""

    def __init__(self, why: Why, code: str, text: str) -> None:
        super().__init__(why)
        self.code, self.text = code, text


def missing(name: str) -> Told:
    return Told(Why.PARAMETER, "40019", f"Parameter {name} cannot be empty")


def mistyped(name: str) -> Told:
    return Told(Why.PARAMETER, "40017", f"Parameter verification failed {name}")


def refusal(no: No, table: Mapping[Why, Refusal]) -> Refusal:
    if isinstance(no, Told):
        return table[no.why][0], no.code, no.text
    return table[no.why]
