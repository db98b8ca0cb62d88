"""The quoting rule, written once for both engines. Integers in, integers out, nothing imported: numba compiles it.

Every decision asks `wanted` for the price of each side and `action` for what to do about it. There is one order a side,
and one request at a time on it: an order whose price is no longer wanted is cancelled, and the next one is placed at
the first decision after the cancel was confirmed.
"""

NOTHING, PLACE, CANCEL = 0, 1, 2


def wanted(side: int, bid_ticks: int, ask_ticks: int, position_lots: int, most_lots: int, away_ticks: int) -> int:
    """Where to rest, `away_ticks` behind the touch; 0 is nowhere."""
    if bid_ticks <= 0 or ask_ticks <= bid_ticks or side * position_lots >= most_lots:
        return 0
    if side > 0:
        return bid_ticks - away_ticks
    return ask_ticks + away_ticks


def action(wanted_ticks: int, resting_ticks: int, is_asked: bool) -> int:
    """`resting_ticks` is the price of the order there is, 0 for none; `is_asked`, whether a request is on its way."""
    if is_asked or wanted_ticks == resting_ticks:
        return NOTHING
    return CANCEL if resting_ticks else PLACE
