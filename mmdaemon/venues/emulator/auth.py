"""Who may ask: key, passphrase, environment, clock and signature, checked as the venue checks them.

    sign = base64(HMAC-SHA256(secret, timestamp + METHOD + path + ("?" + query) + body))

The query is signed as it reads before it is encoded for the URL. A WebSocket login signs the timestamp, in seconds,
with `GET/user/verify`.
"""

import base64
import hmac
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import unquote

from mmdaemon.venues.emulator.config import EmulatorConfig
from mmdaemon.venues.emulator.rows import No, Why

_DEMO_HEADER: Final = "PAPTRADING"
_SECRET_HEADERS: Final = frozenset({"access-key", "access-sign", "access-passphrase"})


def signature(secret: str, text: str) -> str:
    return base64.b64encode(hmac.digest(secret.encode(), text.encode(), "sha256")).decode()


def shown(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers without what nobody needs to see again."""
    return {name: value for name, value in headers.items() if name.lower() not in _SECRET_HEADERS}


class Auth:
    """One key. `revoked` is set when somebody withdraws it."""

    def __init__(self, config: EmulatorConfig, now_ms: Callable[[], int]) -> None:
        self._config, self._now_ms = config, now_ms
        self.revoked = False

    def check_request(self, method: str, target: str, body: str, headers: Mapping[str, str]) -> int:
        """A signed REST request. `target` is path and query as they came. Returns its timestamp (ms).

        Raises:
            No: it is not to be worked on; says why.
        """
        self._check_key(headers.get("ACCESS-KEY", ""))
        if (headers.get(_DEMO_HEADER) == "1") != (self._config.environment == "demo"):
            raise No(Why.ENVIRONMENT)
        stamp = headers.get("ACCESS-TIMESTAMP", "")
        at_ms = self._check_stamp(stamp, 1)
        path, question, query = target.partition("?")
        text = stamp + method + path + question + unquote(query) + body
        self._check_secrets(headers.get("ACCESS-PASSPHRASE", ""), headers.get("ACCESS-SIGN", ""), text)
        return at_ms

    def check_login(self, arg: Mapping[str, Any], *, demo: bool) -> None:
        """What a login on a socket of the demo environment, or of the live one, carries. Raises No."""
        self._check_key(_text(arg, "apiKey"))
        if demo != (self._config.environment == "demo"):
            raise No(Why.ENVIRONMENT)
        stamp = _text(arg, "timestamp")
        self._check_stamp(stamp, 1_000)
        self._check_secrets(_text(arg, "passphrase"), _text(arg, "sign"), stamp + "GET/user/verify")

    def _check_key(self, key: str) -> None:
        if self.revoked or not _same(key, self._config.api_key):
            raise No(Why.KEY)

    def _check_stamp(self, stamp: str, unit_ms: int) -> int:
        if not (stamp.isascii() and stamp.isdecimal() and len(stamp) <= 15):
            raise No(Why.CLOCK)
        at_ms = int(stamp) * unit_ms
        if abs(self._now_ms() - at_ms) > self._config.window_s * 1_000 + unit_ms - 1:  # a unit is not finer than itself
            raise No(Why.CLOCK)
        return at_ms

    def _check_secrets(self, passphrase: str, sign: str, text: str) -> None:
        if not _same(passphrase, self._config.passphrase):
            raise No(Why.PASSPHRASE)
        if not _same(sign, signature(self._config.secret, text)):
            raise No(Why.SIGNATURE)


def _same(given: str, right: str) -> bool:
    return hmac.compare_digest(given.encode(), right.encode())


def _text(arg: Mapping[str, Any], name: str) -> str:
    value = arg.get(name)
    if type(value) is int:
        return str(value)
    return value if isinstance(value, str) else ""
