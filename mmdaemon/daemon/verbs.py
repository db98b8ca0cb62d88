"""What the control socket may ask of a daemon: one verb a case, each handed to the operator or to the status view."""

from collections.abc import Awaitable, Callable

from mmdaemon.daemon.operator import Outcome
from mmdaemon.daemon.supervisor import Daemon
from mmdaemon.ops.control import Answer, Request, Say, widens
from mmdaemon.ops.token import NAME, Token

Handler = Callable[[Request, Say], Awaitable[Answer]]


def handler_of(daemon: Daemon, token: Token) -> Handler:
    """The control server's handler for this daemon. What widens is refused without its `token`."""

    async def handle(request: Request, say: Say) -> Answer:
        operator, args = daemon.parts.operator, request.args
        reason = str(args.get("reason", ""))
        match request.verb:
            case "status":
                return Answer(True, 0, [], daemon.parts.status())
            case verb if widens(verb, args) and not token.matches(request.token.reveal()):
                why = (
                    f"{verb} needs the token, which lies in the state directory as the file `{NAME}` for the daemon's "
                    "user and root alone: ask by `mmdaemon` as one of them"
                )
                outcome = await operator.refuse(verb, reason, request.who, why)
            case "pause":
                outcome = await operator.pause(reason, request.who)
            case "resume":
                outcome = await operator.resume(reason, request.who)
            case "kill":
                flatten, wait = args.get("flatten") is True, args.get("wait") is True
                outcome = await operator.kill(reason, request.who, say, flatten=flatten, wait=wait)
            case "flatten":
                outcome = await operator.flatten(reason, request.who, say)
            case "reconcile":
                repair, cancel = args.get("repair") is True, str(args.get("cancel", "")).split()
                outcome = await operator.reconcile(request.who, repair=repair, reason=reason, cancel=cancel)
            case "signal":
                outcome = await daemon.parts.signals.say(str(args.get("message", "")))
            case "stop":
                daemon.stop(reason or f"asked by {request.who}")
                outcome = Outcome(True, 0, "stopping: quotes are cancelled and read as gone first")
            case _:
                known = "status, pause, resume, kill, flatten, reconcile, signal, stop"
                outcome = Outcome(False, 64, f"no such verb: {request.verb!r}; there are {known}")
        return Answer(outcome.ok, outcome.exit_code, outcome.message.splitlines(), daemon.parts.status())

    return handle
