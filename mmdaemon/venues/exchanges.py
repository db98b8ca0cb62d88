"""Which adapter an exchange has. Imported where an exchange is used and nowhere else: ccxt comes with it."""

from mmdaemon.clock import Clock
from mmdaemon.venues.ccxt_config import CcxtConfig
from mmdaemon.venues.ccxt_pro import CcxtVenue
from mmdaemon.venues.generic import GenericVenue


def exchange(config: CcxtConfig, clock: Clock, *, kills: bool = False) -> CcxtVenue | GenericVenue:
    """Bitget has an adapter of its own, the others the generic one. `kills`: it cancels and reads, without streams."""
    adapter = CcxtVenue if config.exchange == "bitget" else GenericVenue
    return adapter(config, clock, kills=kills)
