"""The edge gate: a side that the market cannot pay for is not quoted.

    blocked(s)   edge_required(s) > spread_max / 2 of the regime, for `hold_ns` without a break
    returns      edge_required(s) < return_share * spread_max / 2,   return_share < 1

What a quote must earn (`cost.py`) is held against the widest spread that its regime quotes: what the market can be
hoped to pay. Multipliers of the half-spread are on neither side, so a drift spike does not close it. It blocks what
increases a position; a position is always quoted out of. Both sides blocked is the guard's reason EDGE.
"""

import msgspec

from mmdaemon.core.params import GateParams


class SideGate(msgspec.Struct):
    """`since_ns`: since when the edge is beyond what the market pays; 0 = it is not. The next two are what was held
    against one another last."""

    since_ns: int = 0
    blocked: bool = False
    edge_bps: float = 0.0
    most_bps: float = 0.0


class EdgeGate(msgspec.Struct):
    """The slice. Changed only by `on_timer`."""

    buy: SideGate = msgspec.field(default_factory=SideGate)
    sell: SideGate = msgspec.field(default_factory=SideGate)


def on_timer(
    gate: EdgeGate, buy_edge_bps: float, sell_edge_bps: float, spread_max_bps: float, now_ns: int, params: GateParams
) -> bool:
    """Once a second, with the required edges as they are. True where a side was blocked or let go."""
    if not params.enabled:
        return False
    most_bps = spread_max_bps / 2
    buy = _follow(gate.buy, buy_edge_bps, most_bps, now_ns, params)
    sell = _follow(gate.sell, sell_edge_bps, most_bps, now_ns, params)
    return buy or sell


def _follow(side: SideGate, edge_bps: float, most_bps: float, now_ns: int, params: GateParams) -> bool:
    side.edge_bps, side.most_bps = edge_bps, most_bps
    if side.blocked:
        if edge_bps >= params.return_share * most_bps:
            return False
        side.blocked, side.since_ns = False, 0
        return True
    if edge_bps <= most_bps:
        side.since_ns = 0
        return False
    side.since_ns = side.since_ns or now_ns
    side.blocked = now_ns - side.since_ns >= params.hold_ns
    return side.blocked
