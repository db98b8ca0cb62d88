"""Two accounts of one run, decision by decision and order by order."""

from collections import Counter
from collections.abc import Callable

import msgspec

from tests.bench.hft.explain import UNEXPLAINED, Market
from tests.bench.hft.setup import Seen, Setup, Told


class Difference(msgspec.Struct, frozen=True):
    """An order that both sent and that fared differently. Times are the exchange's, 0 is never."""

    order: int
    side: str
    px_ticks: int
    ours_ns: int
    theirs_ns: int
    cause: str


class Episode(msgspec.Struct, frozen=True):
    """Decisions in a row at which not everything known was the same, and the order it began with, -1 if none did."""

    first: int
    last: int
    order: int


class Compared(msgspec.Struct, frozen=True):
    decisions: int
    same_position: float
    same_book: float
    same_everything: float
    """Book, position and both orders."""
    orders_ours: int
    orders_theirs: int
    fills_ours: int
    fills_theirs: int
    causes: dict[str, int]
    differences: list[Difference]
    only_ours: int
    only_theirs: int
    """Orders that one side alone sent: what follows from a difference before."""
    episodes: list[Episode]
    unexplained: int
    """Differences of no known cause, orders of one side with no difference before, episodes without an order."""


def compare(ours: Told, theirs: Told, setup: Setup, market: Market) -> Compared:
    pairs = list(zip(ours.seen, theirs.seen, strict=True))
    a = {order.order: order for order in ours.sent}
    b = {order.order: order for order in theirs.sent}
    differences = [
        Difference(name, "sell" if name % 2 else "buy", a[name].px_ticks, a[name].filled_ns, b[name].filled_ns, cause)
        for name in sorted(a.keys() & b.keys())
        if (cause := market.cause(a[name], b[name], setup))
    ]
    episodes = _episodes(pairs, differences, setup)
    begins = min((_known_ns(difference, setup) for difference in differences), default=1 << 62)
    lone = [name for name in a.keys() ^ b.keys() if setup.first_ns + name // 2 * setup.every_ns < begins]
    causes = Counter(difference.cause for difference in differences)
    return Compared(
        decisions=len(pairs),
        same_position=_share(pairs, lambda seen: seen.position_lots),
        same_book=_share(pairs, lambda seen: (seen.bid_ticks, seen.ask_ticks)),
        same_everything=_share(pairs, lambda seen: seen),
        orders_ours=len(a),
        orders_theirs=len(b),
        fills_ours=sum(order.filled_ns > 0 for order in ours.sent),
        fills_theirs=sum(order.filled_ns > 0 for order in theirs.sent),
        causes=dict(causes),
        differences=differences,
        only_ours=len(a.keys() - b.keys()),
        only_theirs=len(b.keys() - a.keys()),
        episodes=episodes,
        unexplained=causes[UNEXPLAINED] + len(lone) + sum(episode.order < 0 for episode in episodes),
    )


def _share(pairs: list[tuple[Seen, Seen]], of: Callable[[Seen], object]) -> float:
    return sum(of(one) == of(other) for one, other in pairs) / len(pairs)


def _known_ns(difference: Difference, setup: Setup) -> int:
    """When one side first knew of a fill that the other had not."""
    return min(ns for ns in (difference.ours_ns, difference.theirs_ns) if ns) + setup.response_ns


def _episodes(pairs: list[tuple[Seen, Seen]], differences: list[Difference], setup: Setup) -> list[Episode]:
    roots: dict[int, int] = {}
    for difference in differences:
        first = -(-(_known_ns(difference, setup) - setup.first_ns) // setup.every_ns)  # the first decision after it
        roots.setdefault(first, difference.order)
    episodes: list[Episode] = []
    begun: int | None = None
    for k, (one, other) in enumerate([*pairs, pairs[0]]):
        differs = k < len(pairs) and one != other
        if differs and begun is None:
            begun = k
        elif not differs and begun is not None:
            episodes.append(Episode(begun, k - 1, roots.get(begun, -1)))
            begun = None
    return episodes
