"""The rules: unit tests by promtool, metrics that exist, and mutants that the unit tests must see."""

import re
import subprocess
from pathlib import Path
from typing import Final

import pytest

from mmdaemon.core.reasons import Reason
from mmdaemon.core.types import GuardState, KillState
from tests.monitoring.expressions import FOREIGN, exposed, expressions, metrics_of, records_of
from tests.monitoring.rule_cases import CASES, MONITORING, RULES, UNIT_TESTS, Case, document
from tests.monitoring.stand import checked, need

TEXT: Final = RULES.read_text(encoding="utf-8")
RUNBOOK: Final = MONITORING.parents[1] / "docs" / "RUNBOOK.md"


class Alert:
    def __init__(self, block: str) -> None:
        self.name = block.split(maxsplit=1)[0]
        self.block = block
        found = re.search(r"^ *for: (\S+)$", block, re.MULTILINE)
        self.waits_s = _seconds(found[1]) if found else 0
        self.severity = _one(r"severity: (\w+)", block)
        self.anchor = _one(r"runbook: docs/RUNBOOK\.md#([a-z-]+)$", block)


def _seconds(text: str) -> int:
    return int(text[:-1]) * {"s": 1, "m": 60, "h": 3600}[text[-1]]


def _one(pattern: str, text: str) -> str:
    found = re.search(pattern, text, re.MULTILINE)
    assert found, f"{pattern} is not in: {text}"
    return found[1]


ALERTS: Final = [Alert(block) for block in re.split(r"^ *- alert: ", TEXT, flags=re.MULTILINE)[1:]]


def test_promtool_is_content() -> None:
    need("promtool")
    assert "SUCCESS" in checked("promtool", "check", "rules", RULES)
    assert "SUCCESS" in checked("promtool", "check", "config", MONITORING / "prometheus.yml")
    assert "SUCCESS" in checked("promtool", "test", "rules", UNIT_TESTS)


def test_the_unit_tests_are_the_cases() -> None:
    assert UNIT_TESTS.read_text(encoding="utf-8") == document(), "run: python -m tests.monitoring.rule_cases"


def test_each_alert_has_a_case_and_says_what_it_must() -> None:
    assert len({alert.name for alert in ALERTS}) == len(ALERTS)
    assert {case.alert for case in CASES} == {alert.name for alert in ALERTS}
    for alert in ALERTS:
        assert alert.name.startswith("Mmdaemon")
        assert alert.severity in {"critical", "warning", "none"}
        assert "summary: " in alert.block
        assert "description: " in alert.block


def test_every_metric_of_a_rule_exists() -> None:
    used = {name for expression in expressions(TEXT) for name in metrics_of(expression)}
    assert len(used) > 40, "the expressions are not found any more"
    assert used - exposed() - FOREIGN - records_of(TEXT) == set()
    assert metrics_of('increase(mmdaemon_gone_total{reason="x"}[1m]) > 0') == {"mmdaemon_gone_total"}


def test_every_word_of_ours_in_a_rule_is_one() -> None:
    known = {
        "reason": {each.value for each in Reason},
        "state": {each.value for each in (*GuardState, *KillState)},
        "weight": {"hard", "soft"},
        "when": {"in_flight", "later"},
        "horizon": {"5s"},
        "of": {"maker", "daily_loss", "margin_soft"},
        "job": {"mmdaemon"},
    }
    seen = [(label, word) for label, words in re.findall(r'(\w+)=~?"([^"]+)"', TEXT) for word in words.split("|")]
    assert len(seen) > 30
    assert [(label, word) for label, word in seen if word not in known[label]] == []


def test_runbook_anchors_exist() -> None:
    page = RUNBOOK.read_text(encoding="utf-8")
    titles = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
    assert {alert.anchor for alert in ALERTS} - anchors == set()
    assert {alert.name for alert in ALERTS} == set(re.findall(r"\bMmdaemon\w+", page)), "each has its place there"


# --- mutants ----------------------------------------------------------------------------------------------------------


def passes(folder: Path, rules: str, case: Case) -> bool:
    (folder / RULES.name).write_text(rules, encoding="utf-8")
    (folder / UNIT_TESTS.name).write_text(document((case,)), encoding="utf-8")
    command = ["promtool", "test", "rules", str(folder / UNIT_TESTS.name)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0 or "exp:" in said, f"it did not get as far as testing: {said}"
    return done.returncode == 0


def waiting_longer(alert: Alert, by_s: int = 60) -> str:
    """The file, with this alert's condition asked to hold so much longer."""
    block = re.sub(r"^ *for: .*\n", "", alert.block, flags=re.MULTILINE)
    longer = block.replace("        labels:\n", f"        for: {alert.waits_s + by_s}s\n        labels:\n", 1)
    assert longer != block
    return TEXT.replace(alert.block, longer)


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_a_for_that_is_longer_than_the_condition_lives_is_caught(alert: Alert, tmp_path: Path) -> None:
    """Each case is the shortest life of a condition that must be told: with a minute more it never is."""
    need("promtool")
    for case in CASES:
        if case.alert == alert.name:
            assert passes(tmp_path, TEXT, case)
            assert not passes(tmp_path, waiting_longer(alert), case)


def test_a_rule_that_looks_at_the_state_alone_is_caught(tmp_path: Path) -> None:
    """A stop that lasts a second is in no scrape."""
    need("promtool")
    blind = TEXT.replace("increase(", "0 * increase(")
    short = [case for case in CASES if "_total" in str(case.series) and "second" in case.why]
    assert len(short) > 10
    for case in short:
        assert not passes(tmp_path, blind, case)
