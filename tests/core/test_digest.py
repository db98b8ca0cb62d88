"""Same parameters, same events: the same bytes; one thing changed anywhere: others."""

import msgspec
import pytest

from mmdaemon.core import engine
from mmdaemon.core.commands import Cancel
from mmdaemon.core.digest import Digest
from mmdaemon.core.engine import NOTHING, Step
from mmdaemon.core.events import BookUpdate, Event
from mmdaemon.core.state import new_state
from tests.core.build import DEFAULT, EQUITY_E10, Desk
from tests.core.test_engine import day

GOLDEN = "2e5fe2bd98a2599945bd835d9cea4d0d"
"""Of `test_engine.day` on this code. A change of it is a change of what is decided somewhere, so it is never changed
without knowing which."""


def digest_of(desk: Desk) -> Digest:
    digest = Digest(desk.params)
    for event, step in desk.log:
        digest.update(event.mono_ns, event.ts_ns, step)
    return digest


@pytest.fixture(scope="module")
def a_day() -> Desk:
    return day()[0]


def replayed(desk: Desk, events: list[Event]) -> str:
    state, digest = new_state(desk.params, EQUITY_E10), Digest(desk.params)
    for event in events:
        digest.update(event.mono_ns, event.ts_ns, engine.step(state, event, desk.params))
    return digest.hex()


def test_the_golden_day(a_day: Desk) -> None:
    assert digest_of(a_day).hex() == GOLDEN


def test_a_second_run_is_the_same_to_the_byte(a_day: Desk) -> None:
    again = day()[0]
    assert digest_of(again).hex() == digest_of(a_day).hex()
    assert digest_of(again).steps == digest_of(a_day).steps > 300


def test_a_replay_of_the_events_alone_is_the_same(a_day: Desk) -> None:
    """Through the journal's encoding, into a fresh state."""
    decode = msgspec.msgpack.Decoder(Event).decode
    events = [decode(msgspec.msgpack.encode(event)) for event, _ in a_day.log]
    assert events == [event for event, _ in a_day.log]
    assert replayed(a_day, events) == digest_of(a_day).hex()


def test_whose_run_it_was_does_not_count(a_day: Desk) -> None:
    """Bot tag and epoch are in every client id; two runs of one market differ in nothing else."""
    digest = Digest(theirs := msgspec.structs.replace(a_day.params, bot_tag="wxyz", run_epoch=417))
    state = new_state(theirs, EQUITY_E10)
    renamed = {"mmabcd-1-": "mmwxyz-417-"}
    for ours, _ in a_day.log:
        event, client_id = ours, getattr(ours, "client_id", "")
        if client_id[:9] in renamed:
            event = msgspec.structs.replace(ours, client_id=renamed[client_id[:9]] + client_id[9:])
        digest.update(event.mono_ns, event.ts_ns, engine.step(state, event, theirs))
    assert digest.hex() == digest_of(a_day).hex()


def test_one_tick_in_one_book_is_seen(a_day: Desk) -> None:
    events = [event for event, _ in a_day.log]
    at = next(
        i
        for i in range(len(events) // 2, len(events))
        if isinstance(events[i], BookUpdate) and a_day.log[i][1].commands
    )
    book = events[at]
    assert isinstance(book, BookUpdate)
    bids = tuple((px + 1, qty) for px, qty in book.bids)
    changed = [*events[:at], msgspec.structs.replace(book, bids=bids)]
    assert replayed(a_day, changed) != replayed(a_day, events[: at + 1])


def test_steps_that_are_nothing_do_not_count() -> None:
    digest = Digest(DEFAULT)
    empty = digest.hex()
    digest.update(1, 2, NOTHING)
    assert (digest.hex(), digest.steps) == (empty, 0)


def test_time_commands_and_their_order_all_count() -> None:
    def of(*steps: tuple[int, int, Step]) -> str:
        digest = Digest(DEFAULT)
        for mono_ns, ts_ns, step in steps:
            digest.update(mono_ns, ts_ns, step)
        return digest.hex()

    a, b = Step((Cancel("mmabcd-1-1", True),)), Step((Cancel("mmabcd-1-2", True),))
    seen = {
        of((1, 2, a)),
        of((1, 2, b)),
        of((2, 2, a)),
        of((1, 3, a)),
        of((1, 2, a), (1, 2, b)),
        of((1, 2, b), (1, 2, a)),
        of((1, 2, Step((Cancel("mmabcd-1-1", True), Cancel("mmabcd-1-2", True))))),
        of((1, 2, Step((Cancel("mmabcd-1-1", False),)))),
    }
    assert len(seen) == 8
    assert all(len(one) == 32 for one in seen)
