"""A cancel that stands in for a refused amend, and that the venue refuses in its turn, is not sent again at once."""

import pytest

from mmdaemon.core.commands import Amend, Cancel
from mmdaemon.core.events import RequestFailed
from mmdaemon.core.types import NS
from tests.core.build import params, running


@pytest.mark.parametrize("life_s", [0.0, 0.25])
def test_a_refused_cancel_in_an_amends_place_waits(life_s: float) -> None:
    desk = running(params(quotes={"min_quote_life_s": life_s}))
    desk.wait(0.5)
    desk.state.budgets.venue_pause_until_ns = desk.now_ns + NS  # amends wait; cancels go on
    step = desk.feed(desk.book(desk.bid - 400, desk.ask - 400))
    assert not [each for each in step.commands if isinstance(each, Amend)]
    cancels = [each for each in step.commands if isinstance(each, Cancel)]
    assert cancels
    desk.wait(0.005)
    again = desk.feed(RequestFailed(*desk.now, cancels[0].client_id, "cancel", "busy")).commands
    assert again == ()
