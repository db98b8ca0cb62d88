"""What somebody else does to the emulated venue: a person at the account, the venue's operators, the network.

These are the hooks of tests and of the control endpoint, and what the faults of sockets and of the account come to.
"""

import asyncio
from decimal import Decimal
from typing import TYPE_CHECKING, Final

import msgspec

from mmdaemon.core.types import E10, Side
from mmdaemon.venues.emulator.rows import OrderRow
from mmdaemon.venues.emulator.wrong import Wrong

if TYPE_CHECKING:
    from mmdaemon.venues.emulator.server import Emulator

_FOREIGN_AWAY: Final = 0.005
"""How far below the market an order rests that a fault places, as a share of price."""
_TAKEN_OUT_E10: Final = -100 * E10
_OTHER_LEVERAGE: Final = 5


class Outside:
    """All of it happens at once."""

    def __init__(self, emulator: "Emulator") -> None:
        self._emulator = emulator
        self._closing: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        for task in self._closing:
            task.cancel()
        await asyncio.gather(*self._closing, return_exceptions=True)

    # --- the account --------------------------------------------------------------------------------------------------

    def foreign_order(self, side: Side, px_ticks: int, qty_lots: int, client_id: str = "") -> OrderRow:
        """An order that the client did not send. Raises No: the venue would not take it."""
        return self._emulator.account.foreign_order(side, px_ticks, qty_lots, client_id)

    def withdraw(self, key: str) -> OrderRow:
        """Whoever placed it cancels it. Raises No(NOT_FOUND)."""
        return self._emulator.account.cancel(key)

    def manual_trade(self, side: Side, qty_lots: int) -> None:
        """At market; what is not displayed is not traded."""
        self._emulator.account.manual_trade(side, qty_lots)

    def transfer(self, amount_e10: int) -> None:
        self._emulator.account.transfer(amount_e10)

    def liquidate(self) -> None:
        """Takes the account's money out first, which is a transfer of its own, so that the venue's rule applies."""
        self._emulator.account.liquidate()

    def change_fees(self, maker_rate: Decimal, taker_rate: Decimal) -> None:
        self.change_facts(maker_rate=format(maker_rate, "f"), taker_rate=format(taker_rate, "f"))

    def change_facts(self, **facts: str | int | bool) -> None:
        """By the names of `rows.FactsRow`, whatever the venue would say to it."""
        account = self._emulator.account
        account.facts = msgspec.structs.replace(account.facts, **facts)

    # --- the venue ----------------------------------------------------------------------------------------------------

    def close_sockets(self, where: str = "", code: int = 1000) -> None:
        """A proper close of the sockets that are open: "public", "private", or "" for both."""
        for connection in self._emulator.sockets_of(where):
            task = asyncio.get_running_loop().create_task(connection.close(code, "forced close"))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    def reset_sockets(self, where: str = "") -> None:
        for connection in self._emulator.sockets_of(where):
            connection.cut("reset")

    def act(self, kind: Wrong, seconds: float, where: str) -> None:
        """What a fault of sockets or of the account is. Raises No or ValueError where the venue would not do it."""
        emulator = self._emulator
        account = emulator.account
        match kind:
            case Wrong.FORCED_CLOSE:
                self.close_sockets(where)
            case Wrong.SOCKET_RESET:
                self.reset_sockets(where)
            case Wrong.CONNECTION_REFUSED:
                emulator.refuse_connections(seconds)
            case Wrong.RESTART:
                emulator.restart()
            case Wrong.FOREIGN_ORDER:
                px_ticks = round(account.mark_px_ticks() * (1 - _FOREIGN_AWAY))
                self.foreign_order(Side.BUY, px_ticks, self._small_lots(px_ticks))
            case Wrong.MANUAL_TRADE:
                self.manual_trade(Side.BUY, self._small_lots(account.mark_px_ticks()))
            case Wrong.LIQUIDATION:
                if account.position() is None:
                    raise ValueError("there is no position to liquidate")
                self.liquidate()
            case Wrong.TRANSFER:
                self.transfer(_TAKEN_OUT_E10)
            case Wrong.LEVERAGE_CHANGED:
                self.change_facts(leverage=_OTHER_LEVERAGE if account.facts.leverage != _OTHER_LEVERAGE else 1)
            case Wrong.HEDGE_MODE:
                self.change_facts(position_mode="hedge")
            case Wrong.PERMISSION_WIDENED:
                self.change_facts(can_withdraw=True)
            case Wrong.PERMISSION_NARROWED:
                self.change_facts(can_trade=False)
            case Wrong.FEES_CHANGED:
                facts = account.facts
                self.change_fees(2 * Decimal(facts.maker_rate), 2 * Decimal(facts.taker_rate))
            case _:
                raise ValueError(f"{kind} is none that happens at once")

    def _small_lots(self, px_ticks: int) -> int:
        """Twice the least that the venue takes."""
        instrument = self._emulator.account.instrument
        return 2 * max(instrument.min_qty_lots, -(-instrument.min_notional_e10 // instrument.notional_e10(px_ticks, 1)))
