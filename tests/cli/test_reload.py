"""SIGHUP: what is applied, what is refused by name, and that an error changes nothing."""

import asyncio
import gc
import io
from collections.abc import Iterator, Mapping

import pytest
from loguru import logger

from mmdaemon.cli import ExitCode, Refused
from mmdaemon.cli.reload import APPLIED, Reload
from mmdaemon.ops import logging
from mmdaemon.ops.systemd import Notifier, ServiceWatch, Standing
from mmdaemon.settings import Settings, load
from mmdaemon.settings.presets import Value


class Running:
    """A daemon's reload, and the configuration that lies there now."""

    def __init__(self) -> None:
        self.stream = io.StringIO()
        self.written = logging.setup("INFO", self.stream, threaded=False)
        self.said: Mapping[str, Value] = {}
        self.reads = 0
        self.watch = ServiceWatch(Notifier({}), lambda: 0, lambda: Standing("", ""))
        self.reload = Reload(self.read(), self.read, self.written)

    def read(self) -> Settings:
        self.reads += 1
        return load(None, self.said, {}).settings

    async def hup(self) -> str:
        """What it says."""
        self.stream.truncate(0)
        self.reload.ask(self.watch)
        await self.reload.close()
        return self.stream.getvalue()


@pytest.fixture
def running() -> Iterator[Running]:
    it = Running()
    yield it
    logger.remove()
    it.written.close()


async def test_the_log_level_is_applied(running: Running) -> None:
    running.said = {"log.level": "ERROR"}
    await running.hup()
    assert running.written.level == "ERROR"
    running.said = {"log.level": "DEBUG"}
    assert "reload_applied setting=log.level" in await running.hup()
    logger.debug("seen")
    assert "seen" in running.stream.getvalue()


async def test_what_needs_a_restart_is_named_with_both_values_and_named_again(running: Running) -> None:
    running.said = {"limits.collar_bps": 77.0, "quotes.band_gain": 0.125, "log.level": "WARNING"}
    for applied in (1, 0):
        said = await running.hup()
        assert "setting=limits.collar_bps" in said
        assert "file=77.0" in said
        assert "setting=quotes.band_gain" in said
        assert said.count("needs a restart") == 2
        assert f"reloaded applied={applied} needs_restart=2" in said


async def test_an_error_changes_nothing_not_even_what_could_be(running: Running) -> None:
    running.said = {"log.level": "ERROR", "limits.collar_bsp": 3.0, "limits.collar_bps": -1.0}
    said = await running.hup()
    assert "setting=limits.collar_bsp" in said
    assert "setting=limits.collar_bps" in said
    assert "nothing was changed" in said
    assert running.written.level == "INFO"


async def test_a_mode_that_is_refused_changes_nothing(running: Running) -> None:
    def refuse() -> Settings:
        raise Refused("run.mode = 'live': give --live too", ExitCode.CONFIG)

    reload = Reload(running.read(), refuse, running.written)
    reload.ask(running.watch)
    await reload.close()
    assert "give --live too; nothing was changed" in running.stream.getvalue()


async def test_one_that_comes_meanwhile_is_done_afterwards(running: Running) -> None:
    before = running.reads
    running.reload.ask(running.watch)
    running.said = {"log.level": "ERROR"}
    for _ in range(5):
        running.reload.ask(running.watch)
    await running.reload.close()
    assert before + 1 <= running.reads <= before + 2
    assert running.written.level == "ERROR"


def test_what_is_applied_is_a_setting_that_no_decision_depends_on() -> None:
    one, other = load(None, {"log.level": "ERROR"}, {}).settings, load(None, None, {}).settings
    assert set(other.flat()) >= APPLIED
    assert one.config_hash == other.config_hash


async def test_a_defect_of_it_is_said_and_kills_nothing(running: Running) -> None:
    """The daemon's handler of the loop's errors answers each with a kill; a task whose error nobody heard is one."""
    killed: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: killed.append(context))

    def breaks() -> Settings:
        raise FileNotFoundError("the program was updated under it")

    reload = Reload(running.read(), breaks, running.written)
    for _ in range(2):
        reload.ask(running.watch)
        await reload.close()
    assert running.stream.getvalue().count("reload_failed") == 2
    del reload
    gc.collect()
    assert killed == []
