"""What a client says on a WebSocket: ping, login, subscriptions; and the venue's answers.

Codes are the venue's (30001 no such channel, 30002 not readable, 30003 no such operation, 30004 not logged in, 30006
too many messages); a login is refused with the one that names the reason.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

import msgspec
from aiohttp import WSMsgType, web

from mmdaemon.venues.emulator.auth import Auth
from mmdaemon.venues.emulator.config import EmulatorConfig
from mmdaemon.venues.emulator.connection import Connection
from mmdaemon.venues.emulator.dialect import Channel
from mmdaemon.venues.emulator.faults import Faults
from mmdaemon.venues.emulator.rows import No, Why

MESSAGES_PER_S: Final = 10.0
_LOGIN: Final = {
    Why.KEY: (30011, "Invalid ACCESS_KEY"),
    Why.ENVIRONMENT: (30011, "Invalid ACCESS_KEY"),
    Why.PASSPHRASE: (30012, "Invalid ACCESS_PASSPHRASE"),
    Why.CLOCK: (30014, "Request timestamp expired"),
    Why.SIGNATURE: (30015, "Invalid sign"),
}
_POLL_S: Final = 0.02


class Sockets:
    """Serves connections. `begin` sends what a subscription opens with; `logged_in` is told of each login."""

    def __init__(
        self,
        auth: Auth,
        faults: Faults,
        mono_ns: Callable[[], int],
        config: EmulatorConfig,
        begin: Callable[[Connection, Channel], None],
        logged_in: Callable[[Connection], None],
    ) -> None:
        self._auth, self._faults, self._mono_ns = auth, faults, mono_ns
        self._silence_s, self._kind = config.silence_s, config.account
        self._begin, self._logged_in = begin, logged_in

    async def serve(self, connection: Connection) -> str:
        """Until one side ends it. Returns why."""
        socket = connection.socket
        assert socket is not None
        sending = asyncio.get_running_loop().create_task(connection.run(socket), name="emulator.socket")
        try:
            while True:
                try:
                    message = await socket.receive(timeout=self._silence_s)
                except TimeoutError:
                    connection.cut(f"silent for {self._silence_s:g} s")
                    return ""
                while not self._faults.reads_socket(connection.private) and connection.is_open:  # noqa: ASYNC110 - rare
                    await asyncio.sleep(_POLL_S)
                if message.type is not WSMsgType.TEXT:
                    return "the client left" if message.type is not WSMsgType.BINARY else "binary"
                connection.heard += 1
                if connection.bucket is not None and not connection.bucket.takes(self._mono_ns()):
                    self._refuse(connection, 30006, "request too many", None)
                    await connection.close(1008, "request too many")
                    return ""
                self._heard(connection, cast(str, message.data))
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    def _heard(self, connection: Connection, text: str) -> None:
        if text == "ping":
            if self._faults.answers_ping(connection.private):
                connection.say_text("pong", "pong")
            return
        try:
            message: Any = msgspec.json.decode(text)
            op, args = message["op"], cast(list[Any], message["args"])
            asked = [cast(Mapping[str, Any], arg) for arg in args if isinstance(arg, dict)]
            if not asked or len(asked) != len(args):
                raise TypeError
        except (msgspec.DecodeError, RecursionError, KeyError, TypeError):
            self._refuse(connection, 30002, "illegal request", None)
            return
        match op:
            case "login":
                self._login(connection, asked[0])
            case "subscribe":
                for arg in asked:
                    self._subscribe(connection, arg)
            case "unsubscribe":
                for arg in asked:
                    self._unsubscribe(connection, arg)
            case _:
                self._refuse(connection, 30003, "Invalid op", None)

    def _login(self, connection: Connection, arg: Mapping[str, Any]) -> None:
        refused = self._faults.on_ask(connection.private, "login")
        if refused is None and not connection.private:
            refused = 30003, "Invalid op"
        if refused is None:
            try:
                self._auth.check_login(arg, demo=connection.path.startswith("/demo"))
                if connection.dialect.name != self._kind:
                    raise No(Why.CLASSIC_ONLY if self._kind == "classic" else Why.UNIFIED_ONLY)
            except No as no:
                refused = _LOGIN.get(no.why)
                if refused is None:
                    _, code, text = connection.dialect.error(no)
                    refused = int(code), text
        if refused is not None:
            self._refuse(connection, *refused, None)
            return
        if not connection.logged_in:
            connection.logged_in = True
            self._logged_in(connection)
        connection.say("login", {"event": "login", "code": 0, "connId": str(connection.number)})

    def _subscribe(self, connection: Connection, arg: Mapping[str, Any]) -> None:
        channel = self._channel(connection, arg)
        if channel is None:
            return
        refused = self._faults.on_ask(connection.private, f"subscribe {channel.kind}")
        if refused is not None:
            self._refuse(connection, *refused, arg)
            return
        kept = connection.channels.setdefault(channel.kind, [])
        kept[:] = [each for each in kept if each.arg != channel.arg]
        kept.append(channel)
        connection.say("subscribe", {"event": "subscribe", "arg": arg})
        self._begin(connection, channel)

    def _unsubscribe(self, connection: Connection, arg: Mapping[str, Any]) -> None:
        channel = self._channel(connection, arg)
        if channel is None:
            return
        kept = connection.channels.pop(channel.kind, [])
        if kept := [each for each in kept if each.arg != channel.arg]:
            connection.channels[channel.kind] = kept
        connection.say("unsubscribe", {"event": "unsubscribe", "arg": arg})

    def _channel(self, connection: Connection, arg: Mapping[str, Any]) -> Channel | None:
        """None: refused, and told so."""
        try:
            channel = connection.dialect.channel(arg)
        except No:
            self._refuse(connection, 30001, "channel doesn't exist", arg)
            return None
        if channel.private and not connection.logged_in:
            self._refuse(connection, 30004, "User not logged in", arg)
            return None
        if channel.private != connection.private:
            self._refuse(connection, 30001, "channel doesn't exist", arg)
            return None
        return channel

    def _refuse(self, connection: Connection, code: int, text: str, arg: Mapping[str, Any] | None) -> None:
        about = {} if arg is None else {"arg": arg}
        connection.say("error", {"event": "error", **about, "code": code, "msg": text})


def opened() -> web.WebSocketResponse:
    """Not compressed: on loopback it would cost both sides and prove nothing."""
    return web.WebSocketResponse(compress=False, max_msg_size=1 << 16, timeout=1.0)
