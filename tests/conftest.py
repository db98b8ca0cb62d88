"""What every test may ask for: the shared recordings, found in one place, and a count of the tests that lacked them."""

import os
from pathlib import Path

import pytest

SHARED_VARIABLE = "MMDAEMON_SHARED"
BESIDE_THE_CHECKOUT = Path(__file__).resolve().parents[2] / "shared"
SKIP_REASON = "no shared data"
ON_THE_WIRE = Path(__file__).resolve().parent / "emulated"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder `data` of the shared folder: `$MMDAEMON_SHARED/data`, else `../shared/data` beside the checkout.

    Skips the test where there is none beside the checkout, or where the variable is set to nothing. A variable that
    names a folder without `data` is a mistake and fails the test: it must not pass for a run without recordings.
    """
    named = os.environ.get(SHARED_VARIABLE)
    if named == "":
        pytest.skip(f"{SKIP_REASON}: {SHARED_VARIABLE} is set to nothing")
    data = (Path(named) if named else BESIDE_THE_CHECKOUT) / "data"
    if data.is_dir():
        return data
    if named:
        pytest.fail(f"{SHARED_VARIABLE}={named} has no folder `data`; name the folder that holds `data`, or unset it")
    pytest.skip(f"{SKIP_REASON}: no folder {data}; set {SHARED_VARIABLE} to the folder that holds `data`")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What waits for a wire or asks for more time than others begins first: a test of minutes must not be what all the
    rest waits for.

    Of several processes each begins with its share of them. They are dealt out here since xdist hands each a run of
    neighbours, and whoever has finished takes over from the ends of the others' runs: from what is quick.
    """

    def patience_s(item: pytest.Item) -> float:
        asked = item.get_closest_marker("timeout")
        return float(asked.args[0]) if asked and asked.args else 0.0

    def is_slow(item: pytest.Item) -> bool:
        return patience_s(item) > 0 or ON_THE_WIRE in item.path.parents

    slow = sorted(filter(is_slow, items), key=patience_s, reverse=True)
    quick = [item for item in items if not is_slow(item)]
    processes, left = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")), len(items)
    items.clear()
    for at in range(processes):
        count = left // (processes - at)
        left -= count
        share = slow[at::processes]
        rest = count - len(share) if at < processes - 1 else len(quick)
        items += share + quick[: max(0, rest)]
        del quick[: max(0, rest)]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many tests had no shared data: a result that is claimed needs none."""
    skipped = [
        report
        for report in terminalreporter.stats.get("skipped", [])
        if isinstance(report.longrepr, tuple) and report.longrepr[2].removeprefix("Skipped: ").startswith(SKIP_REASON)
    ]
    terminalreporter.write_line(f"{len(skipped)} tests skipped for want of shared data")
