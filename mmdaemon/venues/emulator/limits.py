"""How often the venue may be asked: a bucket for each endpoint and key, as Bitget counts them."""

from collections.abc import Mapping

from mmdaemon.core.types import NS


class Bucket:
    """`per_s` tokens a second, one second's worth at most; full at first."""

    __slots__ = ("_per_s", "_size", "_tokens", "_told_ns")

    def __init__(self, per_s: float, now_ns: int, size: float = 0.0) -> None:
        """`size`: what it holds, where that is not one second's worth (at least one token)."""
        self._per_s = per_s
        self._size = size or max(1.0, per_s)
        self._tokens = self._size
        self._told_ns = now_ns

    def takes(self, now_ns: int) -> bool:
        """Take one token; False: none is left."""
        passed_s = max(0, now_ns - self._told_ns) / NS
        self._told_ns = max(now_ns, self._told_ns)
        self._tokens = min(self._size, self._tokens + passed_s * self._per_s)
        # A token that is due is there, whatever floating point makes of its last bit.
        if self._tokens < 1 - 1e-9:
            return False
        self._tokens -= 1
        return True


class Limits:
    """A refusal costs nothing, as at the venue. What has no limit here is always allowed."""

    def __init__(self, per_s: Mapping[str, float]) -> None:
        """`per_s` by path."""
        self._per_s = dict(per_s)
        self._buckets: dict[tuple[str, str], Bucket] = {}

    def allows(self, path: str, now_ns: int, key: str = "") -> bool:
        """Whether one more request of this key is worked on now. `now_ns`: monotonic."""
        per_s = self._per_s.get(path)
        if per_s is None:
            return True
        bucket = self._buckets.get((key, path))
        if bucket is None:
            bucket = self._buckets[key, path] = Bucket(per_s, now_ns)
        return bucket.takes(now_ns)
