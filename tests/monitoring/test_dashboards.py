"""The dashboards: as generated, and of metrics that exist. What Grafana makes of them no test here can say."""

import json
from typing import Any

import pytest

from tests.monitoring.dashboards import DASHBOARDS, FOLDER, document
from tests.monitoring.expressions import FOREIGN, exposed, metrics_of, records_of
from tests.monitoring.rule_cases import RULES


def read(uid: str) -> dict[str, Any]:
    return json.loads((FOLDER / f"{uid}.json").read_text(encoding="utf-8"))


def panels_of(uid: str) -> list[dict[str, Any]]:
    return [panel for panel in read(uid)["panels"] if panel["type"] != "row"]


@pytest.mark.parametrize("uid", DASHBOARDS)
def test_it_is_as_generated(uid: str) -> None:
    text = (FOLDER / f"{uid}.json").read_text(encoding="utf-8")
    assert text == document(uid), "run: python -m tests.monitoring.dashboards"


def test_no_other_file_lies_there() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(DASHBOARDS)


@pytest.mark.parametrize("uid", DASHBOARDS)
def test_every_panel_is_of_metrics_that_exist(uid: str) -> None:
    known = exposed() | FOREIGN | records_of(RULES.read_text(encoding="utf-8"))
    panels = panels_of(uid)
    assert len(panels) > 10
    for panel in panels:
        assert panel["targets"], panel["title"]
        for target in panel["targets"]:
            used = metrics_of(target["expr"])
            assert used, panel["title"]
            assert used <= known, panel["title"]


@pytest.mark.parametrize("uid", DASHBOARDS)
def test_panels_lie_side_by_side(uid: str) -> None:
    """No two on one place, and none beyond the page."""
    taken: set[tuple[int, int]] = set()
    for panel in read(uid)["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells


def test_one_bot_is_asked_for_everywhere() -> None:
    for panel in panels_of("mmdaemon-bot"):
        for target in panel["targets"]:
            assert target["expr"].count('{bot="$bot"') == len(metrics_of(target["expr"])), panel["title"]
    names = {variable["name"] for variable in read("mmdaemon-bot")["templating"]["list"]}
    assert names == {"source", "bot"}
