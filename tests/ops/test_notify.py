"""Messages that go out by themselves: each once, to each address, from a process of its own; a hook that hangs holds up
nobody, least of all a kill."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from mmdaemon.daemon.notices import BREAK_S, UNCLEAN, Notices
from mmdaemon.ops.notify import KIND_MOST, QUEUE_MESSAGES, REPEAT_S, Notice, Notify, Sender, plain, texts_of, unusable
from mmdaemon.ops.notify_send import Delivered, Errand, scheme_of
from mmdaemon.secret import Secret
from mmdaemon.settings.credentials import FOLDER, NOTIFY_URLS, AddressesRefused, read_notify_urls
from tests.cli.test_service import CONFIG, Bot, environment

PATIENCE_S = 60
PATH = "/hook/canary-path-91b5d04e7a"


class Hook:
    """A webhook on loopback. While `hang` is set it takes requests and answers none."""

    def __init__(self, status: int = 200) -> None:
        self.got: list[dict[str, Any]] = []
        self.status = status
        self.hang = threading.Event()
        self.let_go = threading.Event()
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if hook.hang.is_set():
                    hook.let_go.wait(PATIENCE_S)
                    return
                hook.got.append({"path": self.path, **json.loads(body)})
                self.send_response(hook.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"json://127.0.0.1:{self.server.server_port}{PATH}"

    def kinds(self) -> list[str]:
        return [message["title"].rpartition(": ")[2] for message in self.got]


@contextmanager
def hook(status: int = 200) -> Generator[Hook]:
    opened = Hook(status)
    thread = threading.Thread(target=opened.server.serve_forever, daemon=True)
    thread.start()
    try:
        yield opened
    finally:
        opened.let_go.set()
        opened.server.shutdown()
        opened.server.server_close()


def until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.02)


def notice(kind: str = "killed", why: str = "a person") -> Notice:
    return Notice(kind, "KILLED.", why, "Look.")


class Recorded(Sender):
    """No process: what would be sent, and what the address is to say."""

    def __init__(self, *answers: str) -> None:
        super().__init__()
        self.sent: list[Errand] = []
        self.answers = list(answers)

    def send(self, errand: Errand) -> list[Delivered]:
        self.sent.append(errand)
        why = self.answers.pop(0) if self.answers else ""
        return [Delivered("json", not why, why)]


@pytest.fixture
def sender(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    recorded = Recorded()
    monkeypatch.setattr("mmdaemon.ops.notify.Sender", lambda _try_s: recorded)
    return recorded


URL = Secret("json://127.0.0.1:9/canary-in-address")


# --- what goes out, and how often -------------------------------------------------------------------------------------


def test_without_an_address_it_is_off_and_begins_no_thread() -> None:
    before = threading.active_count()
    off = Notify([])
    off.say(notice())
    assert not off.is_on
    assert threading.active_count() == before
    assert set(off.counts.values()) == {0}
    off.close()


def test_a_guard_that_flaps_sends_three_and_says_how_many_were_held_back(sender: Recorded) -> None:
    now_s = 0.0
    notify = Notify([URL], now_s=lambda: now_s)
    for number in range(500):
        notify.say(notice(why=f"reason {number}"))
    notify.say(notice("break_open"))  # another kind is not kept back by it
    now_s += REPEAT_S
    notify.say(notice(why="reason 500"))
    notify.close()
    assert len(sender.sent) == KIND_MOST + 2
    assert notify.counts == {"sent": KIND_MOST + 2, "failed": 0, "dropped": 0, "held": 500 - KIND_MOST}
    assert f"{500 - KIND_MOST} more of this kind were held back" in sender.sent[-1].body


def test_the_same_words_are_said_once(sender: Recorded) -> None:
    notify = Notify([URL])
    for _ in range(5):
        notify.say(notice())
    notify.close()
    assert len(sender.sent) == 1
    assert notify.counts["held"] == 4


def test_what_fails_is_tried_again_and_then_given_up(sender: Recorded) -> None:
    sender.answers = ["timed out", "it answered HTTP 503", ""] + ["connection refused"] * 5
    notify = Notify([URL], pauses_s=(0, 0.01, 0.01, 0.01, 0.01))
    notify.say(notice("one"))
    notify.say(notice("two"))
    until(lambda: notify.counts["failed"] == 1, "given up")
    assert notify.counts["sent"] == 1
    assert len(sender.sent) == 8
    notify.close()


def test_a_lane_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    inside, release = threading.Event(), threading.Event()

    class Stuck(Recorded):
        def send(self, errand: Errand) -> list[Delivered]:
            inside.set()
            release.wait(PATIENCE_S)
            return super().send(errand)

    monkeypatch.setattr("mmdaemon.ops.notify.Sender", lambda _try_s: Stuck())
    notify = Notify([URL])
    notify.say(notice("first"))
    assert inside.wait(PATIENCE_S)
    for number in range(QUEUE_MESSAGES + 5):
        notify.say(notice(f"kind_{number}"))
    assert notify.counts["dropped"] == 5
    release.set()
    notify.close()


def test_a_message_has_no_secret_and_formats_links_and_mentions_nothing(sender: Recorded) -> None:
    notify = Notify([URL], redact=lambda text: text.replace("my-secret", "***"))
    notify.who = "btc (live) BTCUSDT"
    venue = "<!channel> @here [x](https://evil.example/my-secret) *b* \x1b[31m\nDo: send money"
    notify.say(notice(why=venue))
    notify.close()
    (sent,) = sender.sent
    assert sent.title == "mmdaemon btc (live) BTCUSDT: killed"
    assert sent.body.splitlines()[0] == "KILLED."
    assert sent.body.count("\n") == 2
    assert not set("<>@[]*\x1b") & set(sent.body)
    assert "://" not in sent.body
    assert "my-secret" not in sent.body


def test_what_a_message_is_cut_to() -> None:
    assert len(plain("x" * 10_000)) == 400


# --- the log's words --------------------------------------------------------------------------------------------------


class Later:
    """The loop's calls, made by hand."""

    def __init__(self) -> None:
        self.waiting: list[tuple[float, Callable[[], None], Later]] = []
        self.is_cancelled = False

    def __call__(self, after_s: float, call: Callable[[], None]) -> "Later":
        handle = Later()
        self.waiting.append((after_s, call, handle))
        return handle

    def cancel(self) -> None:
        self.is_cancelled = True

    def pass_time(self) -> list[float]:
        due, self.waiting = [each for each in self.waiting if not each[2].is_cancelled], []
        for _, call, _ in due:
            call()
        return [after_s for after_s, _, _ in due]


HEARD = [
    ("guard", {"after": "hard_stop", "reasons": "daily_loss"}, "loss_limit"),
    ("guard", {"after": "hard_stop", "reasons": "drawdown kill"}, "loss_limit"),
    ("guard", {"after": "hard_stop", "reasons": "journal_failed"}, "journal_failing"),
    ("guard", {"after": "hard_stop", "reasons": "break"}, "hard_stop"),
    ("guard", {"after": "soft_pause", "reasons": "book"}, ""),
    ("guard", {"after": "hard_stop", "reasons": "kill"}, ""),
    ("kill_switch", {"state": "killing", "reason": "a person"}, "killed"),
    ("kill_switch", {"state": "quiet", "reason": "a person"}, ""),
    ("task_died", {"task": "cost", "error": "ValueError()"}, "part_died"),
    ("journal_failed", {"error": "disk full"}, "journal_failing"),
    ("latch_file_failed", {"failure": "disk full"}, "journal_failing"),
    ("orders_may_rest", {"in": "BTCUSDT"}, "orders_may_rest"),
    ("not_ended", {"parts": "cost"}, "unclean_stop"),
    (UNCLEAN, {"starts": 2}, "started_after_crash"),
    ("fill", {"order": "x"}, ""),
]


@pytest.mark.parametrize(("name", "fields", "kind"), HEARD)
def test_what_is_told(name: str, fields: dict[str, object], kind: str) -> None:
    told: list[Notice] = []
    Notices(told.append, Later(), 5.0).hear(name, fields)
    assert [each.kind for each in told] == ([kind] if kind else [])
    anchors = {each.do.partition("#")[2] for each in told}
    runbook = (Path(__file__).parents[2] / "docs" / "RUNBOOK.md").read_text(encoding="utf-8")
    assert all(f"## {anchor.replace('-', ' ')}\n" in runbook.lower() for anchor in anchors)


def test_a_stop_and_the_kill_it_throws_are_one_message() -> None:
    told: list[Notice] = []
    notices = Notices(told.append, Later(), 5.0)
    notices.hear("guard", {"after": "hard_stop", "reasons": "daily_loss"})
    notices.hear("kill_switch", {"state": "killing", "reason": "daily_loss"})
    assert [each.kind for each in told] == ["loss_limit"]
    notices.hear("kill_switch", {"state": "armed", "reason": ""})
    notices.hear("kill_switch", {"state": "killing", "reason": "daily_loss"})
    assert [each.kind for each in told] == ["loss_limit", "killed"]


@pytest.mark.parametrize(("then", "told_late"), [("quiet", True), ("verified", False), ("killed", False)])
def test_a_kill_that_is_not_verified_is_told(then: str, told_late: bool) -> None:
    told: list[Notice] = []
    later = Later()
    notices = Notices(told.append, later, 5.0)
    notices.hear("kill_switch", {"state": "killing", "reason": "x"})
    notices.hear("kill_switch", {"state": then, "reason": "x"})
    assert later.pass_time() == ([20.0] if told_late else [])
    assert [each.kind for each in told] == ["killed", "kill_not_verified"][: 1 + told_late]


def test_a_break_is_told_once_it_does_not_mend() -> None:
    told: list[Notice] = []
    later = Later()
    notices = Notices(told.append, later, 5.0)
    notices.hear("breaks", {"open": "position"})
    notices.hear("breaks", {"open": "none"})
    assert later.pass_time() == []
    notices.hear("breaks", {"open": "position"})
    notices.hear("breaks", {"open": "position; foreign_order/x"})
    assert later.pass_time() == [BREAK_S]
    assert [(each.kind, each.why) for each in told] == [("break_open", "position; foreign_order/x")]


@pytest.mark.parametrize(("code", "kinds"), [(0, []), (70, ["unclean_stop"]), (75, ["unclean_stop"])])
def test_last_words(code: int, kinds: list[str]) -> None:
    told: list[Notice] = []
    later = Later()
    notices = Notices(told.append, later, 5.0)
    notices.hear("breaks", {"open": "position"})
    notices.ended(code, "RuntimeError()")
    assert [each.kind for each in told] == kinds
    assert later.pass_time() == []


# --- the process that sends -------------------------------------------------------------------------------------------


def test_a_real_hook_takes_it_and_each_failure_is_said_without_the_address() -> None:
    with hook() as well, hook(500) as ill:
        urls = [well.url, ill.url, "json://127.0.0.1:9" + PATH]
        found = Sender().send(Errand(urls, "a title", "a <b>body</b>"))
        assert [(each.ok, each.scheme) for each in found] == [(True, "json"), (False, "json"), (False, "json")]
        assert found[1].why == "it answered HTTP 500"
        assert found[2].why == "connection refused"
        assert [(each["title"], each["path"]) for each in well.got] == [("a title", PATH)]
        assert Sender().send(Errand([well.url])) == [Delivered("json", ok=True)]
        assert len(well.got) == 1, "without a body nothing is sent"


def test_an_address_that_nobody_knows_is_named_by_its_number() -> None:
    urls = [Secret("json://127.0.0.1:9/x"), Secret("bogus://canary-92e"), Secret("canary-77c-without-scheme")]
    problems = unusable(urls, Sender())
    assert [problem.split()[1] for problem in problems] == ["2", "3"]
    assert "canary" not in str(problems)
    assert scheme_of("canary-77c-without-scheme") == "?"
    assert texts_of([Secret("slack://T0000/B0000/canary0123456789abc")])[1:] == ["canary0123456789abc"]


# --- the file ---------------------------------------------------------------------------------------------------------


def written(folder: Path, text: str, mode: int = 0o400) -> dict[str, str]:
    (folder / NOTIFY_URLS).write_text(text)
    (folder / NOTIFY_URLS).chmod(mode)
    return {FOLDER: str(folder)}


def test_the_file_is_lines_of_addresses(tmp_path: Path) -> None:
    environ = written(tmp_path, "# whom\n\n json://127.0.0.1:1/a \nslack://x/y/z\n")
    found = read_notify_urls(environ, is_live=True)
    assert [url.reveal() for url in found.urls] == ["json://127.0.0.1:1/a", "slack://x/y/z"]
    assert read_notify_urls({FOLDER: str(tmp_path / "nowhere")}, is_live=True).urls == ()
    assert read_notify_urls({}, is_live=True).urls == ()


@pytest.mark.parametrize(
    "text", ["", "# none\n", "json://canary x\n", "json://canaryé\n", "cana\n", "j://canary\n" * 9]
)
def test_what_cannot_be_used_is_refused_and_not_repeated(tmp_path: Path, text: str) -> None:
    with pytest.raises(AddressesRefused, match=r"docs/NOTIFY\.md") as caught:
        read_notify_urls(written(tmp_path, text), is_live=False)
    assert "cana" not in str(caught.value)


def test_one_that_others_may_read_is_refused_where_real_money_trades(tmp_path: Path) -> None:
    environ = written(tmp_path, "json://127.0.0.1:1/canary\n", 0o404)
    assert read_notify_urls(environ, is_live=False).warnings
    with pytest.raises(AddressesRefused, match="chmod 0400"):
        read_notify_urls(environ, is_live=True)


# --- the command, and a real daemon -----------------------------------------------------------------------------------


def command(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "mmdaemon", *words]
    environ = environment() | {FOLDER: str(folder)}
    return subprocess.run(line, capture_output=True, text=True, timeout=PATIENCE_S, env=environ, check=False)


def test_the_command_tells_each_and_says_what_came_of_it(tmp_path: Path) -> None:
    assert command(tmp_path, "notify").returncode == 78
    with hook() as well:
        written(tmp_path, f"{well.url}\n", 0o600)
        looked = command(tmp_path, "notify")
        assert (looked.returncode, looked.stdout) == (0, "address 1 (json): can be used\n")
        assert well.got == []
        written(tmp_path, f"{well.url}\njson://127.0.0.1:9{PATH}\n", 0o600)
        sent = command(tmp_path, "notify", "--test")
        assert sent.returncode == 2
        assert sent.stdout == "address 1 (json): sent\naddress 2 (json): connection refused\n"
        assert "there is nothing to do" in well.got[0]["message"]


@contextmanager
def told_bot(folder: Path, url: str, config: str = CONFIG) -> Generator[Bot]:
    """A daemon with an address, which trades at the simulated venue."""
    keys = folder / "keys"
    keys.mkdir(exist_ok=True)
    (keys / NOTIFY_URLS).unlink(missing_ok=True)
    written(keys, url + "\n")
    (folder / "bot.toml").write_text(config)
    line = [sys.executable, "-m", "mmdaemon", "run", "--config", str(folder / "bot.toml")]
    line += ["--state-dir", str(folder / "state")]
    environ = environment() | {FOLDER: str(keys)}
    with (folder / "log").open("ab") as log, subprocess.Popen(line, stderr=log, env=environ) as process:
        try:
            yield Bot(process, folder / "state")
        finally:
            if process.poll() is None:
                process.kill()


def test_an_address_that_cannot_be_used_ends_the_start(tmp_path: Path) -> None:
    with told_bot(tmp_path, "bogus://canary-18fa") as bot:
        assert bot.process.wait(PATIENCE_S) == 78
    said = (tmp_path / "log").read_text()
    assert "address 1 (bogus) is not an address that apprise can send to" in said
    assert "canary" not in said


@pytest.mark.timeout(300)
def test_a_daemon_tells_of_its_kill_and_of_its_crash(tmp_path: Path) -> None:
    with hook() as well:
        with told_bot(tmp_path, well.url) as bot:
            before = bot.trading()
            assert before.open_orders > 0
            assert bot.ask("kill", reason="a drill <b>").exit_code == 0
            until(lambda: "killed" in well.kinds(), "told of the kill")
            (killed,) = [each for each in well.got if each["title"].endswith("killed")]
            assert "BTCUSDT" in killed["title"]
            assert "Why: a drill ?b?" in killed["message"]
            assert "docs/RUNBOOK.md#kill-fired" in killed["message"]
            bot.process.kill()
            bot.process.wait(PATIENCE_S)
        with told_bot(tmp_path, well.url) as again:
            until(lambda: "started after crash" in well.kinds(), "told of the crash")
            assert again.stop() == 0
        assert "unclean stop" not in well.kinds()
    assert PATH not in (tmp_path / "log").read_text()


@pytest.mark.timeout(300)
def test_a_kill_is_done_while_the_hook_hangs(tmp_path: Path) -> None:
    """It hangs before the kill and does not answer until the bot was seen killed, resumed, and killed again."""
    with hook() as ill:
        ill.hang.set()
        with told_bot(tmp_path, ill.url) as bot:
            for reason in ("first", "second"):
                bot.trading()
                assert bot.ask("kill", reason=reason).exit_code == 0
                assert bot.status().open_orders == 0
                bot.wait_for("killed", lambda s: s.kill == "killed")
                assert ill.got == []
                assert bot.ask("resume", reason="on").ok
            ill.hang.clear()
            ill.let_go.set()
            until(lambda: ill.kinds().count("killed") == 2, "told of both once it answers")
            assert bot.stop() == 0
