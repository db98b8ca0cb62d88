"""The operator's pages: every command in them exists, every event, field, alert and metric they name too."""

import re
import shlex
from pathlib import Path

import pytest
from cyclopts import CycloptsError

from mmdaemon.cli.main import VERBS, build
from mmdaemon.ops import journald
from tests.test_docs_links import anchors_of, broken_links, code_of

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("docs/RUNBOOK.md", "docs/SERVICE.md")
INCIDENTS = (
    "Stopped trading",
    "Kill fired",
    "Unexpected position",
    "Exchange errors",
    "Daily loss",
    "Disaster recovery",
    "Resources",
    "Partition",
    "Bad configuration",
    "Journal trouble",
    "Metrics trouble",
    "Clock",
)
PARTS = ("**You see**", "**It means**", "**Do**", "**Over**")


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def commands(text: str) -> list[list[str]]:
    """Command lines of `mmdaemon`, as words. A verb by its name alone, within a sentence, is none."""
    blocks = "\n".join(re.findall(r"^```.*?^```", text, re.MULTILINE | re.DOTALL))
    spoken = [code for code in code_of(text) if " --" in code]
    found = [code for code in dict.fromkeys([*code_of(blocks), *spoken]) if re.match(r"(/\S+/)?mmdaemon ", code)]
    return [shlex.split(code.partition("mmdaemon ")[2].partition("|")[0]) for code in found]


def section(text: str, title: str) -> str:
    return text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def events(text: str) -> dict[str, str]:
    """Name and MESSAGE_ID, by the table."""
    return dict(re.findall(r"^\| `(\w+)` \| .* \| `([0-9a-f]{32})` \|$", text, re.MULTILINE))


def sources() -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "mmdaemon").rglob("*.py")))


@pytest.mark.parametrize("name", PAGES)
def test_every_command_is_taken(name: str) -> None:
    found = commands(page(name))
    assert len(found) > 3
    app = build()
    refused: list[str] = []
    for words in found:
        try:
            app.parse_args(words, exit_on_error=False, print_error=False)
        except CycloptsError as error:
            refused.append(f"{shlex.join(words)}: {error}")
    assert refused == []


def test_a_command_that_is_none_is_seen() -> None:
    (words,) = commands("```sh\nmmdaemon kill --wiat\n```\n")
    with pytest.raises(CycloptsError):
        build().parse_args(words, exit_on_error=False, print_error=False)


@pytest.mark.parametrize("verb", sorted({words[0] for name in PAGES for words in commands(page(name))}))
def test_the_help_of_every_verb_named_can_be_read(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert verb in VERBS
    build()([verb, "--help"], exit_on_error=False, result_action="return_value")
    assert f"mmdaemon {verb}" in capsys.readouterr().out


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    assert broken_links(name, page(name)) == []


@pytest.mark.parametrize("title", INCIDENTS)
def test_each_incident_says_what_you_see_what_it_means_what_to_do_and_when_it_is_over(title: str) -> None:
    text = section(page("docs/RUNBOOK.md"), title)
    assert [text.count(part) for part in PARTS] == [1, 1, 1, 1]
    assert [text.index(part) for part in PARTS] == sorted(text.index(part) for part in PARTS)
    assert "```sh\n" in text


def test_events_are_those_that_are_logged_with_their_ids() -> None:
    shown = events(page("docs/RUNBOOK.md"))
    assert len(shown) > 15
    assert {name: journald.message_id(name) for name in shown} == shown
    code = sources()
    assert [name for name in shown if f'"{name}"' not in code] == []
    named = set(re.findall(r"MMDAEMON_EVENT=(\w+)", "".join(page(name) for name in PAGES)))
    assert named <= set(shown)


def test_alerts_and_metrics_are_there() -> None:
    text = page("docs/RUNBOOK.md")
    metrics = set(re.findall(r"`(mmdaemon_\w+)`", text))
    assert metrics
    assert [name for name in metrics if f"`{name}`" not in page("docs/METRICS.md")] == []
    rules = (ROOT / "config" / "monitoring" / "mmdaemon.rules.yml").read_text(encoding="utf-8")
    alerts = set(re.findall(r"alert: (\w+)", rules))
    assert set(re.findall(r"`(Mmdaemon\w+)`", text)) <= alerts


def test_where_alerts_send_you_there_is_a_page() -> None:
    rules = (ROOT / "config" / "monitoring" / "mmdaemon.rules.yml").read_text(encoding="utf-8")
    wanted = set(re.findall(r"RUNBOOK\.md#([\w-]+)", rules))
    assert wanted <= anchors_of(page("docs/RUNBOOK.md"))
    named = {
        anchor: section(page("docs/RUNBOOK.md"), title) for title in INCIDENTS for anchor in anchors_of(f"# {title}")
    }
    for block in rules.split("- alert: ")[1:]:
        alert, (anchor,) = block.split()[0], re.findall(r"RUNBOOK\.md#([\w-]+)", block)
        assert f"`{alert}`" in named[anchor], f"{alert} sends its reader to #{anchor}, which does not know it"


def test_it_is_installed_from_a_checkout_by_hashes_and_from_no_index() -> None:
    """The name is nobody's on the package index, so whoever takes it there would be given the keys."""
    said = "\n".join(page(name) for name in PAGES) + sources()
    installs = re.findall(r"pip install [^\n`\"]+", said)
    assert [each for each in installs if re.search(r"\bmmdaemon(\s|$)", each)] == []
    lines = [line for line in page("docs/SERVICE.md").splitlines() if "/bin/pip install" in line]
    assert len(lines) == 2
    assert "--require-hashes --only-binary :all: -r requirements.lock" in lines[0]
    assert "--no-index --no-deps --no-build-isolation" in lines[1]
