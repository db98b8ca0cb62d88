"""Which word of a venue is the outcome of which command."""

from mmdaemon.core.commands import Amend, Cancel, Command, Place
from mmdaemon.core.events import OrderUpdate, RequestFailed
from mmdaemon.core.types import TERMINAL, OrderStatus


def is_outcome_of(command: Command, event: OrderUpdate | RequestFailed) -> bool:
    """Whether a word on the order of `command` is its outcome, or leaves no doubt of it.

    Words carry no number of the request they answer: an order that ended, or is UNKNOWN, answers everything that was
    asked of it, and another word only the command that it must come from.
    """
    if isinstance(event, OrderUpdate) and (event.status in TERMINAL or event.status is OrderStatus.UNKNOWN):
        return True
    match command, event:
        case Place(), OrderUpdate():
            return True
        case Amend(revision=revision), OrderUpdate(revision=in_force):
            return in_force is not None and in_force >= revision
        case Amend(revision=revision), RequestFailed(request="amend", revision=refused):
            return refused in (None, revision)
        case Cancel(), RequestFailed(request="cancel"):
            return True
        case _:
            return False
