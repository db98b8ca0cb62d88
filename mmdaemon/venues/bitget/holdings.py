"""What the private stream says of the position and of the account, as `AccountHint`s: each that says something new."""

from collections.abc import Mapping
from typing import Final

import msgspec

from mmdaemon.core.events import AccountHint
from mmdaemon.core.figures import is_money
from mmdaemon.core.types import Side
from mmdaemon.venues.bitget.frames import (
    ClassicAccount,
    ClassicPosition,
    Frame,
    Shapes,
    UnifiedAccount,
    UnifiedPosition,
)
from mmdaemon.venues.bitget.reading import HELD, MARGIN_MODES, POSITION_MODES
from mmdaemon.venues.bitget.snapshots import ROUNDED_E10
from mmdaemon.venues.codec import Malformed, Scale, milliseconds_ns, money_e10, number

_LEVERAGE_MAX: Final = 1_000


class Holdings:
    """One connection's: what was told last. `Malformed` where a push is not what the channel says."""

    def __init__(self, shapes: Shapes, scale: Scale) -> None:
        self._shapes, self._scale = shapes, scale
        self._symbol, self._coin = scale.instrument.symbol, scale.instrument.quote
        self._told: dict[str, AccountHint] = {}

    def forget(self) -> None:
        """What comes next is new, whatever it says."""
        self._told.clear()

    def hint(self, kind: str, push: Frame, mono_ns: int, ts_ns: int) -> AccountHint | None:
        """Of the "positions" or the "account"; None where that is known, or where nothing is said of ours.

        Raises:
            Malformed: it cannot be read.
        """
        at = (mono_ns, ts_ns, None if push.ts is None else milliseconds_ns(push.ts))
        said = self._position(push, at) if kind == "positions" else self._account(push, at)
        if said is None or _is_same(said, self._told.get(kind)):
            return None
        self._told[kind] = said
        return said

    def _position(self, push: Frame, at: tuple[int, int, int | None]) -> AccountHint | None:
        """Of the classic API each push is all that is held; of the unified one, what changed."""
        read, bad = self._shapes.positions.read(push.data)
        if bad:
            raise Malformed("malformed")
        rows = [row for row in read if (row.symbol, row.coin) == (self._symbol, self._coin)]
        if not rows:
            return None if self._shapes.private_type else AccountHint(*at, position_lots=0)
        return AccountHint(
            *at,
            position_lots=sum(self._lots(row) for row in rows),
            leverage=max(_leverage(row) for row in rows),
            margin_mode=_word(MARGIN_MODES, rows[0].margin_mode),
            position_mode=_word(POSITION_MODES, rows[0].position_mode),
        )

    def _lots(self, row: ClassicPosition | UnifiedPosition) -> int:
        """Signed."""
        lots, side = self._scale.qty_lots(row.size), HELD.get(row.side)
        if side is None:
            raise Malformed("bad_side")
        if lots and number(row.average_px) <= 0:
            raise Malformed("not_positive")
        return lots if side is Side.BUY else -lots

    def _account(self, push: Frame, at: tuple[int, int, int | None]) -> AccountHint | None:
        rows, bad = self._shapes.accounts.read(push.data)
        if bad:
            raise Malformed("malformed")
        wallets = [wallet for row in rows if (wallet := self._wallet_e10(row)) is not None]
        if not wallets:
            return None
        if len(wallets) > 1 or not is_money(wallets[0]):
            raise Malformed("absurd")
        return AccountHint(*at, wallet_e10=wallets[0])

    def _wallet_e10(self, row: ClassicAccount | UnifiedAccount) -> int | None:
        """As the snapshot has it: everything realised in it, nothing unrealised. None where it does not say."""
        if isinstance(row, ClassicAccount):
            if row.coin != self._coin:
                return None
            equity_e10, _ = money_e10(row.equity), money_e10(row.available)
            return None if row.unrealised is None else equity_e10 - money_e10(row.unrealised)
        for each in row.coins:
            if each.coin == self._coin:
                balance_e10, _ = money_e10(each.balance), money_e10(each.available)
                return balance_e10 - abs(money_e10(each.debt or "0"))
        return None


def _leverage(row: ClassicPosition | UnifiedPosition) -> float:
    leverage = number(row.leverage)
    if not 0 < leverage <= _LEVERAGE_MAX:
        raise Malformed("absurd")
    return float(leverage)


def _word(words: Mapping[str, str], told: str) -> str:
    meant = words.get(told)
    if meant is None:
        raise Malformed("unknown_mode")
    return meant


def _is_same(said: AccountHint, told: AccountHint | None) -> bool:
    """But for the times, and for what the venue rounds: the wallet is a difference of two that move with the mark."""
    if told is None:
        return False
    if said.wallet_e10 is not None and told.wallet_e10 is not None:
        return abs(said.wallet_e10 - told.wallet_e10) <= ROUNDED_E10
    when = {"mono_ns": 0, "ts_ns": 0, "venue_ts_ns": None}
    return msgspec.structs.replace(said, **when) == msgspec.structs.replace(told, **when)
