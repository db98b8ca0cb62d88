"""Where we stand in the queue at our price, when only the size displayed there is known.

Prints at the price come off the front. A fall of the displayed size that prints do not explain is a cancellation,
and the feed does not say whose. Two answers:

  RISK_AVERSE  it was behind us, always; only when less is displayed than we believed ahead do we move up.
  PROB         c cancelled lots fall on those ahead (f) and those behind (b) by weight: the share from behind is
               p = b**n / (f**n + b**n). This is the power function queue model of hftbacktest (PowerProbQueueModel,
               f(x) = x**n, after Rigtorp, "Estimating order queue position", 2013). n = 1 spreads cancellations
               evenly over the queue; a larger n puts them more and more into the longer part. n is an integer, so
               that the arithmetic is exact: the share ahead is rounded down to whole lots, which keeps us further back.

Both only ever move us forward. Our own orders are never part of the displayed size.
"""

from enum import StrEnum

import msgspec


class QueueRule(StrEnum):
    RISK_AVERSE = "risk_averse"
    PROB = "prob"


class QueueModel(msgspec.Struct, frozen=True):
    rule: QueueRule = QueueRule.RISK_AVERSE
    exponent: int = 3
    """n of PROB. hftbacktest's examples use 3."""

    def __post_init__(self) -> None:
        if type(self.exponent) is not int or not 1 <= self.exponent <= 16:
            raise ValueError(f"the queue exponent is a whole number from 1 to 16, got {self.exponent}")

    def ahead_after(self, ahead_lots: int, seen_lots: int, traded_lots: int, displayed_lots: int) -> int:
        """Lots ahead of us once the feed displays `displayed_lots` at our price.

        `seen_lots` is what it displayed last time and `traded_lots` what printed there since; `ahead_lots` is already
        less by those prints.
        """
        if self.rule is QueueRule.PROB:
            level = max(seen_lots - traded_lots, 0)
            cancelled = level - displayed_lots
            if cancelled > 0 and ahead_lots > 0:
                behind = max(level - ahead_lots, 0)
                front, back = ahead_lots**self.exponent, behind**self.exponent
                ahead_lots -= min(cancelled * front // (front + back), ahead_lots)
        return min(ahead_lots, displayed_lots)  # what the back had not to give came from ahead
