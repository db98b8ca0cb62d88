"""What the tests of faults have in common: what the venue said, and whether all is well in the end."""

from mmdaemon.core.commands import Command
from mmdaemon.core.events import Event
from mmdaemon.core.types import KillState
from tests.daemon.build import World


async def agrees(world: World) -> None:
    """In the end nothing is missing, nothing is doubled, nothing is of unknown fate, and both sides are quoted."""
    await world.until(world.is_two_sided_with_position, within_s=240.0)
    await world.parts.operator.pause("compare", "test")
    await world.until(lambda: not world.state.orders.live, within_s=90.0)
    await world.sleep(12)  # what the stream withholds is read within five seconds, and what it delays is here
    true = {fill.trade_id for fill in world.venue.truth().fills}
    held = world.state.position
    with world.journal() as journal:
        rows = [row[0] for row in journal.db.execute("SELECT trade_id FROM fills")]
    assert set(held.trade_ids) == true
    assert sorted(rows) == sorted(true)
    assert held.position_lots == world.venue.position_lots()
    assert world.venue.resting() == []


def listening(world: World) -> list[Event]:
    """Everything that the venue tells from now on."""
    heard: list[Event] = []
    world.venue.on_deliver = heard.append
    return heard


def sent_of(world: World, kind: type[Command], client_id: str) -> list[Command]:
    """Commands of a kind that were sent for an order."""
    return [e.command for e in world.venue.sent if isinstance(e.command, kind) and e.command.client_id == client_id]


async def emptied(world: World) -> None:
    """The kill switch has done its work: nothing rests, nothing can land any more."""
    await world.until(lambda: world.kill is KillState.KILLED, within_s=30)
    assert world.venue.resting() == []


def requests_since(world: World, mono_ns: int) -> int:
    """Everything that was sent or asked from that moment on."""
    asked = sum(at_ns >= mono_ns for at_ns, _ in world.venue.asked)
    return asked + sum(each.mono_ns >= mono_ns for each in world.venue.sent)
