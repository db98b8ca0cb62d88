"""The fourteen items at the emulator: all pass on both kinds of account, and a fault for each is caught by its line."""

import re
from collections.abc import Mapping

import pytest

from mmdaemon.daemon.preflight.items import ITEMS, Result
from mmdaemon.daemon.preflight.record import lines
from mmdaemon.daemon.preflight.running import BY_HAND, LEFT
from mmdaemon.ops import receipt
from mmdaemon.venues.emulator.wrong import Wrong
from tests.emulated.build import KINDS, Kind
from tests.emulated.preflights import Case, Seen, clinging, during, facts, forgetful, overcharging, play_all

W = Wrong
LONG = 3_600.0
HOURS = ("paper", "soak")
HANDS = tuple(BY_HAND)
MODES = ("account", "guards")
FAULTS: Mapping[str, Case] = {
    case.name: case
    for case in (
        Case("wrong fee", "classic", HANDS, "fees", "was charged 0.0012", overcharging),
        Case("wrong tick", "unified", HANDS, "instrument", "refused:41103", misstates=True),
        Case("wrong tick, classic", "classic", HANDS, "instrument", "refused:41103", misstates=True),
        Case("hedge mode", "unified", MODES, "account", "is hedge", facts(position_mode="hedge")),
        Case("isolated", "classic", MODES, "account", "isolated", facts(margin_mode="isolated")),
        Case("leverage", "unified", MODES, "account", "leverage is 3, configured 1", facts(leverage=3)),
        Case("withdraw", "classic", HANDS, "account", "may withdraw", facts(can_withdraw=True)),
        Case("withdraw, unified", "unified", HANDS, "account", "may withdraw", facts(can_withdraw=True)),
        Case("unbound", "classic", HANDS, "account", "bound to no address", facts(addresses="")),
        Case("unbound, unified", "unified", HANDS, "account", "bound to no address", facts(addresses="")),
        Case("clock off", "unified", HANDS, "account", "our clock is", during("account", (W.FUTURE_CLOCK, LONG, ""))),
        # Where what was held is gone by then, its line needs a pause first, which shows it as well.
        Case(
            *("failing cancel", "unified", ("reconciliation", "kill_switch"), "kill_switch"),
            *("rest after a (kill|pause)|do not agree: break +foreign_order", clinging),
        ),
        Case(
            *("unseen orphan", "classic", ("strangers", "feeds"), "strangers", "was not taken out"),
            during("strangers", (W.STALE_READS, LONG, "orders-pending")),
        ),
        Case(
            # A read that began before the trade may show it; what follows does not.
            *("no break found", "unified", ("reconciliation",), "reconciliation", "no break|not mended"),
            during(
                "reconciliation",
                (W.STALE_READS, LONG, "position"),
                (W.STALE_READS, LONG, "assets"),
                (W.FRAME_LOST, LONG, "private position"),
                (W.FRAME_LOST, LONG, "private account"),
            ),
        ),
        Case(
            *("no way back", "unified", ("feeds",), "feeds", "the private stream did not come back"),
            during("feeds", (W.LOGIN_REFUSED, LONG, "")),
        ),
        Case(
            *("every order refused", "classic", ("order_life", "strangers"), "order_life", "no order became UNKNOWN"),
            during("order_life", (W.PERMISSION_REFUSED, LONG, "place")),
        ),
        Case(
            *("too many", "unified", ("order_life", "budgets"), "budgets", "with too many, 1 times"),
            during("start", (W.RATE_LIMIT, 0.0, "market/candles")),
        ),
        Case("missing fill", "classic", ("pnl",), "pnl", "in the journal and not in the venue's history", forgetful),
        Case(
            *("no recovery", "classic", ("crash",), "crash", "did not quote"),
            during("crash", (W.REQUEST_LOST, LONG, "place-order")),
        ),
    )
}


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Seen | str]:
    """Whole ones first: they take longest."""
    whole = [Case(kind, kind) for kind in KINDS]
    return play_all([*whole, *FAULTS.values()], tmp_path_factory.mktemp("preflight"))


def seen(played: Mapping[str, Seen | str], name: str) -> Seen:
    found = played[name]
    assert not isinstance(found, str), found
    return found


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", KINDS)
def test_fourteen_lines_each_with_its_figures(kind: Kind, played: Mapping[str, Seen | str]) -> None:
    found = seen(played, kind)
    shown = lines([*found.results.values()], {})
    assert [each.item for each in shown] == list(receipt.ITEMS) == list(ITEMS)
    assert len(shown) == 14
    for each in shown:
        if each.item in HOURS:  # not by this: see tests/daemon/test_preflight.py
            assert each.outcome == "not_checked"
        else:
            assert each.outcome == "passed", each
            assert each.figures, each
    assert found.results[LEFT].outcome == "passed"
    assert found.left == (0, 0)
    assert not found.defects
    figures = {each.item: each.figures for each in shown}
    assert figures["fees"]["charged_rate"] == figures["fees"]["taker_rate"] == 0.0006
    assert figures["instrument"]["tick"] == "0.1"
    assert figures["order_life"]["unknown"]
    assert figures["kill_switch"]["dry_orders"]
    assert figures["kill_switch"]["dry_position_lots"]
    assert figures["pnl"]["fills"]
    assert figures["pnl"]["missing"] == 0
    assert int(figures["crash"]["resting_when_killed"]) >= 2
    assert figures["budgets"]["escalation"] == "reducing reducing hard_stop"
    assert figures["account"]["addresses"] == 1


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", list(FAULTS))
def test_a_fault_is_caught_by_its_own_line(name: str, played: Mapping[str, Seen | str]) -> None:
    case, found = FAULTS[name], seen(played, name)
    failed: dict[str, Result] = {each.item: each for each in found.results.values() if each.outcome != "passed"}
    assert case.item in failed, found.results
    assert re.search(case.said, failed[case.item].said)
    assert set(failed) == {case.item}, failed
    assert found.left == (0, 0)
    assert set(found.results) == {*case.only, LEFT}


def test_each_item_has_a_fault() -> None:
    """Two are of hours, and one of the core alone: tests/daemon/test_preflight.py."""
    assert {case.item for case in FAULTS.values()} == set(ITEMS) - {"paper", "soak", "guards"}
