"""Which lines of the venue's ledger are booked, and as what, where a word is new."""

import pytest

from mmdaemon.core.events import BillKind
from mmdaemon.venues.bitget import ledger


@pytest.mark.parametrize(
    ("word", "told_e10", "kind", "amount_e10"),
    [
        ("a_new_word", 7, BillKind.TRANSFER, 7),
        ("a_new_word", -7, BillKind.FEE, -7),
        # The direction is the word's, whatever the sign that it is told with: what was paid is a loss.
        ("a_new_charge_user_out", 7, BillKind.FEE, -7),
        ("a_new_charge_user_out", -7, BillKind.FEE, -7),
        ("a_new_gift_user_in", -7, BillKind.TRANSFER, 7),
    ],
)
def test_a_word_that_nobody_knows_is_a_loss_where_it_was_paid(
    word: str, told_e10: int, kind: BillKind, amount_e10: int
) -> None:
    line = ledger.bill(bill_id="1", word=word, is_ours=True, amount_e10=told_e10, fee_e10=0, venue_ts_ns=1)
    assert line is not None
    assert (line.kind, line.amount_e10) == (kind, amount_e10)
