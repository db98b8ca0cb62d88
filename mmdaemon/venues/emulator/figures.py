"""The words and numbers that both APIs write alike, and the figures of the account that are worked out for both."""

from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from mmdaemon.core.types import E10, ExecKind, Liquidity, Side
from mmdaemon.venues.emulator.dialect import Json
from mmdaemon.venues.emulator.rows import FillRow, OrderRow

if TYPE_CHECKING:
    from mmdaemon.venues.emulator.account import Account

FUTURES: Final = "USDT-FUTURES"
LEVERAGE_MAX: Final = 125
MARKET_RATIO: Final = Decimal("0.05")
"""How far beyond the touch a market order may fill: `buyLimitPriceRatio` of the contract."""
KEEP_MARGIN_RATE: Final = "0.004"
UID: Final = "7264631750"

SIDE_WORD: Final[Mapping[Side, str]] = {Side.BUY: "buy", Side.SELL: "sell"}
SCOPE: Final[Mapping[Liquidity, str]] = {Liquidity.MAKER: "maker", Liquidity.TAKER: "taker"}
HOLDS: Final[Mapping[Side, str]] = {Side.SELL: "long", Side.BUY: "short"}
"""By the side of the order that closes it, which position is held."""
POSITION_MODE: Final[Mapping[str, str]] = {"one_way": "one_way_mode", "hedge": "hedge_mode"}
CANCEL_REASON: Final[Mapping[str, str]] = {"cancelled": "normal_cancel", "self_cross": "stp_cancel"}
"""Other reasons are shown in the matching engine's own words: the venue's word for a post-only order is not known."""


def plain(value: Decimal) -> str:
    return format(value.normalize(), "f")


def money(amount_e10: int) -> str:
    return plain(Decimal(amount_e10) / E10)


def decimals(step: Decimal) -> int:
    """How many digits a step has behind the point."""
    exponent = step.normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def client_oid(row: OrderRow) -> str:
    """An order placed without one gets one of the venue's: digits."""
    return row.client_id or row.order_id


def value_e10(account: "Account", px_ticks: int, lots: int) -> int:
    return account.instrument.notional_e10(px_ticks, lots)


def filled_value(account: "Account", row: OrderRow) -> str:
    """What was filled, in quote."""
    if not row.filled_lots:
        return "0"
    return plain(Decimal(row.average_px) * row.filled_lots * account.scale.lot)


def cancel_reason(row: OrderRow) -> str:
    return CANCEL_REASON.get(row.reason, row.reason)


def maintenance(account: "Account") -> Decimal:
    """Margin that the position must keep, in quote."""
    held = account.position()
    if held is None:
        return Decimal(0)
    return Decimal(value_e10(account, held.mark_px_ticks, abs(held.lots))) / E10 * Decimal(KEEP_MARGIN_RATE)


def risk_rate(account: "Account") -> str:
    """Maintenance margin over equity: the venue's ratio rises with danger."""
    balance = account.balance()
    equity_e10 = balance.wallet_e10 + balance.unrealised_e10
    if equity_e10 <= 0:
        return "0"
    return plain((maintenance(account) * E10 / equity_e10).quantize(Decimal("1e-12")))


def btc(account: "Account", amount_e10: int) -> str:
    mark = account.scale.tick * account.mark_px_ticks()
    return plain((Decimal(amount_e10) / E10 / mark).quantize(Decimal("1e-12")))


def trade_side(side: Side, kind: ExecKind) -> str:
    """The words of the one-way mode."""
    match kind:
        case ExecKind.TRADE:
            return f"{SIDE_WORD[side]}_single"
        case ExecKind.LIQUIDATION:
            return f"burst_{SIDE_WORD[side]}_single"
        case ExecKind.ADL:
            return f"dte_sys_adl_{SIDE_WORD[side]}_in_single_side_mode"


def force(row: OrderRow) -> str:
    if row.ioc:
        return "ioc"
    return "post_only" if row.post_only else "gtc"


def fill_value(account: "Account", fill: FillRow) -> str:
    return money(value_e10(account, fill.px_ticks, fill.qty_lots))


def funding_rows(account: "Account") -> Json:
    rate, next_ms, interval_s = account.funding()
    return [
        {
            "symbol": account.symbol,
            "fundingRate": rate,
            "fundingRateInterval": str(interval_s // 3600),
            "nextUpdate": str(next_ms),
            "minFundingRate": "-0.003",
            "maxFundingRate": "0.003",
        }
    ]
