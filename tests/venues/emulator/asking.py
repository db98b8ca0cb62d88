"""A dialect's calls without the wire: the account of a real emulator, the route of the API, no authentication."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmdaemon.venues.emulator.account import Account
from mmdaemon.venues.emulator.classic import Classic
from mmdaemon.venues.emulator.dialect import Dialect
from mmdaemon.venues.emulator.rows import No
from mmdaemon.venues.emulator.unified import Unified

CLASSIC: Dialect = Classic()
UNIFIED: Dialect = Unified()
CONTRACT = {"symbol": "BTCUSDT", "productType": "USDT-FUTURES"}
MIX = {**CONTRACT, "marginCoin": "USDT"}
ORDER = {**MIX, "marginMode": "crossed", "side": "buy", "orderType": "limit", "size": "0.0005", "price": "99"}
FUTURE = {"category": "USDT-FUTURES", "symbol": "BTCUSDT"}
UNIFIED_ORDER = {**FUTURE, "side": "buy", "orderType": "limit", "qty": "0.0005", "price": "99"}


def ask(account: Account, path: str, params: Mapping[str, Any] | Sequence[Any] | None = None) -> Any:
    """`data` of the answer. The dialect is the path's. Raises No."""
    dialect = UNIFIED if "/v3/" in path else CLASSIC
    (route,) = (route for route in dialect.routes() if route.path == path)
    return route.call(account, {} if params is None else params)


def refused(account: Account, path: str, params: Mapping[str, Any] | Sequence[Any]) -> tuple[int, str, str]:
    """HTTP status, code and text of a refusal; fails where there is none."""
    try:
        data = ask(account, path, params)
    except No as no:
        return (UNIFIED if "/v3/" in path else CLASSIC).error(no)
    raise AssertionError(f"{path} was not refused: {data}")
