"""Who looks after the orders: one that is busy, about to end, or of another version is none that hangs."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from mmdaemon.cli.left import Tended, tended
from mmdaemon.journal.state_dir import StateDir

Served = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def asked(tmp_path: Path, serve: Served, patience_s: float) -> Tended:
    directory = StateDir(tmp_path, None)
    async with await asyncio.start_unix_server(serve, directory.socket_path):
        found = await tended(directory, patience_s)
        await asyncio.sleep(0.1)  # the server closes what it has accepted
        return found


async def test_an_answer_of_another_version_is_an_answer(tmp_path: Path) -> None:
    """The program was updated under a daemon that runs: its reaper is of the new version."""

    async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b'{"type":"answer","ok":true,"exit_code":0,"lines":[],"status":{"of":"another version"}}\n')
        await writer.drain()
        writer.close()

    assert await asked(tmp_path, other, 5.0) is Tended.ANSWERS


async def test_one_that_closes_its_door_on_the_way_out_does_not_hang(tmp_path: Path) -> None:
    directory = StateDir(tmp_path, None)

    async def leaves(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        directory.socket_path.unlink(missing_ok=True)
        writer.close()

    assert await asked(tmp_path, leaves, 5.0) is Tended.NOBODY


async def test_one_that_serves_others_first_is_asked_again(tmp_path: Path) -> None:
    turned_away = 0

    async def busy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal turned_away
        await reader.readline()
        if turned_away < 3:
            turned_away += 1
        else:
            writer.write(b'{"type":"answer","ok":false,"exit_code":1,"lines":["busy"]}\n')
            await writer.drain()
        writer.close()

    assert await asked(tmp_path, busy, 5.0) is Tended.ANSWERS
    assert turned_away == 3


async def test_silence_and_a_door_that_stays_shut_are_a_daemon_that_hangs(tmp_path: Path) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()  # until the client goes
        writer.close()

    async def shut(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    begun = time.monotonic()
    for serve in (silent, shut):
        assert await asked(tmp_path, serve, 0.4) is Tended.HANGS
    assert time.monotonic() - begun < 4.0
