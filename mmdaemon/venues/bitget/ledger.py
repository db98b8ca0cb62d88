"""Which lines of the venue's ledger are booked, and as what.

The wallet must foot: fills carry their own fee and profit, so lines of trades are skipped, and every other amount that
moved the balance is booked under some kind, once. By the word of the line (classic `businessType`, unified `type`):

    trade               skipped: the fill has it. Never booked from here
    within the account  skipped: margin moved between wallet and position, the balance with all in it is what it was
    funding             FUNDING
    transfer            TRANSFER: transfers, deposits, gifts
    fee                 FEE: interest, what is left of a liquidation
    any, elsewhere      TRANSFER: of another contract or product. Not this daemon's result, but its wallet's
    unknown             received: TRANSFER; paid: FEE. So that a word nobody knows counts as a loss, never as a profit.
                        Should it be of a trade after all, it is booked twice, the equity of venue and books differ, and
                        quoting stops; refusing to read it would stop every reconciliation for ever

Amounts are as received, except where the word itself names the direction: then the sign is the word's.
"""

from typing import Final

from mmdaemon.core.events import Bill, BillKind


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_WAYS: Final = ("long", "short")
_TRADES: Final = frozenset(
    {
        *_words("buy sell buy_deal sell_deal force_buy force_sell burst_buy burst_sell"),
        *_words("burst_long_loss_query burst_short_loss_query delivery_long delivery_short"),
        *_words("force_buy_ssm force_sell_ssm burst_buy_ssm burst_sell_ssm"),
        *_words("fixed_force_buy_ssm fixed_force_sell_ssm fixed_burst_buy_ssm fixed_burst_sell_ssm"),
        *(
            f"{doing}_{way}"
            for doing in (
                *_words("open close force_close burst_close offset_reduce_close adl_close"),
                *_words("fixed_close fixed_force_close fixed_burst_close fixed_adl_close"),
                *_words("margin_offset_in_ssm fixed_offset_in_ssm dte_sys_adl_close"),
            )
            for way in _WAYS
        ),
    }
)
_WITHIN: Final = _words(
    "append_margin adjust_down_lever_append_margin reduce_margin auto_append_margin increase_margin margin_back "
    "margin_lever_order_refrozen margin_lever_order_frozen margin_lever_pos_in"
)
_FUNDING: Final = _words(
    "contract_settle_fee contract_main_settle_fee_user_in contract_main_settle_fee_user_out margin_settle_fee_user_in "
    "margin_settle_fee_user_out fixed_settle_fee_user_in fixed_settle_fee_user_out"
)
_TRANSFERS: Final = frozenset(
    {
        *(f"trans_{way}_{place}" for way in ("to", "from") for place in _words("cross exchange isolated contract otc")),
        *(
            f"{what}transfer_{way}"
            for what in ("", "reserve_", "mt5_", "financial_", "convert_")
            for way in ("in", "out")
        ),
        *_words("deposit withdraw cash_gift_issue cash_gift_recycle bonus_issue bonus_recycle bonus_expired"),
        *_words("paptrading_user_in paptrading_user_out bgpay_transfer_out bgpay_refund_in mt5_refund_in"),
        *_words("on_chain_transfer_out on_chain_transfer_refund"),
    }
)
_FEES: Final = _words(
    "interest_settlement_out interest_repayment liq_fee risk_liq_user_in risk_liq_user_out liq_transfer_in "
    "liq_transfer_out liq_fund_in liq_fund_out fixed_risk_liq_user_in "
    "fixed_risk_liq_user_out order_plf_fee_out risk_captital_user_transfer risk_captured_user_transfer"
)
_IN: Final = ("_user_in", "transfer_in")
_OUT: Final = ("_user_out", "transfer_out")


def bill(*, bill_id: str, word: str, is_ours: bool, amount_e10: int, fee_e10: int, venue_ts_ns: int) -> Bill | None:
    """The line as it is booked; None for one that is not. `is_ours`: of the contract that is traded here, or of none.
    Both amounts are signed: positive is received."""
    word = word.lower()
    if word.endswith(_OUT):
        amount_e10 = -abs(amount_e10)
    elif word.endswith(_IN):
        amount_e10 = abs(amount_e10)
    kind = _kind(word, is_ours, amount_e10)
    if kind is None:
        return None
    return Bill(0, 0, venue_ts_ns, bill_id, kind, amount_e10 + fee_e10)


def _kind(word: str, is_ours: bool, amount_e10: int) -> BillKind | None:
    if word in _WITHIN or (word in _TRADES and is_ours):
        return None
    if word in _FEES:
        return BillKind.FEE
    if word in _TRANSFERS or not is_ours:
        return BillKind.TRANSFER
    if word in _FUNDING:
        return BillKind.FUNDING
    return BillKind.TRANSFER if amount_e10 >= 0 else BillKind.FEE
