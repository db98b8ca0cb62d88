"""Asking a running daemon, over the socket that `control.py` serves."""

import asyncio
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from mmdaemon.ops.control import LINE_MAX_BYTES, VERSION, Answer, Asked, Beat, ControlError, Said, widens
from mmdaemon.ops.token import TokenMissing, read_token
from mmdaemon.unix_socket import SocketRefused, address_of

ANSWER_MAX_BYTES: Final = 1 << 20
SILENCE_S: Final = 10.0
"""Hearing nothing for this long, not even a beat (one every 2 s), means that the daemon is hung."""

_encode = msgspec.json.Encoder().encode
_decode_reply = msgspec.json.Decoder(Said | Beat | Answer).decode


class NoDaemon(ControlError):
    """Nobody listens at the socket."""


class Silent(ControlError):
    """Somebody has the socket, and was not heard of for as long as was waited: hung, or suspended."""


class Unreadable(ControlError):
    """Somebody answered, in what this version cannot read: alive, and of another version."""


async def call(
    path: Path,
    verb: str,
    args: Mapping[str, str | bool] | None = None,
    on_line: Callable[[str], None] | None = None,
    *,
    silence_s: float = SILENCE_S,
) -> Answer:
    """Ask the daemon at `path`; `on_line` gets each line of progress as it comes. A verb that may widen shows the token
    that lies beside the socket; where it cannot be read the daemon refuses, and says what is missing.

    Raises:
        NoDaemon: nobody listens there.
        Silent: nothing came, not even a beat, for `silence_s`.
        Unreadable: an answer of another version.
        ControlError: no permission, closed without an answer, or a request over 4 KiB.
    """
    given = dict(args or {})
    line = _encode(Asked(VERSION, verb, given, _token_in(path.parent) if widens(verb, given) else ""))
    if len(line) > LINE_MAX_BYTES:
        raise ControlError(f"the request has {len(line)} bytes, at most {LINE_MAX_BYTES} are taken; shorten the reason")
    try:
        async with asyncio.timeout(silence_s):
            reader, writer = await _connect(path)
        try:
            writer.write(line + b"\n")
            while True:
                async with asyncio.timeout(silence_s):
                    reply = _decode_reply(await reader.readuntil(b"\n"))
                if isinstance(reply, Answer):
                    return reply
                if isinstance(reply, Said) and on_line is not None:
                    on_line(reply.line)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
    except TimeoutError:
        raise Silent(f"the daemon at {path} has been silent for {silence_s:g} s: hung, or suspended") from None
    except (asyncio.IncompleteReadError, ConnectionError):
        raise ControlError(f"the daemon at {path} closed the connection without an answer; see its log") from None
    except (msgspec.MsgspecError, UnicodeError, asyncio.LimitOverrunError) as error:
        message = f"the daemon at {path} answered what this version cannot read ({error}); use its own `mmdaemon`"
        raise Unreadable(message) from None


def _token_in(folder: Path) -> str:
    try:
        return read_token(folder).secret.reveal()
    except TokenMissing:
        return ""


async def _connect(path: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.setblocking(False)
    connected = False
    try:
        while not connected:
            try:
                with address_of(path) as address:
                    connection.connect(address)
                connected = True
            except BlockingIOError:  # the queue of those who wait to be accepted is full
                await asyncio.sleep(0.01)
        return await asyncio.open_unix_connection(sock=connection, limit=ANSWER_MAX_BYTES)
    except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
        raise NoDaemon(f"no daemon answers at {path}") from None
    except SocketRefused as refused:
        raise ControlError(str(refused)) from refused
    except OSError as error:
        raise ControlError(f"{path}: {error.strerror or error}; run this as the daemon's user") from None
    finally:
        if not connected:
            connection.close()
