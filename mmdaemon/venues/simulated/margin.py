"""Initial margin and the position stop: what the account may open, and what closes it at the venue.

Opening orders need `leverage`: the value at mark of the larger of position + open buys and open sells - position,
divided by it, must not exceed equity.
"""

from mmdaemon.core.types import Instrument, Side
from mmdaemon.venues.base import PositionStop
from mmdaemon.venues.simulated.matching import Matching
from mmdaemon.venues.simulated.wallet import Wallet


class Margin:
    """Reads the engine and the wallet of one account; changes neither."""

    def __init__(self, instrument: Instrument, matching: Matching, wallet: Wallet, leverage: int) -> None:
        self._instrument, self._matching, self._wallet, self._leverage = instrument, matching, wallet, leverage

    def _worst_lots(self, more_buys: int = 0, more_sells: int = 0) -> int:
        matching = self._matching
        position = matching.position_lots
        return max(
            matching.open_buy_lots + more_buys + position,
            matching.open_sell_lots + more_sells - position,
        )

    def is_lacking(self, side: Side, more_lots: int, mark_ticks: int) -> bool:
        """Whether `more_lots` on a side would need more than there is. What adds no exposure always passes."""
        after = self._worst_lots(more_lots) if side is Side.BUY else self._worst_lots(0, more_lots)
        if after <= self._worst_lots():
            return False
        needed_e10 = self._instrument.notional_e10(mark_ticks, after)
        return needed_e10 > self._wallet.equity_e10(mark_ticks) * self._leverage

    def available_e10(self, mark_ticks: int) -> int:
        """Equity that neither position nor orders hold; 0 at least. What is held is rounded up."""
        held_e10 = -(-self._instrument.notional_e10(mark_ticks, self._worst_lots()) // self._leverage)
        return max(0, self._wallet.equity_e10(mark_ticks) - held_e10)


class StopKeeper:
    """Keeps a stop for the whole position, of the side it has or takes next. It ends with that position."""

    def __init__(self) -> None:
        self.stop: PositionStop | None = None
        self._side: Side | None = None

    def keep(self, stop: PositionStop | None, position_lots: int) -> None:
        self.stop, self._side = stop, None
        self.on_position(position_lots)

    def on_position(self, position_lots: int) -> None:
        side = Side.BUY if position_lots > 0 else Side.SELL if position_lots < 0 else None
        if self._side is not None and side is not self._side:
            self.stop = None
        self._side = side if self.stop is not None else None

    def is_hit(self, mark_ticks: int) -> bool:
        """Whether mark has reached the trigger from the position's side."""
        stop, side = self.stop, self._side
        return stop is not None and side is not None and (mark_ticks - stop.trigger_px_ticks) * side <= 0
