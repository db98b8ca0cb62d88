"""Alertmanager's configuration, filled from credential files; run before Alertmanager starts, so that an alert that
could reach nobody is an error then and not at three in the morning.

    python -m mmdaemon.ops.alerting --credentials DIR --out FILE
    python -m mmdaemon.ops.alerting --shipped              where rules, template and dashboards are

Files in DIR, each with one line: `slack_url`; `telegram_bot_token` with `telegram_chat_id`; `deadman_url`. One that is
absent leaves its part out, and that is said. One that is empty or of the wrong form is an error. So is having neither
Slack nor Telegram. No value is ever shown. FILE is for its owner alone: Telegram's token is in it, since Alertmanager
0.25 reads it from nowhere else.
"""

import argparse
import json
import os
import re
import stat
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple, TextIO

from mmdaemon.settings.loading import config_folder

EXIT_CONFIG: Final = 78
TELEGRAM: Final = "https://api.telegram.org"
_LARGEST_BYTES: Final = 4_096
_OTHERS: Final = stat.S_IRWXO
_BLOCK: Final = re.compile(r"^ *# begin (\w+)\n(.*?)^ *# end \1\n", re.MULTILINE | re.DOTALL)
_WORD: Final = re.compile(r"@(\w+)@")


class AlertingRefused(Exception):
    """It cannot be filled; `problems` has a line for each reason, without any value."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class _Credential(NamedTuple):
    file: str
    receiver: str
    form: re.Pattern[str]
    expected: str


_URL: Final = re.compile(r"(https://|http://127\.0\.0\.1[:/])[^\s\"'@]+")
_CREDENTIALS: Final = (
    _Credential("slack_url", "slack", _URL, "an https:// address, as Slack's page of incoming webhooks shows it"),
    _Credential("telegram_bot_token", "telegram", re.compile(r"\d+:[\w-]{20,}"), "NUMBER:LETTERS, as from BotFather"),
    _Credential("telegram_chat_id", "telegram", re.compile(r"-?[1-9]\d*"), "a number other than 0"),
    _Credential("deadman_url", "deadman", _URL, "an https:// address"),
)
NEEDED: Final = ("slack", "telegram")
"""One of these must be there, or nobody is told."""


class Filled(NamedTuple):
    text: str
    left_out: tuple[str, ...]
    """Receivers without credentials."""


def fill(template: str, credentials: Path, telegram_api: str = TELEGRAM) -> Filled:
    """The configuration, and which receivers are not in it.

    Raises:
        AlertingRefused: a file is empty, of the wrong form, readable by everybody, or lacks its other half; or there is
            neither Slack nor Telegram.
    """
    problems: list[str] = []
    values: dict[str, str] = {}
    for each in _CREDENTIALS:
        value = _read(credentials / each.file, each, problems)
        if value is not None:
            values[each.file] = value
    asked = {each.receiver for each in _CREDENTIALS if (credentials / each.file).exists()}
    problems += [
        f"{credentials / each.file}: there is no such file, and {each.receiver} needs it"
        for each in _CREDENTIALS
        if each.receiver in asked and not (credentials / each.file).exists()
    ]
    if not asked & set(NEEDED):
        names = ", ".join(each.file for each in _CREDENTIALS if each.receiver in NEEDED)
        problems.append(f"{credentials}: no alert would reach anybody: there is none of {names}")
    if problems:
        raise AlertingRefused(problems)
    words = {name: json.dumps(value) for name, value in values.items()}
    words["telegram_chat_id"] = values.get("telegram_chat_id", "")
    words["telegram_api_url"] = json.dumps(telegram_api)
    words["slack_url_file"] = json.dumps(str((credentials / "slack_url").absolute()))
    receivers = {each.receiver for each in _CREDENTIALS}
    kept = _BLOCK.sub(lambda found: found[2] if found[1] in asked else "", template)
    body = "".join(line for line in kept.splitlines(keepends=True) if not line.lstrip().startswith("#"))
    if unknown := sorted({name for name in _WORD.findall(body) if name not in words}):
        raise AlertingRefused([f"the template has a word that nothing fills: {', '.join(unknown)}"])
    filled = _WORD.sub(lambda found: words[found[1]], body)
    return Filled(filled, tuple(sorted(receivers - asked)))


def _read(path: Path, credential: _Credential, problems: list[str]) -> str | None:
    try:
        with path.open(encoding="utf-8") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(_LARGEST_BYTES + 1).strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        why = (error.strerror or str(error)) if isinstance(error, OSError) else "not text"
        problems.append(f"{path}: cannot be read: {why}")
        return None
    if mode & _OTHERS:
        problems.append(f"{path}: everybody may read it: chmod 0640")
    if not text:
        problems.append(f"{path}: is empty; it must hold {credential.expected}, or not be there")
    elif not credential.form.fullmatch(text):
        problems.append(f"{path}: is not {credential.expected} (what it holds is not shown)")
    else:
        return text
    return None


def shipped() -> Path:
    """The folder of rules, template and dashboards.

    Raises:
        FileNotFoundError: the installation is incomplete.
    """
    return config_folder() / "monitoring"


def write(path: Path, text: str) -> None:
    """For its owner alone, whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    partial.replace(path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Fill it. 0, or 78 with every reason on stderr."""
    parser = argparse.ArgumentParser(prog="python -m mmdaemon.ops.alerting", description="Fill Alertmanager's file.")
    parser.add_argument("--shipped", action="store_true", help="say where the shipped files are, and end")
    parser.add_argument("--credentials", type=Path, help="folder of the credential files")
    parser.add_argument("--template", type=Path, help="another alertmanager.yml than the shipped one")
    parser.add_argument("--out", type=Path, help="where Alertmanager reads it")
    asked = parser.parse_args(arguments)
    if asked.shipped:
        _say(sys.stdout, str(shipped()))
        return 0
    if asked.credentials is None or asked.out is None:
        parser.error("--credentials and --out are needed")
    try:
        template: Path = asked.template or shipped() / "alertmanager.yml"
        filled = fill(template.read_text(encoding="utf-8"), asked.credentials)
        write(asked.out, filled.text)
    except AlertingRefused as refused:
        _say(sys.stderr, "alerting: not set up:", *(f"  {problem}" for problem in refused.problems))
        return EXIT_CONFIG
    except OSError as error:
        _say(sys.stderr, f"alerting: {error.filename}: {error.strerror}")
        return EXIT_CONFIG
    for receiver in filled.left_out:
        _say(sys.stderr, f"alerting: no credentials for {receiver}: it is left out")
    _say(sys.stdout, f"alerting: wrote {asked.out}")
    return 0


def _say(where: TextIO, *lines: str) -> None:
    where.write("".join(f"{line}\n" for line in lines))


if __name__ == "__main__":
    sys.exit(main())
