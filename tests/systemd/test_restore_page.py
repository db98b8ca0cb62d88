"""The operator's pages on restore."""

import pytest

from tests.systemd.test_runbook import page, section


@pytest.mark.parametrize("title", ["Disaster recovery", "Journal trouble"])
def test_a_restore_is_between_a_stop_and_a_start(title: str) -> None:
    """Beside a daemon it is refused (75), and without one nobody hears the `resume`."""
    block = section(page("docs/RUNBOOK.md"), title).partition("```sh\n")[2].partition("```")[0]
    lines = [line.partition("#")[0].strip() for line in block.splitlines()]
    (restore,) = (at for at, line in enumerate(lines) if line.startswith("mmdaemon restore --latest"))
    assert "systemctl stop mmdaemon@btc" in lines[:restore]
    assert "systemctl start mmdaemon@btc" in lines[restore:]
