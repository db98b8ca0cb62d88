"""What is still to be verified of Bitget on demo trading, measured: each open point of `docs/VENUES.md` is one `Line`.

Orders are of the least size and far from the market, but for one post-only order that would cross (which the venue must
not let take). All are taken out at the end, and the venue is read until it shows none. Nothing here is for an account
with money in it: `cli/preflight.py` opens it with a demo key alone.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from statistics import median
from typing import Any, Final

from mmdaemon.clock import Clock
from mmdaemon.core.commands import Amend, Cancel
from mmdaemon.core.types import NS, Liquidity, OrderStatus, Side
from mmdaemon.venues.base import Cursor, VenueUnavailable
from mmdaemon.venues.bitget import endpoints
from mmdaemon.venues.bitget.api import Endpoint, Meaning, Refused, Request, Unanswered, Unsent
from mmdaemon.venues.bitget.reading import PRODUCT
from mmdaemon.venues.bitget.unified import Unified
from mmdaemon.venues.probed import Figures, Hands, Line, NotEmpty, ProbedVenue

WINDOW_MOST_S: Final = 120.0
_HALVINGS: Final = 9
_ROUND_TRIPS: Final = 10
_COUNTDOWN_S: Final = 30
_FILL_WITHIN_S: Final = 60.0
_LEAVE_WITHIN_S: Final = 10.0
_HISTORY_NS: Final = 6 * 86_400 * NS
_MODIFY: Final = Endpoint("POST", "/api/v2/mix/order/modify-order", 10, 10, lane="order")
"""The classic API's amendment: a cancel and a new order. The adapter does not use it."""


class Probe:
    """`run` measures everything, once. Whatever the venue answers is a line."""

    def __init__(self, venue: ProbedVenue, clock: Clock, in_flight_max_s: float, leverage: float) -> None:
        self._venue, self._clock = venue, clock
        self._in_flight_max_s, self._leverage = in_flight_max_s, leverage
        self._classic = venue.config.account == "classic"
        self.lines: list[Line] = []
        self._hands: Hands

    async def run(self, *, trades: bool) -> list[Line]:
        """`trades`: also fill the least size, as maker, and close it, to see what a fee looks like.

        Raises:
            VenueUnavailable: the account cannot be read at all; nothing was placed.
        """
        self._hands = Hands(self._venue, self._clock, await self._venue.instrument())
        await self._venue.open(self._hands.deliver)
        resting, before = await self._venue.open_orders(), await self._venue.snapshot()
        if resting or before.position_lots:
            raise NotEmpty(len(resting), before.position_lots)
        try:
            for name, check in self._checks(trades=trades):
                await self._checked(name, check)
        finally:
            self.lines.append(await self._leave_nothing())
        return self.lines

    def _checks(self, *, trades: bool) -> list[tuple[str, Callable[[], Awaitable[Line]]]]:
        return [
            ("demo_header", self._header),
            ("account_type", self._account_type),
            ("account_facts", self._facts),
            ("round_trip", self._round_trip),
            ("signature_window", self._window),
            *(
                (f"contract_{symbol}", lambda symbol=symbol: self._contract(symbol))
                for symbol in ("BTCUSDT", "ETHUSDT")
            ),
            ("order_round_trip", self._order),
            ("amendment", self._modify),
            ("post_only_cancelled", self._post_only),
            ("maker_fee_sign", lambda: self._fee_sign(trades=trades)),
            ("dead_man", self._dead_man),
            ("rate_limits", self._limits),
        ]

    async def _checked(self, name: str, check: Callable[[], Awaitable[Line]]) -> None:
        try:
            line = await check()
        except (VenueUnavailable, Refused, Unanswered, Unsent, TimeoutError) as error:
            line = Line(name, "failed", f"{type(error).__name__}: {error}")
        assert line.name == name
        self.lines.append(line)

    # --- the key and the wire -----------------------------------------------------------------------------------------

    async def _header(self) -> Line:
        _, headers, _ = self._venue.signed(Request(self._account, self._account_params))
        is_demo = headers.get("PAPTRADING") == "1"
        said = "signed requests say PAPTRADING: 1" if is_demo else "a signed request has no demo header"
        return Line("demo_header", "passed" if is_demo else "failed", said)

    async def _account_type(self) -> Line:
        """The other API must say so by its own code."""
        other = endpoints.UNIFIED_SETTINGS if self._classic else endpoints.CLASSIC_ACCOUNT
        params = {} if self._classic else {"symbol": self._symbol, "productType": PRODUCT, "marginCoin": "USDT"}
        figures: Figures = {"account": self._venue.config.account}
        try:
            await self._venue.lanes.ask(Request(other, params))
        except Refused as refused:
            figures["other_api_code"] = refused.code
            is_named = refused.meaning is Meaning.WRONG_API
            said = f"the {self._venue.config.account} API answers, the other refuses with {refused.code}"
            return Line("account_type", "passed" if is_named else "failed", said, figures)
        return Line("account_type", "failed", "both APIs answer this key: which of them is it for?", figures)

    async def _facts(self) -> Line:
        facts, rates = await self._venue.facts(), await self._venue.fees()
        figures: Figures = {
            "position_mode": facts.position_mode,
            "margin_mode": facts.margin_mode,
            "leverage": facts.leverage,
            "can_trade": facts.can_trade,
            "can_withdraw": facts.can_withdraw,
            "clock_offset_s": round(facts.clock_offset_s, 4),
            "maker_rate": rates.maker_rate,
            "taker_rate": rates.taker_rate,
        }
        wrong = [
            why
            for why, is_wrong in (
                ("not one-way", facts.position_mode != "one_way"),
                (f"leverage is not {self._leverage:g}", facts.leverage != self._leverage),
                ("the key may not trade", not facts.can_trade),
                ("the key may withdraw", facts.can_withdraw),
                ("our clock is off by more than a second", abs(facts.clock_offset_s) > 1),
            )
            if is_wrong
        ]
        return Line("account_facts", "failed" if wrong else "passed", "; ".join(wrong) or "as configured", figures)

    async def _round_trip(self) -> Line:
        took: list[float] = []
        for _ in range(_ROUND_TRIPS):
            begun_ns = self._clock.mono_ns()
            await self._venue.lanes.ask(Request(endpoints.TIME, {}))
            took.append((self._clock.mono_ns() - begun_ns) / 1e6)
        figures: Figures = {"median_ms": round(median(took), 3), "max_ms": round(max(took), 3)}
        return Line("round_trip", "passed", f"{_ROUND_TRIPS} public requests", figures)

    async def _window(self) -> Line:
        """By halving: how old a signature may be."""
        if not await self._takes(0):
            return Line("signature_window", "failed", "not even a request of this moment is taken")
        taken_s, refused_s = 0.0, WINDOW_MOST_S
        if await self._takes(refused_s):
            said = f"a request signed {refused_s:g} s ago is still taken: no window is known, and no order can be lost"
            return Line("signature_window", "failed", said, {"taken_s": refused_s})
        for _ in range(_HALVINGS):
            half_s = (taken_s + refused_s) / 2
            if await self._takes(half_s):
                taken_s = half_s
            else:
                refused_s = half_s
        figures: Figures = {
            "taken_s": round(taken_s, 2),
            "refused_s": round(refused_s, 2),
            "in_flight_max_s": self._in_flight_max_s,
        }
        is_within = refused_s <= self._in_flight_max_s + 1.0
        said = f"a signature is taken up to between {taken_s:.2f} and {refused_s:.2f} s of age"
        if not is_within:
            said += f": venue.in_flight_max_s must not be less than {refused_s:.0f}"
        return Line("signature_window", "passed" if is_within else "failed", said, figures)

    async def _takes(self, age_s: float) -> bool:
        """Raises what a request raises, but for a refusal of its time."""
        lanes = self._venue.shifted(-round(age_s * 1_000), self._clock)
        try:
            await lanes.ask(Request(self._account, self._account_params))
        except Refused as refused:
            if refused.meaning is Meaning.CLOCK:
                return False
            raise
        finally:
            await lanes.close()
            await asyncio.sleep(0.1)  # ten a second are allowed
        return True

    async def _contract(self, symbol: str) -> Line:
        name = f"contract_{symbol}"
        endpoint = endpoints.CLASSIC_CONTRACTS if self._classic else endpoints.UNIFIED_CONTRACTS
        product = {"productType" if self._classic else "category": PRODUCT}
        try:
            rows = await self._hands.raw(endpoint, {**product, "symbol": symbol})
        except Refused as refused:
            return Line(name, "not_checked", f"the venue does not know {symbol} ({refused.code})")
        row: dict[str, Any] = rows[0] if rows else {}
        if not row:
            return Line(name, "not_checked", f"the venue says nothing of {symbol}")
        wanted = (
            "pricePlace", "priceEndStep", "pricePrecision", "priceMultiplier", "sizeMultiplier", "quantityMultiplier",
            "minTradeNum", "minOrderQty", "minTradeUSDT", "minOrderAmount", "maxLever", "maxLeverage", "fundInterval",
        )  # fmt: skip
        figures: Figures = {each: str(row[each]) for each in wanted if row.get(each) is not None}
        return Line(name, "passed" if figures else "failed", "as the venue states it", figures)

    # --- orders -------------------------------------------------------------------------------------------------------

    async def _order(self) -> Line:
        client_id = self._hands.new_id()
        answer_ms, push_ms = await self._hands.rest(client_id, await self._hands.far())
        begun_ns = self._clock.mono_ns()
        await self._venue.send(Cancel(client_id, risk=True))
        await self._hands.until(lambda: self._hands.ended(client_id))
        figures: Figures = {
            "place_answer_ms": answer_ms,
            "place_push_ms": push_ms,
            "cancel_push_ms": round((self._clock.mono_ns() - begun_ns) / 1e6, 3),
        }
        return Line("order_round_trip", "passed", "placed far from the market, told on the stream, cancelled", figures)

    async def _modify(self) -> Line:
        """Whether a resting post-only order can be moved, what its ids are then, and whether it is post-only still."""
        client_id, fresh = self._hands.new_id(), self._hands.new_id()
        far = await self._hands.far()
        await self._hands.rest(client_id, far)
        first = await self._hands.raw_order(client_id)
        px_ticks, qty_lots = far.px_ticks - 1, far.qty_lots
        try:
            if self._classic:
                await self._venue.lanes.ask(
                    Request(
                        _MODIFY,
                        {
                            "symbol": self._symbol,
                            "productType": PRODUCT,
                            "clientOid": client_id,
                            "newClientOid": fresh,
                            "newSize": self._hands.scale.qty_text(qty_lots),
                            "newPrice": self._hands.scale.px_text(px_ticks),
                        },
                    )
                )
            else:
                fresh = client_id
                asked = Unified(self._hands.instrument).amend(Amend(client_id, 1, px_ticks, qty_lots))
                await self._venue.lanes.ask(asked)
            await self._hands.until(lambda: any(each.px_ticks == px_ticks for each in self._hands.of(fresh)))
        except Refused as refused:
            return Line("amendment", "failed", f"refused with {refused.code}", {"code": refused.code})
        finally:
            await self._hands.take_out(client_id, fresh)
        then = await self._hands.raw_order(fresh)
        force = str(then.get("force", then.get("timeInForce", "")))
        figures: Figures = {
            "same_order_id": first.get("orderId") == then.get("orderId"),
            "same_client_id": fresh == client_id,
            "force": force,
        }
        stays = force.lower() == "post_only"
        said = "moved, and it is post-only still" if stays else f"moved, and it is {force!r} now, not post-only"
        return Line("amendment", "passed" if stays else "failed", said, figures)

    async def _post_only(self) -> Line:
        """One that would cross: refused, or cancelled on the stream, and in which words."""
        client_id = self._hands.new_id()
        book = await self._hands.some_book()
        px_ticks = book.asks[0][0] + max(1, book.asks[0][0] // 1_000)
        reasons = self._venue.reasons
        reasons.clear()
        await self._venue.send(self._hands.place(client_id, Side.BUY, px_ticks, self._hands.least_lots(px_ticks)))
        await self._hands.until(lambda: self._hands.ended(client_id))
        last = self._hands.of(client_id)[-1]
        told = await self._hands.raw_order(client_id) if last.status is not OrderStatus.REJECTED else {}
        figures: Figures = {
            "status": str(last.status),
            "our_reason": last.reason,
            "cancel_reason_on_stream": ", ".join(sorted(reasons)),
            "cancel_reason_by_rest": str(told.get("cancelReason", "")),
        }
        took = any(fill.client_id == client_id for fill in self._hands.fills) or bool(last.cum_filled_lots)
        is_known = last.reason == "post_only" or last.status is OrderStatus.REJECTED
        if took:
            return Line("post_only_cancelled", "failed", "a post-only order took", figures)
        said = "it did not take" if is_known else "it did not take, and the venue's word for that is not known here"
        return Line("post_only_cancelled", "passed" if is_known else "failed", said, figures)

    async def _fee_sign(self, *, trades: bool) -> Line:
        name, since = "maker_fee_sign", Cursor(self._clock.wall_ns() - _HISTORY_NS)
        rates = await self._venue.fees()
        figures: Figures = {"maker_rate": rates.maker_rate}
        if not trades:
            return Line(name, "not_checked", "needs a fill: run it with --fill", figures)
        client_id = self._hands.new_id()
        book = await self._hands.some_book()
        px_ticks = book.bids[0][0]
        lots = self._hands.least_lots(px_ticks)
        await self._venue.send(self._hands.place(client_id, Side.BUY, px_ticks, lots))
        with suppress(TimeoutError):
            await self._hands.until(lambda: self._hands.ended(client_id), _FILL_WITHIN_S)
        await self._hands.take_out(client_id)
        await self._hands.close_position()
        heard = {fill.trade_id: fill for fill in self._hands.fills if fill.client_id == client_id}
        if not heard:
            return Line(
                name, "not_checked", "the order at the touch was not filled within a minute: try again", figures
            )
        read = {fill.trade_id: fill for fill in await self._venue.fills(since)}
        one = next(iter(heard.values()))
        figures |= {"fee_e10": one.fee_e10, "liquidity": str(one.liquidity)}
        agree = all(each in read and read[each].fee_e10 == fill.fee_e10 for each, fill in heard.items())
        signs = all(
            fill.liquidity is not Liquidity.MAKER or (fill.fee_e10 > 0) == (rates.maker_rate > 0) or not fill.fee_e10
            for fill in heard.values()
        )
        told, sign = "agree" if agree else "DIFFER", "that" if signs else "NOT that"
        said = f"stream and REST {told}; the sign is {sign} of the rate"
        return Line(name, "passed" if agree and signs else "failed", said, figures)

    async def _dead_man(self) -> Line:
        if self._classic:
            return Line("dead_man", "not_checked", "a classic account has no countdown", {"granted": False})
        is_granted = await self._venue.dead_man(_COUNTDOWN_S)
        if is_granted:
            await self._venue.dead_man(0)
        said = "granted: begun and ended" if is_granted else "not granted to this account: the stop alone protects it"
        return Line("dead_man", "passed", said, {"granted": is_granted})

    async def _limits(self) -> Line:
        lanes = self._venue.lanes
        figures: Figures = {f"sent {path}": count for path, count in lanes.sent.items()}
        limited = dict(lanes.limited)
        figures |= {f"limited {path}": count for path, count in limited.items()}
        said = f"{sum(lanes.sent.values())} requests, {sum(limited.values())} of them too many"
        return Line("rate_limits", "failed" if limited else "passed", said, figures)

    # --- the end ------------------------------------------------------------------------------------------------------

    async def _leave_nothing(self) -> Line:
        """Cancel, and read until nothing rests and nothing is held; where the fate of a request is not known, for as
        long as it may still land."""
        rest, held = -1, 0
        end_ns = self._clock.mono_ns() + round(_LEAVE_WITHIN_S * NS)
        safe_ns = self._clock.mono_ns() + round(self._in_flight_max_s * NS) * self._hands.has_unknown
        while self._clock.mono_ns() < max(end_ns, safe_ns + NS):
            try:
                await self._venue.cancel_all()
                rest = len(await self._venue.open_orders())
                held = (await self._venue.snapshot()).position_lots
                if held:
                    await self._hands.close_position()
                elif rest == 0 and self._clock.mono_ns() >= safe_ns:
                    return Line("left_behind", "passed", "read: no order rests, nothing is held", {"orders": 0})
            except (VenueUnavailable, TimeoutError):
                rest = -1
            await asyncio.sleep(0.3)
        said = "the venue could not be read" if rest < 0 else f"{rest} orders rest and {held} lots are held: look there"
        return Line("left_behind", "failed", said, {"orders": rest, "position_lots": held})

    # --- words --------------------------------------------------------------------------------------------------------

    @property
    def _symbol(self) -> str:
        return self._venue.config.symbol

    @property
    def _account(self) -> Endpoint:
        return endpoints.CLASSIC_ACCOUNT if self._classic else endpoints.UNIFIED_SETTINGS

    @property
    def _account_params(self) -> dict[str, str]:
        return {"symbol": self._symbol, "productType": PRODUCT, "marginCoin": "USDT"} if self._classic else {}
