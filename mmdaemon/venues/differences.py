"""What the exchanges that can be named have and have not: one row each, read in ccxt 4.5.90 (its `has`, its sources).

Which of them are proven is `settings.rules.PROVEN`, and nothing here: a row says what ccxt says of an exchange, which
is not what the exchange does; limits of countdowns and sizes of contracts are from its documents, and unverified.
`bitget` has an adapter of its own (`ccxt_pro.py`); all rows serve `generic.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from mmdaemon.settings.rules import PROVEN


class Sandbox(StrEnum):
    """Where one trades without money, and what turns ccxt to it."""

    TESTNET = "set_sandbox_mode"
    """Another address, another book: `set_sandbox_mode(True)`."""
    DEMO_HEADER = "set_sandbox_mode (a header)"
    """The same address with a header, by the same call."""
    DEMO = "enable_demo_trading"
    """`enable_demo_trading(True)`; `set_sandbox_mode` is refused for futures."""

    @property
    def method(self) -> str:
        return self.value.split(" ", 1)[0]


class Amend(StrEnum):
    """What ccxt's `editOrder` is there."""

    KEEPS = "the order keeps its ids"
    RENEWS_ID = "the order gets a new id of the venue's"
    """Ours goes on, if it is sent along."""


class ClientId(StrEnum):
    """How an id of ours (letters, digits and dashes) is written there. All forms can be read back."""

    AS_IS = "as it is"
    ALPHANUMERIC = "letters and digits"
    PREFIXED = "t- before it"
    HEX_128 = "128 bits as hex"


@dataclass(frozen=True, slots=True)
class DeadMan:
    """The countdown after which everything is cancelled. `method` is ccxt's; `unit` how many of its units a second has.

    `least_s`: the shortest that the venue takes, as far as it is known.
    """

    method: str
    argument: str
    """Name in the request; empty where it is ccxt's unified `cancelAllOrdersAfter(timeout)`."""
    unit: int
    also: Mapping[str, str] = field(default_factory=dict[str, str])
    off: int | None = 0
    """What ends it; None where no call does, and it must be let run or be refreshed."""
    note: str = ""

    def call(self, exchange: Any, seconds: int) -> Any:
        """The coroutine that sets it (`seconds` = 0: ends it). Raises ValueError where it cannot be ended."""
        if seconds == 0 and self.off is None:
            raise ValueError(f"{self.method} cannot be ended, only be set anew")
        amount = seconds * self.unit if seconds else self.off
        method = getattr(exchange, self.method)
        return method({self.argument: str(amount), **self.also}) if self.argument else method(amount)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One exchange."""

    exchange: str
    sandbox: Sandbox
    dead_man: DeadMan | None
    amend: Amend
    secrets: tuple[str, ...]
    """What ccxt calls the parts of the key, in the order of our files."""
    client_id: ClientId
    id_max: int
    """Longest id of ours, before it is written for the venue."""
    cancel_by: str
    """The parameter that names an order by our id to cancel it; empty: our id goes where the venue's would."""
    book_limit: int | None = None
    """Levels to ask `watchOrderBook` for; None is the exchange's own number."""
    wallet: tuple[str, str] = ("", "")
    """Where the total of a balance has unrealised profit in it: the figure beside it that is the balance without, and
    the one of that profit. The first that is there counts; with neither the total is what was realised."""
    inverted_fees: tuple[str, ...] = ()
    """Accounts whose fees `fetchMyTrades` shows with the wrong sign."""
    absent: tuple[str, ...] = ()
    """Codes of "no such order" that ccxt does not know."""
    nothing_to_cancel: tuple[str, ...] = ()
    """Codes of a cancel-all that found nothing."""
    lacks: tuple[str, ...] = ()
    """Of what a market maker wants, what ccxt's `has` does not have there."""
    quirks: tuple[str, ...] = ()

    @property
    def is_proven(self) -> bool:
        return self.exchange in PROVEN

    @property
    def wants_passphrase(self) -> bool:
        return len(self.secrets) == 3

    def to_wire(self, client_id: str) -> str:
        """Our id as the venue is to have it.

        Raises:
            ValueError: it cannot be written there.
        """
        if len(client_id) > self.id_max:
            raise ValueError(f"{client_id!r}: {self.exchange} takes {self.id_max} characters")
        match self.client_id:
            case ClientId.AS_IS:
                return client_id
            case ClientId.PREFIXED:
                return f"t-{client_id}"
            case ClientId.ALPHANUMERIC:
                head, epoch, number = _three(client_id)
                return f"{head}x{epoch}x{number}"
            case ClientId.HEX_128:
                return f"0x{client_id.encode().ljust(16, bytes(1)).hex()}"

    def from_wire(self, text: str) -> str:
        """Our id, as the venue tells it; one that is not ours comes back as it is."""
        match self.client_id:
            case ClientId.AS_IS:
                return text
            case ClientId.PREFIXED:
                return text.removeprefix("t-")
            case ClientId.ALPHANUMERIC:
                parts = text.rsplit("x", 2)
                is_ours = len(parts) == 3 and parts[0].startswith("mm") and parts[1].isdigit() and parts[2].isdigit()
                return "-".join(parts) if is_ours else text
            case ClientId.HEX_128:
                try:
                    return bytes.fromhex(text.removeprefix("0x")).rstrip(bytes(1)).decode("ascii")
                except ValueError:
                    return text


def _three(client_id: str) -> tuple[str, str, str]:
    parts = client_id.rsplit("-", 2)
    if len(parts) != 3 or not (parts[0].isalnum() and parts[1].isdigit() and parts[2].isdigit()):
        raise ValueError(f"{client_id!r} is not of the form mm<bot>-<epoch>-<counter>")
    return parts[0], parts[1], parts[2]


_ROWS: Final = (
    Row(
        exchange="bitget",
        sandbox=Sandbox.DEMO_HEADER,
        dead_man=DeadMan(
            "privateUtaPostV3TradeCountdownCancelAll",
            "countdown",
            1,
            note="unified accounts alone, 5 to 60 s, and only where Bitget approved it",
        ),
        amend=Amend.KEEPS,
        secrets=("apiKey", "secret", "password"),
        client_id=ClientId.AS_IS,
        id_max=32,
        cancel_by="clientOrderId",
        book_limit=5,  # a snapshot each time: of a lost update of the others ccxt would say nothing
        wallet=("balance", "unrealizedPL"),
        inverted_fees=("unified",),
        absent=("25204",),
        nothing_to_cancel=("22001", "25204"),
        lacks=("cancelAllOrdersAfter", "createOrderWs", "editOrderWs", "watchMarkPrice", "watchFundingRate"),
        quirks=(
            "two APIs that exclude each other: options.uta must be set, or ccxt guesses",
            "a classic account's editOrder is a cancel and a new order: not used",
            "ccxt drops the refused orders of a classic batch, and inverts the sign of unified fees read by REST",
        ),
    ),
    Row(
        exchange="bybit",
        sandbox=Sandbox.TESTNET,
        dead_man=DeadMan(
            "cancel_all_orders_after",
            "",
            1_000,
            off=None,
            note="disconnected-cancel-all: it counts from the loss of the private socket, and wants Bybit's approval",
        ),
        amend=Amend.KEEPS,
        secrets=("apiKey", "secret"),
        client_id=ClientId.AS_IS,
        id_max=32,
        cancel_by="orderLinkId",
        lacks=("watchMarkPrice", "watchFundingRate"),
        quirks=(
            "cancelOrder does not know clientOrderId: orderLinkId, and no id at all",
            "fetchOrder finds an order among the last 500 alone, and asks to be told that this is known",
            "demo trading too (enable_demo_trading), on the live market; WebSocket orders do not exist there",
        ),
    ),
    Row(
        exchange="okx",
        sandbox=Sandbox.DEMO_HEADER,
        dead_man=DeadMan("cancel_all_orders_after", "", 1_000, note="10 to 120 s"),
        amend=Amend.KEEPS,
        secrets=("apiKey", "secret", "password"),
        client_id=ClientId.ALPHANUMERIC,
        id_max=32,
        cancel_by="clientOrderId",
        lacks=("cancelAllOrders", "fetchTradingFees"),
        quirks=(
            "amounts are contracts of 0.01 BTC: contractSize is not 1",
            "client ids have letters and digits alone",
            "an order without a client id would get one with the tag of a broker of ccxt's: ours always have one",
        ),
    ),
    Row(
        exchange="binanceusdm",
        sandbox=Sandbox.DEMO,
        dead_man=DeadMan(
            "fapiPrivatePostCountdownCancelAll",
            "countdownTime",
            1_000,
            note="by symbol; the unified cancelAllOrdersAfter is not there",
        ),
        amend=Amend.KEEPS,
        secrets=("apiKey", "secret"),
        client_id=ClientId.AS_IS,
        id_max=32,
        cancel_by="clientOrderId",
        lacks=("cancelAllOrdersAfter", "watchFundingRate"),
        quirks=(
            "set_sandbox_mode is taken and then each signed request raises NotSupported: enable_demo_trading",
            "an amendment wants side, price and quantity, and joins the back of the queue whatever it changes",
        ),
    ),
    Row(
        exchange="hyperliquid",
        sandbox=Sandbox.TESTNET,
        dead_man=DeadMan(
            "cancel_all_orders_after",
            "",
            1_000,
            off=None,
            note="scheduleCancel: 5 s at least, so many triggers a day, and only above a traded volume",
        ),
        amend=Amend.RENEWS_ID,
        secrets=("walletAddress", "privateKey"),
        client_id=ClientId.HEX_128,
        id_max=16,
        cancel_by="clientOrderId",
        lacks=(
            "cancelAllOrders",
            "watchBidsAsks",
            "watchMarkPrice",
            "watchFundingRate",
            "fetchTradingFees",
            "fetchLeverage",
            "setPositionMode",
        ),
        quirks=(
            "a wallet signs: there is neither key nor passphrase",
            "prices have five significant figures at most, beside the tick",
            "the quote is USDC, and funding is hourly",
        ),
    ),
    Row(
        exchange="gate",
        sandbox=Sandbox.TESTNET,
        dead_man=DeadMan(
            "privateFuturesPostSettleCountdownCancelAll",
            "timeout",
            1,
            also={"settle": "usdt"},
            note="5 s at least; the unified cancelAllOrdersAfter is not there",
        ),
        amend=Amend.KEEPS,
        secrets=("apiKey", "secret"),
        client_id=ClientId.PREFIXED,
        id_max=28,
        cancel_by="",
        lacks=("cancelAllOrdersAfter", "setMarginMode", "watchMarkPrice", "watchFundingRate"),
        quirks=(
            "amounts are contracts of 0.0001 BTC: contractSize is not 1",
            "client ids begin with t-, and stand where an order's id would in a cancel",
            "position mode is `in_dual_mode` of the account; one-way is its default",
        ),
    ),
)

VENUES: Final[Mapping[str, Row]] = {row.exchange: row for row in _ROWS}
