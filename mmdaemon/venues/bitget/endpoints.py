"""Every path of Bitget's REST API that is called, and how often the venue allows it, per account and second.

The figures are the venue's own (its documentation and ccxt's costs; the smaller where they differ), for accounts that
are no copy-trading leaders. `lanes.Lanes` takes 80 % of each. They are counted per endpoint; a limit of 6,000 a minute
for an address as a whole lies above their sum.
"""

from typing import Final, Literal

from mmdaemon.venues.bitget.api import Endpoint


def _get(path: str, per_s: int, *, signed: bool = True) -> Endpoint:
    return Endpoint("GET", path, per_s, per_s, signed)


def _post(path: str, per_s: int, lane: Literal["order", "cancel", "other"] = "other") -> Endpoint:
    return Endpoint("POST", path, per_s, per_s, lane=lane)


# --- classic (v2): requests that change something ---------------------------------------------------------------------
CLASSIC_PLACE: Final = _post("/api/v2/mix/order/place-order", 10, "order")
CLASSIC_PLACE_BATCH: Final = _post("/api/v2/mix/order/batch-place-order", 5, "order")
CLASSIC_CANCEL: Final = _post("/api/v2/mix/order/cancel-order", 10, "cancel")
CLASSIC_CANCEL_ALL: Final = _post("/api/v2/mix/order/batch-cancel-orders", 10, "cancel")
"""Without a list: everything of the symbol."""
CLASSIC_TPSL_PLACE: Final = _post("/api/v2/mix/order/place-tpsl-order", 10)
CLASSIC_TPSL_MODIFY: Final = _post("/api/v2/mix/order/modify-tpsl-order", 10)
CLASSIC_TPSL_CANCEL: Final = _post("/api/v2/mix/order/cancel-plan-order", 10)

# --- classic: reads ---------------------------------------------------------------------------------------------------
CLASSIC_ORDER: Final = _get("/api/v2/mix/order/detail", 10)
CLASSIC_OPEN_ORDERS: Final = _get("/api/v2/mix/order/orders-pending", 10)
CLASSIC_FILLS: Final = _get("/api/v2/mix/order/fills", 10)
CLASSIC_BILLS: Final = _get("/api/v2/mix/account/bill", 10)
CLASSIC_POSITION: Final = _get("/api/v2/mix/position/single-position", 10)
CLASSIC_ACCOUNT: Final = _get("/api/v2/mix/account/account", 10)
CLASSIC_TPSL_PENDING: Final = _get("/api/v2/mix/order/orders-plan-pending", 10)
CLASSIC_FEES: Final = _get("/api/v2/common/trade-rate", 10)
CLASSIC_KEY: Final = _get("/api/v2/spot/account/info", 1)
CLASSIC_CANDLES: Final = _get("/api/v2/mix/market/candles", 20, signed=False)
CLASSIC_FUNDING: Final = _get("/api/v2/mix/market/current-fund-rate", 20, signed=False)
CLASSIC_PRICE: Final = _get("/api/v2/mix/market/symbol-price", 20, signed=False)
CLASSIC_CONTRACTS: Final = _get("/api/v2/mix/market/contracts", 20, signed=False)

# --- unified (v3): requests that change something ---------------------------------------------------------------------
UNIFIED_PLACE: Final = _post("/api/v3/trade/place-order", 10, "order")
UNIFIED_PLACE_BATCH: Final = _post("/api/v3/trade/place-batch", 5, "order")
UNIFIED_AMEND: Final = _post("/api/v3/trade/modify-order", 10, "order")
UNIFIED_CANCEL: Final = _post("/api/v3/trade/cancel-order", 10, "cancel")
UNIFIED_CANCEL_ALL: Final = _post("/api/v3/trade/cancel-symbol-order", 5, "cancel")
UNIFIED_DEAD_MAN: Final = _post("/api/v3/trade/countdown-cancel-all", 1)
UNIFIED_TPSL_PLACE: Final = _post("/api/v3/trade/place-strategy-order", 10)
UNIFIED_TPSL_MODIFY: Final = _post("/api/v3/trade/modify-strategy-order", 10)
UNIFIED_TPSL_CANCEL: Final = _post("/api/v3/trade/cancel-strategy-order", 10)

# --- unified: reads ---------------------------------------------------------------------------------------------------
UNIFIED_ORDER: Final = _get("/api/v3/trade/order-info", 20)
UNIFIED_OPEN_ORDERS: Final = _get("/api/v3/trade/unfilled-orders", 20)
UNIFIED_FILLS: Final = _get("/api/v3/trade/fills", 20)
UNIFIED_BILLS: Final = _get("/api/v3/account/financial-records", 20)
UNIFIED_POSITION: Final = _get("/api/v3/position/current-position", 20)
UNIFIED_ACCOUNT: Final = _get("/api/v3/account/assets", 20)
UNIFIED_SETTINGS: Final = _get("/api/v3/account/settings", 20)
UNIFIED_TPSL_PENDING: Final = _get("/api/v3/trade/unfilled-strategy-orders", 20)
UNIFIED_FEES: Final = _get("/api/v3/account/fee-rate", 3)
UNIFIED_KEY: Final = _get("/api/v3/account/info", 5)
UNIFIED_CANDLES: Final = _get("/api/v3/market/candles", 20, signed=False)
UNIFIED_FUNDING: Final = _get("/api/v3/market/current-fund-rate", 20, signed=False)
UNIFIED_PRICE: Final = _get("/api/v3/market/tickers", 20, signed=False)
UNIFIED_CONTRACTS: Final = _get("/api/v3/market/instruments", 20, signed=False)

# --- both -------------------------------------------------------------------------------------------------------------
TIME: Final = _get("/api/v2/public/time", 20, signed=False)

CANCEL_ALLS: Final = frozenset((CLASSIC_CANCEL_ALL, UNIFIED_CANCEL_ALL))
