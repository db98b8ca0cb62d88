"""`mmdaemon notify`: whom the daemon would tell of the worst, looked at or, with --test, told."""

import os
import sys
from pathlib import Path
from typing import Annotated, Final

from cyclopts import Parameter

from mmdaemon.cli import ExitCode, Refused
from mmdaemon.ops.notify import NotifyFailed, Sender, unusable
from mmdaemon.ops.notify_send import Errand
from mmdaemon.secret import Secret
from mmdaemon.settings.credentials import FOLDER, NOTIFY_URLS, Addresses, AddressesRefused, read_notify_urls

NOT_SENT: Final = 2


def notify(*, test: Annotated[bool, Parameter(negative=())] = False) -> int:
    """Look at the addresses in the credential file `notify_urls`, which the daemon tells of a kill, a loss, a crash.

    Exits with 0 where all can be used (with --test: all took the message), 2 where one did not take it, 78 where there
    are none or one cannot be used.

    Parameters
    ----------
    test
        Send one message to each, and say what became of it.
    """
    urls = addresses(is_live=False).urls
    if not urls:
        folder = os.environ.get(FOLDER, "")
        where = f"there is no {Path(folder) / NOTIFY_URLS}" if folder else f"${FOLDER} names no folder"
        raise Refused(f"nobody would be told: {where}; make that file, as docs/NOTIFY.md shows", ExitCode.CONFIG)
    text = "The addresses of this bot work. Nothing happened, and there is nothing to do."
    errand = Errand([url.reveal() for url in urls], "mmdaemon: a test", text if test else "")
    try:
        found = Sender().send(errand)
    except NotifyFailed as failed:
        print(f"mmdaemon: notify: {failed}; whether anybody was told is not known", file=sys.stderr)
        return NOT_SENT
    for number, each in enumerate(found, 1):
        said = each.why or ("sent" if test else "can be used")
        print(f"address {number} ({each.scheme}): {said}")
    if all(each.ok for each in found):
        return ExitCode.OK
    return NOT_SENT if test else ExitCode.CONFIG


def addresses(*, is_live: bool) -> Addresses:
    """Whom to tell. Warnings go to stderr. Raises Refused (78), without an address in it."""
    try:
        found = read_notify_urls(os.environ, is_live=is_live)
    except AddressesRefused as refused:
        raise Refused(f"notify: {refused}", ExitCode.CONFIG) from None
    for warning in found.warnings:
        print(f"mmdaemon: warning: {warning}", file=sys.stderr)
    return found


def usable_addresses(*, is_live: bool) -> tuple[Secret, ...]:
    """As `addresses`, and each of them is one that apprise knows: looked at by a process of its own, and only where
    there are any. One that cannot be looked at is a warning: a message is no reason not to trade."""
    urls = addresses(is_live=is_live).urls
    if not urls:
        return ()
    try:
        problems = unusable(urls, Sender())
    except NotifyFailed as failed:
        print(f"mmdaemon: warning: notify: the addresses could not be looked at: {failed}", file=sys.stderr)
        return urls
    if problems:
        where = Path(os.environ.get(FOLDER, "")) / NOTIFY_URLS
        raise Refused(f"notify: {where}: {'; '.join(problems)} (none is shown): mend it", ExitCode.CONFIG)
    return urls
