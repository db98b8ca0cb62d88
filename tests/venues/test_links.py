"""What no venue is needed for: how long a lost subscription waits before it is asked for again."""

import asyncio

from mmdaemon.clock import RealClock
from mmdaemon.core.types import Link
from mmdaemon.venues.ccxt_client import CcxtClient
from mmdaemon.venues.ccxt_config import CcxtConfig
from mmdaemon.venues.links import Links


async def test_the_pause_grows_with_each_connection_and_not_with_each_of_its_subscriptions() -> None:
    """Three subscriptions of one socket end together: counted apart, a second cut would wait three times as long."""
    clock = RealClock(asyncio.get_running_loop())
    client = CcxtClient(CcxtConfig(), clock)
    links = Links(client, clock, {}, lambda _link, _up: None, lambda: False)
    seen: list[float] = []
    for _ in range(14):
        links.connecting(Link.PUBLIC)
        pauses = {links._pause_s(Link.PUBLIC) for _ in range(3)}
        assert len(pauses) == 1
        seen += pauses
    assert seen == sorted(seen)
    assert 0 < seen[0] < 0.2
    assert seen[1] < 2 * seen[0]
    assert seen[-1] == seen[-2] == 5.0
    links.connecting(Link.PRIVATE)
    assert links._pause_s(Link.PRIVATE) == seen[0], "each link by itself"
    await client.close()
