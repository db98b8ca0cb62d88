"""What a run decided, read once: the cap in lots that its orders were held to, and why a side had no quote."""

from bisect import bisect_right

import msgspec

from mmdaemon.core.decision import Decision
from mmdaemon.core.types import Side
from mmdaemon.journal.reader import JournalReader
from mmdaemon.journal.records import FillRow


class Decisions:
    """Of one run. A decision stands until the next one that was journaled, which is the next that was another."""

    def __init__(self, journal: JournalReader, epoch: int, end_ts_ns: int) -> None:
        self.absent: dict[tuple[Side, str], list[tuple[int, int]]] = {}
        """By side and reason, when no quote was wanted there; UTC."""
        self._since: dict[Side, tuple[str, int]] = {}
        self._seqs: list[int] = []
        self._cap_lots: list[int] = []
        decode = msgspec.msgpack.Decoder(Decision).decode
        decisions = "SELECT seq, ts_ns, decision FROM decisions WHERE epoch = ? ORDER BY seq"
        for seq, ts_ns, blob in journal.db.execute(decisions, (epoch,)):
            decision = decode(blob)
            self._seqs.append(seq)
            self._cap_lots.append(decision.max_position_lots)
            self._say(Side.BUY, decision.no_bid, ts_ns)
            self._say(Side.SELL, decision.no_ask, ts_ns)
        for side in Side:
            self._say(side, "", end_ts_ns)
        intents = "SELECT client_id, min(seq) FROM intents WHERE epoch = ? GROUP BY client_id"
        self._sent: dict[str, int] = dict(journal.db.execute(intents, (epoch,)))

    def cap_lots(self, fill: FillRow) -> int:
        """The largest cap that stood while the fill's order was out: it, or one beside it, was held to that. 0 where
        there was no decision."""
        first = max(0, bisect_right(self._seqs, self._sent.get(fill.client_id, fill.seq)) - 1)
        last = bisect_right(self._seqs, fill.seq)
        return max(self._cap_lots[first:last], default=0)

    def _say(self, side: Side, why: str, ts_ns: int) -> None:
        before, begun_ns = self._since.get(side, ("", ts_ns))
        if why == before:
            return
        if before:
            self.absent.setdefault((side, before), []).append((begun_ns, ts_ns))
        self._since[side] = why, ts_ns
