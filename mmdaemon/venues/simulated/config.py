"""The numbers of the simulated venue. Every default is stated here and nowhere else."""

from decimal import Decimal

import msgspec

from mmdaemon.core.types import E10
from mmdaemon.venues.simulated.faults import FaultRates, ScriptedFault
from mmdaemon.venues.simulated.latency import Delay
from mmdaemon.venues.simulated.matching import FillModel, PostOnly
from mmdaemon.venues.simulated.queueing import QueueModel


class SimulatedConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Latencies are one way. Rates are fractions of notional, as text would be: exact decimals, never floats."""

    account: str = "simulated"
    tag: str = "s"
    """Opens every trade, bill and order id of the venue's. Give each run of one journal its own."""
    number_ids_from: int = 0
    """Those ids are rising odd numbers from this even one on, as exchanges have them. 0: tag, letter and count."""
    start_e10: int = 100_000 * E10
    maker_rate: Decimal = Decimal("0.0002")
    taker_rate: Decimal = Decimal("0.0006")
    leverage: int = 1
    """What opening orders are margined at."""
    maintenance_rate: Decimal = Decimal("0.004")
    liquidation_rate: Decimal = Decimal("0.0006")
    """The fee of a liquidation, on notional."""

    fills: FillModel = FillModel.QUEUE
    queue: QueueModel = QueueModel()
    post_only: PostOnly = PostOnly.CANCEL_LATER
    can_amend: bool = True
    has_dead_man: bool = False
    bare_answers: bool = False
    """An answer says no more than that the request was taken in, as at Bitget: of a new order neither size nor price,
    of an amend or a cancel nothing at all. What became of it is on the stream, and in what is read."""

    request: Delay = Delay(0.05)
    """To the venue."""
    response: Delay = Delay(0.05)
    """The answer to a request or a read."""
    stream: Delay = Delay(0.05)
    """Private messages."""
    feed: Delay = Delay(0.0)
    """Market messages, on top of the arrival times that the source has already."""
    request_timeout_s: float = 5.0
    """When the client gives a request up. The venue does not hear of it."""

    orders_per_s: float = 10.0
    cancels_per_s: float = 10.0
    reads_per_s: float = 10.0
    burst: int = 20
    """What each of the three buckets holds."""

    mark_interval_s: float = 1.0
    """Least time between marks made from the mid, where the source has none."""
    keep: int = 100_000
    """Requests, fills, bills and ended orders that the venue remembers at least; twice as many at most."""
    faults: FaultRates = FaultRates()
    script: tuple[ScriptedFault, ...] = ()
