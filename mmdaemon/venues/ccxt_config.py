"""How an exchange is reached: which one, which account, which environment, at which address."""

from dataclasses import dataclass
from typing import Literal

from mmdaemon.secret import Credentials


@dataclass(frozen=True, slots=True, kw_only=True)
class CcxtConfig:
    exchange: str = "bitget"
    """ccxt's name of it."""
    account: Literal["classic", "unified"] = "unified"
    """Which of Bitget's two APIs the account has: said, and never guessed from an error."""
    symbol: str = "BTCUSDT"
    """The venue's own name of the contract."""
    environment: Literal["demo", "live"] = "demo"
    credentials: Credentials | None = None
    """None: public data alone (paper)."""
    emulator_url: str = ""
    """`http://127.0.0.1:PORT` of `mmdaemon emulator`; empty is the exchange itself."""
    request_timeout_s: float = 5.0
    in_flight_floor_s: float = 30.0
    """Longest that the venue may take a request after it was signed. Bitget: 30 until measured."""
    book_depth: int = 10
    """Levels a side that are handed to the core."""
    tries_dead_man: bool = True
    """Ask for the dead-man countdown where the API has one."""

    @property
    def place(self) -> str:
        """Whose accounts these are. A journal belongs to one place, so that no run takes the account of a rehearsal for
        the one with money in it."""
        emulated = ("emulator",) if self.emulator_url else ()
        return "-".join((self.exchange, *emulated, *(("demo",) if self.environment == "demo" else ())))
