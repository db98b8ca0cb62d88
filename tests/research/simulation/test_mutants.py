"""Named mutants of the safety code, each of which the simulation must catch within a few seeds.

A mutant is a defect that somebody once shipped. It is put in by a patch, in this test only; a mutant that survives
says that the simulation cannot see what it is there to see.
"""

from collections.abc import Callable
from typing import Any

import pytest

from mmdaemon.core import orders, position
from mmdaemon.core.events import OrderUpdate
from mmdaemon.core.orders import WorkingOrder
from mmdaemon.core.types import TERMINAL, KillState, OrderStatus
from mmdaemon.daemon import reconcile
from mmdaemon.daemon.inbox import Inbox
from mmdaemon.daemon.sender import Sender
from mmdaemon.journal import recovery
from mmdaemon.journal.state_dir import StateDir
from mmdaemon.research.simulation.plan import Plan
from mmdaemon.research.simulation.runner import run

HOURS = 0.4
SEEDS = range(1, 9)
"""Each mutant is caught by one of these."""

Patch = pytest.MonkeyPatch


def timeout_is_rejected(patch: Patch) -> None:
    post = Inbox.post

    def mutant(self: Inbox, event: Any) -> None:
        if isinstance(event, OrderUpdate) and event.status is OrderStatus.UNKNOWN:
            event = OrderUpdate(
                event.mono_ns, event.ts_ns, None, event.client_id, OrderStatus.REJECTED, 0, None, None, None, "timeout"
            )
        post(self, event)

    patch.setattr(Inbox, "post", mutant)


def intent_after_send(patch: Patch) -> None:
    async def mutant(self: Sender, number: int | None) -> str:
        return ""

    patch.setattr(Sender, "_why_not_durable", mutant)


def early_settle(patch: Patch) -> None:
    settle = orders._settle

    def mutant(book: Any, order: WorkingOrder, before_lots: int) -> bool:
        if order.status in TERMINAL:
            order.cum_final, order.cum_filled_lots = True, order.filled_lots
        return settle(book, order, before_lots)

    patch.setattr(orders, "_settle", mutant)


def quick_not_found(patch: Patch) -> None:
    ask = reconcile.Reconciler._ask

    async def mutant(self: Any, order: WorkingOrder) -> None:
        patch.setattr(reconcile, "LATEST_NS", -(10**12))
        self._absent[order.client_id] = 0
        await ask(self, order)

    patch.setattr(reconcile.Reconciler, "_ask", mutant)


def latch_lost(patch: Patch) -> None:
    patch.setattr(StateDir, "write_latch", lambda self, text: ())
    patch.setattr(recovery, "read_latch", lambda state: recovery.Latch(KillState.ARMED, ()))


def fill_booked_twice(patch: Patch) -> None:
    on_fill = position.on_fill

    def mutant(held: Any, fill: Any, instrument: Any) -> bool:
        held.trade_ids.pop(fill.trade_id, None)
        return on_fill(held, fill, instrument)

    patch.setattr(position, "on_fill", mutant)


MUTANTS: dict[Callable[[Patch], None], int] = {
    timeout_is_rejected: 5,
    intent_after_send: 4,
    early_settle: 3,
    quick_not_found: 5,
    latch_lost: 17,
    fill_booked_twice: 18,
}
"""Each with the invariant that catches it, in the first of `SEEDS` that does."""


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_mutant_is_caught(mutant: Callable[[Patch], None], monkeypatch: Patch) -> None:
    mutant(monkeypatch)
    caught = next((found for seed in SEEDS if (found := run(Plan(seed, HOURS)).violation)), None)
    assert caught is not None, f"{mutant.__name__} survived seeds {SEEDS}"
    assert caught.number == MUTANTS[mutant], caught
