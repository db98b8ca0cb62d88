"""What is emulated: which account, which environment, whose key, and how the venue behaves."""

from decimal import Decimal
from typing import Literal

import msgspec

from mmdaemon.core.types import E10
from mmdaemon.venues.simulated.config import SimulatedConfig
from mmdaemon.venues.simulated.latency import Delay
from mmdaemon.venues.simulated.matching import FillModel, PostOnly
from mmdaemon.venues.simulated.queueing import QueueModel


class EmulatorConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The key is of one environment, as the venue's are."""

    account: Literal["classic", "unified"]
    api_key: str
    secret: str
    passphrase: str
    environment: Literal["demo", "live"] = "demo"
    symbol: str = "BTCUSDT"
    coin: str = "USDT"

    start_e10: int = 100_000 * E10
    maker_rate: Decimal = Decimal("0.0002")
    taker_rate: Decimal = Decimal("0.0006")
    leverage: int = 1
    fills: FillModel = FillModel.QUEUE
    queue: QueueModel = QueueModel()
    post_only: PostOnly = PostOnly.CANCEL_LATER
    dead_man_granted: bool = False
    """Whether the unified account's countdown was approved."""
    keep: int = 100_000
    """Ended orders, fills and bills that are remembered at least; twice as many at most."""

    window_s: float = 30.0
    """How old a signed request may be when the venue works on it, and how far ahead of the venue's clock."""
    limits: bool = True
    """Whether the venue's rate limits are kept, of REST and of what is said on a socket."""
    checksum: bool = False
    """Whether book frames carry one, as they used to."""
    book_interval_s: float = 0.1
    """Least time between two frames of a book; 0 is one for each change."""
    ticker_interval_s: float = 0.3
    push_delay_s: float = 0.005
    """From the moment something happens to its private push. With 0 the push precedes the request's own answer."""
    silence_s: float = 120.0
    """A socket on which nothing was heard for so long is cut."""
    waiting_max_bytes: int = 8 << 20
    """A socket that is not read is cut when so much waits for it."""

    def simulated(self, ids_from: int) -> SimulatedConfig:
        """The same for the matching engine. Whatever takes time here takes it on the wire, so nothing does there."""
        return SimulatedConfig(
            account=self.account,
            number_ids_from=ids_from,
            start_e10=self.start_e10,
            maker_rate=self.maker_rate,
            taker_rate=self.taker_rate,
            leverage=self.leverage,
            fills=self.fills,
            queue=self.queue,
            post_only=self.post_only,
            stream=Delay(0.0),
            feed=Delay(0.0),
            keep=self.keep,
        )
