"""Canaries: no secret is in anything that the daemon writes, says or serves, in whatever form.

A real daemon with a real key trades at the emulator, at the most talkative log level, is given answers that make
everybody say what went wrong, is killed, ended by SIGABRT with a dump of each thread, and begun again. OUTPUTS names
whatever it produced; each is searched for each secret, plain, in base64, in hexadecimal and as a URL has it.
"""

import asyncio
import base64
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote
from urllib.request import urlopen

import pytest

from mmdaemon.ops.token import NAME, read_token
from mmdaemon.settings.credentials import FOLDER, NOTIFY_URLS
from tests.cli.test_rehearsed import ALL, emulator
from tests.emulated.installed import FILLING, PATIENCE_S, Installed, configuration, is_busy, is_quoting, scraped
from tests.ops.test_notify import hook

VERBS: Mapping[str, tuple[str, ...]] = {
    "status": ("status",),
    "status --json": ("status", "--json"),
    "explain": ("explain", "--last-fill"),
    "report": ("report", "--out", "{out}/report.html"),
    "export": ("export", "--all", "--out", "{out}/export"),
    "backup": ("backup", "--to", "{out}/backup"),
    "check-config": ("check-config", "{config}"),
    "notify": ("notify",),
    "reconcile": ("reconcile",),
    "--help": ("--help",),
    "run --help": ("run", "--help"),
}
"""What a person may ask, by the name of its output."""
FILES = ("state directory", "what verbs wrote", "home", "core files")
SAID = ("log", "metrics", "healthz", "page", "systemd", "messages", "command line and environment")
OUTPUTS = (*VERBS, *FILES, *SAID)


def forms(secret: str) -> dict[str, bytes]:
    """How a secret may be written. Base64 thrice: a text in the middle of another begins at any of three places."""
    raw = secret.encode()
    inner = {f"base64 at {n}": base64.b64encode(b"\0" * n + raw)[4 * (n > 0) + 4 : -4] for n in range(3)}
    return {
        "plain": raw,
        "hex": raw.hex().encode(),
        "HEX": raw.hex().upper().encode(),
        "URL": quote(secret, safe="").encode(),
        "reversed": raw[::-1],
        **inner,
        "base64 for URLs": base64.urlsafe_b64encode(raw).rstrip(b"="),
    }


def leaks(outputs: Mapping[str, bytes], secrets: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """(output, secret, form) of each that is in it."""
    return [
        (output, name, form)
        for output, data in outputs.items()
        for name, secret in secrets.items()
        for form, written in forms(secret).items()
        if written in data
    ]


@pytest.mark.parametrize("form", forms("x" * 20))
def test_each_form_is_seen(form: str) -> None:
    secret = "canary/3f+9 d1=0c77e1b"
    assert ("log", "key", form) in leaks({"log": b"before " + forms(secret)[form] + b" after"}, {"key": secret})
    assert leaks({"log": b"before and after"}, {"key": secret}) == []


@pytest.mark.parametrize("before", ["", "a", "ab", "abc"])
def test_base64_of_a_text_around_it_is_seen(before: str) -> None:
    secret = "canary-3f9d10c77e1b"
    data = base64.b64encode(f"{before}{secret}:and more".encode())
    assert leaks({"log": data}, {"key": secret})


class Systemd:
    """What systemd is told: a socket in its place."""

    def __init__(self, path: Path) -> None:
        self.path, self.got = path, b""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        while data := self._socket.recv(65_536):
            self.got += data + b"\n"


def below(folder: Path, *but: Path) -> bytes:
    """Names and bytes of all files."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path not in but)
    return b"\n".join(str(path).encode() + b"\n" + path.read_bytes() for path in files)


def fetched(port: int, path: str) -> bytes:
    with urlopen(f"http://127.0.0.1:{port}/{path}", timeout=30) as page:
        return page.read()


def seen_of(process: subprocess.Popen[bytes]) -> bytes:
    """What other users of the machine may see of a process, and what its children inherit."""
    proc = Path(f"/proc/{process.pid}")
    return proc.joinpath("cmdline").read_bytes() + proc.joinpath("environ").read_bytes()


@pytest.mark.timeout(300)
async def test_no_secret_is_in_anything(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    outputs: dict[str, bytes] = dict.fromkeys(OUTPUTS, b"")
    with hook() as told, emulator(tmp_path, "--account", "unified", *FILLING) as emulated:
        (emulated.key / NOTIFY_URLS).write_text(told.url + "\n")
        (emulated.key / NOTIFY_URLS).chmod(0o400)
        config = configuration(tmp_path / "c.toml", emulated.url, "unified")
        config.write_text(config.read_text() + '[log]\nlevel = "TRACE"\n')
        there = Installed(tmp_path / "home", config, emulated.key)
        systemd = Systemd(tmp_path / "n")
        there.environment |= {"NOTIFY_SOCKET": str(systemd.path), FOLDER: str(emulated.key)}
        with there.running() as run:
            busy = await run.until(is_busy(2))
            outputs["command line and environment"] = seen_of(run.process)
            for row in ALL:
                await asyncio.to_thread(emulated.spoil, *row)
            await run.until(is_quoting)
            for name, words in VERBS.items():
                asked = [word.format(out=out, config=config) for word in words]
                outputs[name] = (await asyncio.to_thread(there.verb, *asked)).encode()
            outputs["metrics"] = (await asyncio.to_thread(scraped, busy.metrics_port)).encode()
            outputs["healthz"] = await asyncio.to_thread(fetched, busy.metrics_port, "healthz")
            if busy.page_port:
                outputs["page"] = await asyncio.to_thread(fetched, busy.page_port, "")
            await asyncio.to_thread(there.verb, "kill", "--reason", "drill")
            await run.until(lambda seen: seen.kill == "killed")
            limits = Path(f"/proc/{run.process.pid}/limits").read_text()
            assert re.search(r"^Max core file size +0 +0 ", limits, re.MULTILINE)
            run.process.send_signal(signal.SIGABRT)
            assert await asyncio.to_thread(run.process.wait, PATIENCE_S) == -signal.SIGABRT
        with there.running() as again:
            await again.until(lambda seen: seen.kill == "killed")
            await asyncio.to_thread(there.verb, "resume", "--reason", "the drill is over")
            await again.until(is_quoting)
            token = read_token(there.state)
            again.process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(again.process.wait, PATIENCE_S) == 0
        deadline = time.monotonic() + PATIENCE_S
        while "started after crash" not in told.kinds():
            assert time.monotonic() < deadline, told.kinds()
            await asyncio.sleep(0.05)
        outputs["messages"] = repr([(each["title"], each["message"]) for each in told.got]).encode()
        key, secret, passphrase = emulated.secrets()
        path = told.url.partition("127.0.0.1")[2].partition("/")[2]
    outputs["log"] = there.log.read_bytes()
    outputs["systemd"] = systemd.got
    outputs["state directory"] = below(there.state, there.state / NAME)
    outputs["what verbs wrote"] = below(out)
    outputs["home"] = below(tmp_path / "home", there.state / NAME)
    outputs["core files"] = b"".join(path.read_bytes() for path in Path.cwd().glob("core*") if path.is_file())

    assert set(outputs) == set(OUTPUTS)
    assert [name for name, data in outputs.items() if not data and name not in ("core files", "page")] == []
    assert b"Fatal Python error: Aborted" in outputs["log"], "there was a dump to look into"
    assert outputs["log"].count(b"WARNING") + outputs["log"].count(b"ERROR") >= 3, "somebody said what went wrong"
    assert b"killed" in outputs["messages"]
    secrets = {
        "api key": key,
        "api secret": secret,
        "passphrase": passphrase,
        "address": path,
        "token": token.secret.reveal(),
    }
    assert min(len(each) for each in secrets.values()) >= 8
    assert leaks(outputs, secrets) == []
