"""The tables that `export` writes, and their columns.

Names are those of the desk that this project replaces wherever it had the same thing: `export_desk.py` has which of its
columns are not here, and why.
"""

from typing import Final

from mmdaemon.research.export_columns import columns
from mmdaemon.research.export_rows import ExportRefused, Table, each_quote, one

_GUARD_BEFORE: Final = (
    "coalesce((SELECT t.to_state FROM transitions t WHERE t.epoch = fills.epoch AND t.seq < fills.seq "
    "ORDER BY t.seq DESC, t.rowid DESC LIMIT 1), 'starting')"
)

FILLS: Final = Table(
    "fills", "Every fill, once.", "fills", "epoch, seq, rowid", instrument="instrument_version",
    columns=columns("""
        @clocked
        @venue_ts
        account_epoch | integer | | run in which the account was first met
        exchange | text | venue | venue
        trading_pair | text | symbol | symbol at the venue
        trade_id | text | | the venue's id of the fill
        order_id | text | client_id | our client order id
        side | side | | buy or sell
        price | price | px_ticks | quote currency
        amount_base | size | qty_lots | base currency
        notional_quote | money | notional_e10 | price × amount_base
        fee_quote | money | fee_e10 | charged; negative is a rebate
        fee_text | text | | the fee as the venue wrote it
        liquidity | text | | maker or taker
        is_maker | true/false | liquidity = 'maker' | liquidity is maker
        exec_kind | text | | trade; liquidation and adl are the venue's doing
        mark_price | price | mark_px_ticks | mark known when it came
        fair0_ticks | float | | fair value before it, in ticks; absent where there was none
        regime | text | | regime when it came; absent in journals of before
        state | text | {guard} | guard state when it came
        redeliveries | integer | | how often the venue sent it again
        instrument_version | integer | | version in `instruments`
        @desk_fills
    """.replace("{guard}", _GUARD_BEFORE)),
)  # fmt: skip

MINUTES: Final = Table(
    "minutes", "One sample a minute, once a mark is known.", "minutes", "epoch, ts_ns",
    columns=columns("""
        @clocked
        bot_mode | text | (SELECT mode FROM runs r WHERE r.epoch = minutes.epoch) | simulated, paper, testnet or live
        @market
        state | text | guard | guard state
        regime | text | | regime of the market
        position_base | size | position_lots | position; negative is short
        mark_price | price | mark_px_ticks | the venue's mark
        own_bid_price | price | bid_px_ticks | our best bid; absent where none rests
        own_ask_price | price | ask_px_ticks | our best ask; absent where none rests
        equity_quote | money | equity_e10 | equity at the mark
        spread_quote | money | spread_e10 | spread captured, since the account was first met
        inventory_quote | money | inventory_e10 | result of inventory, likewise
        impact_quote | money | impact_e10 | impact within 5 s of fills, likewise
        fees_quote | money | fees_e10 | fees paid, likewise
        funding_quote | money | funding_e10 | funding received, likewise
        transfers_quote | money | transfers_e10 | transfers received, likewise
        turnover_quote | money | turnover_e10 | traded value, likewise
        fills_count | integer | fills | number of fills, likewise
        order_book_stale | true/false | NOT book_healthy | the guard found no healthy book; absent in journals of before
        book_healthy_ns | integer | | time with a healthy book since the run began, ns, likewise
        fee_source | text | | where the account's fee rates were read; absent while they are not known
        funding_rate | float | | predicted for the next settlement, positive: longs pay; absent while it is not known
        @funding_due
        @desk_minutes
    """),
)  # fmt: skip

MARKOUTS: Final = Table(
    "markouts", "What each fill was worth later, a row for each horizon that was closed.", "markouts",
    "epoch, seq, rowid",
    columns=columns("""
        @event
        account_epoch | integer | | run in which the account was first met
        trade_id | text | | the venue's id of the fill
        horizon_s | integer | | 1, 5, 30 or 60 s after the fill
        regime | text | | regime when the fill came
        side | side | | of the fill
        fair0_ticks | float | | fair value before the fill, in ticks
        fair_ticks | float | | at the horizon; absent, as the impact, where no book was healthy
        effective_bps | float | | how far inside of fair value we traded; with the impact it is the markout
        impact_bps | float | | what fair value did until the horizon, for us
    """),
)  # fmt: skip

TABLES: Final[tuple[Table, ...]] = (
    FILLS,
    MARKOUTS,
    MINUTES,
    Table(
        "orders", "Each order as it last stood.", "orders", "client_id",
        columns=columns("""
            @run
            order_id | text | client_id | our client order id
            side | side | | buy or sell
            price | price | px_ticks | in force at the venue, as far as it said
            amount_base | size | qty_lots | in force at the venue, as far as it said
            purpose | text | | quote, derisk or flatten
            level | integer | | rung of the ladder, 0 nearest
            reduce_only | true/false | | may only reduce the position
            revision | integer | | last amend that took effect
            status | text | | last known status
            reported_filled_base | size | cum_filled_lots | largest total that the venue reported
            filled_base | size | filled_lots | sum of its rows in `fills`
            settled | true/false | | ended, with every lot accounted for
            reason | text | | why it ended, in the venue's or our words
            @updated
        """),
    ),
    Table(
        "order_events", "What the venue said of orders, as it came.", "order_events", "rowid",
        columns=columns("""
            @clocked
            @venue_ts
            order_id | text | client_id | our client order id
            kind | text | | update, adopted, cancel_failed or amend_failed
            status | text | | status reported
            reported_filled_base | size | cum_filled_lots | total filled that was reported
            price | price | px_ticks | price reported
            amount_base | size | qty_lots | size reported
            revision | integer | | amend that it speaks of
            reason | text | | reason reported
        """),
    ),
    Table(
        "intents", "What was about to be sent: orders (revision 0) and their amends.", "intents",
        "epoch, seq, client_id, revision",
        columns=columns("""
            @event
            order_id | text | client_id | our client order id
            revision | integer | | 0 the order, else its amend
            side | side | | absent from here to `ioc` in an amend, except price and size
            price | price | px_ticks | price asked for
            amount_base | size | qty_lots | size asked for
            purpose | text | | quote, derisk or flatten
            level | integer | | rung of the ladder, 0 nearest
            post_only | true/false | | must not take
            reduce_only | true/false | | may only reduce the position
            ioc | true/false | | immediate or cancel
        """),
    ),
    Table(
        "cancels", "Cancels decided.", "cancels", "rowid",
        columns=columns("""
            @event
            order_id | text | client_id | our client order id
            risk | true/false | | to reduce risk: not counted in the cancel budget
        """),
    ),
    Table(
        "decisions", "Each changed decision: what it saw, what it concluded.", "decisions", "epoch, seq",
        unfold=one,
        columns=columns("""
            @clocked
            state | text | guard | guard state
            regime | text | | regime of the market
            best_bid_price | price | book.bid_px_ticks | best bid of the book; absent where none is healthy
            best_ask_price | price | book.ask_px_ticks | best ask, likewise
            fair_ticks | float | seen.fair_ticks | fair value in ticks, without the signal
            signal_bps | float | seen.signal_bps | where fair value is heading; 0 without a signal
            band_bps | float | band.band_bps | volatility band; absent until known
            sigma_bps | float | seen.sigma_bps | volatility of the mid, bps per square root of a second; 0 until known
            drift_multiplier | float | seen.drift_multiplier | widening while the mid runs
            tracker_multiplier | float | seen.tracker_multiplier | widening while the fills of the regime lose
            position_base | size | seen.position_lots | position; negative is short
            equity_quote | money | seen.equity_e10 | equity that sizes were taken from
            maker_fee_bps | float | seen.maker_bps | fee rate used; 0 where not resolved, and the guard quotes nothing
            taker_fee_bps | float | seen.taker_bps | likewise
            carry_bps | float | seen.carry_bps | expected funding cost of a long
            adverse_buy_bps | float | seen.adverse_buy_bps | measured impact after buys
            adverse_sell_bps | float | seen.adverse_sell_bps | measured impact after sells
            turnover_bps | float | seen.turnover_bps | penalty for the day's turnover
            taker_share | float | seen.taker_share | share of our volume that takes, as measured
            size_buy_share | float | seen.size_buy_share | share of normal size of bids
            size_sell_share | float | seen.size_sell_share | likewise of asks
            no_buy | text | seen.no_buy | why buys that increase were not to be; empty text where they were
            no_sell | text | seen.no_sell | likewise
            derisk | text | seen.derisk | how urgently a position was worked down
            target | float | seen.target | inventory that signals drew to, as a share of the largest position
            direction_bps | float | seen.direction_bps | how far signals moved the reservation price up
            signal_size | float | seen.signal_size | share that signals left of the size of what increases
            signal_spread | float | seen.signal_spread | what signals multiplied the half-spread by
            reservation_ticks | float | ladder.reservation_ticks | reservation price; absent where nothing can be quoted
            half_bps | float | ladder.half_bps | half-spread, likewise
            skew_bps | float | ladder.skew_bps | how far inventory moved the reservation price down, likewise
            holds_from_ticks | float | ladder.band_lo_ticks | fair value from which the decision holds, likewise
            holds_to_ticks | float | ladder.band_hi_ticks | and to which
            max_position_base | size | ladder.max_position_lots | largest position, likewise
            refresh_ns | integer | made.refresh_ns | age at which a quote is moved to its target
            bids | integer | | rungs of bids
            asks | integer | | rungs of asks
            no_bid | text | made.no_bid | why there is no bid; empty text where there is one
            no_ask | text | made.no_ask | likewise
            @buy_edge
            @sell_edge
            chain | text | | hash that chains the rows (`replay --verify`)
        """),
    ),
    Table(
        "quotes", "The target quotes of each changed decision, with the addends of their prices.", "decisions",
        "epoch, seq", unfold=each_quote,
        columns=columns("""
            @event
            side | side | quote.side | buy or sell
            level | integer | quote.level | rung, 0 nearest
            price | price | quote.px_ticks | target price
            amount_base | size | quote.qty_lots | target size
            left_alone_from_price | price | quote.lo_px_ticks | a resting order is left alone from here
            left_alone_to_price | price | quote.hi_px_ticks | to here
            purpose | text | quote.purpose | quote or derisk
            takes | true/false | quote.takes | to trade at once
            px_ticks | integer | quote.px_ticks | target price, ticks: the sum of the addends, in their order as floats
            @addends
        """),
    ),
    Table(
        "transitions", "Moves of the guard.", "transitions", "epoch, seq, rowid",
        columns=columns("""
            @clocked
            from_state | text | | guard state before
            state | text | to_state | guard state after
            reasons | text | | reasons that held then, space between them
        """),
    ),
    Table(
        "signals", "What sources outside said, and what became of it.", "signals", "epoch, seq, rowid",
        columns=columns("""
            @clocked
            source | text | | who said it
            kind | text | | what it is about; empty where the door refused it, and of a source switched off or on
            sequence | integer | | the source's own count
            what | text | | applied, shadow, refused, replaced, expired, off, on
            reason | text | | why it was refused, or the source switched off
            count | integer | | how many refusals were alike
            value | text | | as it was said
            confidence | float | | 0 to 1, as it was said; absent where it was no number
            said_ts_ns | integer | | when its source said it, ns since 1970 UTC; absent where it was no number
            ttl_s | float | | how long it was to hold, s; absent where it was no number
        """),
    ),
    Table(
        "reconciliations", "Comparisons with the venue.", "reconciliations", "epoch, seq, rowid",
        columns=columns("""
            @clocked
            scope | text | | what was compared
            position_base | size | position_lots | position at the venue
            breaks | text | | JSON list of what did not agree; [] is clean
        """),
    ),
    Table(
        "breaks", "Disagreements with the venue, from first seen to resolved.", "breaks", "rowid",
        columns=columns("""
            @run
            seq | integer | | event at which it opened
            @opened
            @last_seen
            @closed
            name | text | | what does not agree
            owner | text | | who found it
            hard | true/false | | stops trading
            detail | text | | in words
            resolution | text | | how it ended
        """),
    ),
    Table(
        "operator_actions", "What people asked for.", "operator_actions", "rowid",
        columns=columns("""
            @clocked
            action | text | | pause, resume, kill, flatten
            reason | text | | the reason given
            who | text | | who asked
            outcome | text | | what became of it
        """),
    ),
    Table(
        "kills", "States of the kill switch.", "kill", "rowid",
        columns=columns("""
            @run
            ts | time | ts_ns | when, UTC
            ts_ns | integer | | the same, in ns since 1970 UTC
            mono_ns | integer | | local monotonic clock, ns
            state | text | | any but armed is the latch
            reason | text | | why
            evidence | text | | JSON: what was read at the venue
        """),
    ),
    Table(
        "bills", "Lines of the venue's ledger.", "bills", "epoch, seq, rowid",
        columns=columns("""
            @clocked
            @venue_ts
            account_epoch | integer | | run in which the account was first met
            exchange | text | venue | venue
            bill_id | text | | the venue's id of it
            kind | text | | funding, transfer or fee
            amount_quote | money | amount_e10 | positive is received
            amount_text | text | | as the venue wrote it
            redeliveries | integer | | how often the venue sent it again
        """),
    ),
    Table(
        "runs", "Runs of the daemon.", "runs LEFT JOIN digests USING (epoch)", "epoch",
        columns=columns("""
            @run
            account_epoch | integer | | run in which the account was first met
            bot_tag | text | (SELECT bot_tag FROM meta) | prefix of our order ids
            @market
            @started
            started_mono_ns | integer | | start on the local monotonic clock, ns
            @ended
            ended_mono_ns | integer | | end, likewise
            after_clean | true/false | | the run before it stopped cleanly
            clean_stop | true/false | | it stopped cleanly; absent where it did not end
            end_reason | text | | why it ended
            version | text | | version of mmdaemon
            config_hash | text | | hash of the settings
            bot_mode | text | mode | simulated, paper, testnet or live
            durability | text | | power or process
            provenance | text | | JSON: where the market comes from and what is assumed of it
            start_quote | money | start_e10 | equity when the account was first met, on that run's row
            events | integer | | events taken in; absent where it did not end
            decisions | integer | | changed decisions, likewise
            digest | text | nullif(lower(hex(digest)), '') | fingerprint of the run, likewise
            last_chain | text | nullif(lower(hex(chain)), '') | `chain` of its last decision, likewise
        """),
    ),
    Table(
        "instruments", "What a tick and a lot are worth, by version. Belongs to no run.", "instruments", "version",
        runs="", instrument="version",
        columns=columns("""
            version | integer | | version of the rules
            exchange | text | venue | venue
            trading_pair | text | symbol | symbol at the venue
            quote | text | | quote currency
            tick | money | tick_e10 | price step, quote currency
            lot | money | lot_e10 | size step, base currency
            tick_value | money | unit_e10 | value of one tick on one lot, quote currency
            min_amount_base | size | min_qty_lots | smallest order
            max_amount_base | size | max_qty_lots | largest order
            min_notional_quote | money | min_notional_e10 | least value of an order
            @first
        """),
    ),
)  # fmt: skip


def named(names: tuple[str, ...]) -> tuple[Table, ...]:
    """Those tables, in the order of `TABLES`; all without a name. Raises ExportRefused for one there is not."""
    known = {table.name: table for table in TABLES}
    if unknown := [name for name in names if name not in known]:
        raise ExportRefused(f"there is no table {', '.join(unknown)}; there are {', '.join(known)}")
    return tuple(table for table in TABLES if not names or table.name in names)
