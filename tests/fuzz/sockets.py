"""The control socket under attack: the real server, over a real socket, from many connections at once.

Nothing that is sent may reach the operator unless it is, by the reading of another JSON parser, a request for just
that; every connection ends; every one is counted once; nothing is left behind; and an honest client is always answered.
"""

import asyncio
import gc
import json
import os
import socket
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, Final, cast

import msgspec

from mmdaemon.daemon.supervisor import Daemon
from mmdaemon.daemon.verbs import handler_of
from mmdaemon.ops import control
from mmdaemon.ops.control import LINE_MAX_BYTES, OUTCOMES, Answer, ControlServer, Request, Say
from mmdaemon.ops.control_client import call
from mmdaemon.ops.token import unknown
from tests.fuzz.numbers import EDGES, any_word
from tests.ops.samples import picture

VERBS: Final = ("status", "pause", "resume", "kill", "flatten", "stop")
WORKERS: Final = 8
IDLE_MAX: Final = 40
ANSWER_S: Final = 30.0
"""Longest that any connection may take to be done with, by our own patience; the server's is 5 s."""


class Violation(AssertionError):
    """What must hold does not; the input is in the message."""


class Tally(msgspec.Struct):
    """What a run was made of."""

    inputs: int = 0
    kinds: Counter[str] = msgspec.field(default_factory=Counter)
    honest: int = 0
    reached: int = 0
    """Inputs that are a request for one of the six verbs after all, by another parser too."""
    outcomes: dict[str, int] = {}


def verb_of(data: bytes) -> str | None:
    """The verb that these bytes ask for, as Python's own parser reads them; None where they ask for nothing."""
    line, newline, _ = data.partition(b"\n")
    if not newline or len(line) > LINE_MAX_BYTES:
        return None
    try:
        asked: object = json.loads(line.decode())
    except (ValueError, RecursionError):
        return None
    if not isinstance(asked, dict):
        return None
    fields = cast("dict[str, Any]", asked)
    verb, args = fields.get("verb"), fields.get("args", {})
    if fields.get("version") != 1 or not isinstance(verb, str) or not isinstance(args, dict):
        return None
    if not all(isinstance(value, str | bool) for value in cast("dict[str, Any]", args).values()):
        return None
    return verb if not fields.keys() - {"version", "verb", "args"} else None


# --- what is sent -----------------------------------------------------------------------------------------------------


def _request(rng: Random) -> bytes:
    """One that might be real, but for its verb."""
    verb = rng.choice(("Kill", "kill ", "statu", "resume\x00", "__class__", any_word(rng)))
    args = {any_word(rng): rng.choice((any_word(rng), True)) for _ in range(rng.randrange(3))}
    return json.dumps({"version": 1, "verb": verb, "args": args}).encode() + b"\n"


def _damaged(rng: Random) -> bytes:
    """A real one, with bytes changed, lost, doubled or cut off."""
    data = bytearray(
        json.dumps({"version": 1, "verb": rng.choice(VERBS), "args": {"reason": "x", "wait": True}}).encode()
    )
    data += b"\n"
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data)) if data else 0
        match rng.randrange(4):
            case 0 if data:
                data[at] = rng.randrange(256)
            case 1 if data:
                del data[at]
            case 2:
                data[at:at] = bytes([rng.randrange(256)]) * rng.randint(1, 9)
            case _:
                del data[at:]
    return bytes(data)


def _wrong_types(rng: Random) -> bytes:
    value = json.dumps(rng.choice((*EDGES, None, [], {}, [[]], "x", {"a": 1}))).encode()
    fields = {b"version": b"1", b"verb": b'"kill"', b"args": b'{"wait":true}'}
    which = rng.choice((*fields, b"extra", b"wait"))
    if which == b"wait":
        fields[b"args"] = b'{"wait":' + (value if value != b'"x"' else b"0") + b"}"
    else:
        fields[which] = value if value != b'"x"' else b"null"
        if which == b"version" and rng.random() < 0.5:
            fields[which] = rng.choice((b"2", b"-1", b"1e400", b"01", b"+1", b"1" * 3_000, b"true", b"NaN"))
        if which == b"args" and value == b"{}":
            fields[which] = b"[]"
    return b"{" + b",".join(b'"' + name + b'":' + text for name, text in fields.items()) + b"}\n"


def _deep(rng: Random) -> bytes:
    opening, closing = rng.choice(((b"[", b"]"), (b'{"a":', b"}"), (b'{"version":1,"verb":"kill","args":{"a":', b"}}")))
    n = rng.randint(1, 5_000 // len(opening))
    return opening * n + (closing * n if rng.random() < 0.3 else b"") + b"\n"


def _huge(rng: Random) -> bytes:
    size = rng.choice((LINE_MAX_BYTES - 1, LINE_MAX_BYTES, LINE_MAX_BYTES + 1, 8_192, 70_000, 300_000))
    return rng.choice((b"x", b"\x00", b" ", b"[", "é".encode())) * size + (b"\n" if rng.random() < 0.5 else b"")


def _random(rng: Random) -> bytes:
    return rng.randbytes(rng.randrange(200)) + (b"\n" if rng.random() < 0.7 else b"")


def _not_utf8(rng: Random) -> bytes:
    bad = rng.choice((b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\x80", b"\\ud800", b"\\u0000\xfe"))
    return b'{"version":1,"verb":"kill","args":{"reason":"' + bad + b'"}}\n'


def _many(rng: Random) -> bytes:
    """Several lines at once: only the first is a request."""
    return b"".join(rng.choice((_random, _wrong_types, _not_utf8))(rng) for _ in range(rng.randint(2, 6)))


INPUTS: Final[dict[str, Callable[[Random], bytes]]] = {
    "random": _random,
    "damaged": _damaged,
    "wrong_types": _wrong_types,
    "deep": _deep,
    "huge": _huge,
    "not_utf8": _not_utf8,
    "many": _many,
    "strange_verb": _request,
    "nothing": lambda _: b"",
}
WEIGHTS: Final = (20, 25, 20, 8, 2, 10, 5, 8, 2)


# --- how it is sent ---------------------------------------------------------------------------------------------------


class _Anyone:
    """In the operator's place: remembers what reached it."""

    def __init__(self) -> None:
        self.reached: list[str] = []

    def __getattr__(self, verb: str) -> Callable[..., Any]:
        async def act(*_: object, **__: object) -> Any:
            self.reached.append(verb)
            return _Outcome()

        return act


class _Outcome:
    ok, exit_code, message = True, 0, "remembered"


class _Parts:
    def __init__(self) -> None:
        self.operator = _Anyone()

    def status(self) -> object:
        return picture()


class _Stand:
    """What `handler_of` asks of a daemon."""

    def __init__(self) -> None:
        self.parts = _Parts()

    def stop(self, _reason: str) -> None:
        self.parts.operator.reached.append("stop")


class Attack:
    """One server and those who attack it."""

    def __init__(self, path: Path, seed: int) -> None:
        self.rng = Random(seed)
        self.tally = Tally()
        self.stand = _Stand()
        self.verbs: Counter[str] = Counter()
        self.complaints: list[str] = []
        self.server = ControlServer(path, self._handle)
        self._real = handler_of(cast("Daemon", cast("object", self.stand)), unknown())
        self._idle: list[socket.socket] = []

    async def _handle(self, request: Request, say: Say) -> Answer:
        self.verbs[request.verb] += 1
        return await self._real(request, say)

    async def run(self, inputs: int, said: Callable[[Tally], None] | None = None) -> Tally:
        """So many inputs.

        Raises:
            Violation: at the first thing that must not be.
        """
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, what: self.complaints.append(repr(what)))
        await self.server.start()
        gc.collect()
        descriptors = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
        left = inputs

        async def work() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                await self._one()
                if self.tally.inputs % 500 == 0:
                    await self._honest()
                    if said is not None:
                        said(self.tally)

        async with asyncio.TaskGroup() as group:
            for _ in range(WORKERS):
                group.create_task(work())
        await self._honest()
        for idle in self._idle:
            idle.close()
        for _ in range(2_000):
            if not self.server._serving:
                break
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        gc.collect()
        now = len(os.listdir("/proc/self/fd")) if descriptors else 0
        self._judge(now - descriptors)
        await self.server.close(grace_s=0.0)
        return self.tally

    def _judge(self, more_descriptors: int) -> None:
        counts = self.server.counts
        self.tally.outcomes = {name: n for name, n in counts.items() if n}
        ended = sum(counts[name] for name in OUTCOMES if name != "lines_dropped")
        connections = self.tally.inputs + self.tally.honest
        if self.complaints:
            raise Violation(f"the loop was told of {len(self.complaints)} failures: {self.complaints[0][:600]}")
        if counts["failed"]:
            raise Violation(f"{counts['failed']} requests failed within the daemon")
        if ended != connections:
            raise Violation(f"{connections} connections, {ended} counted: {counts}")
        if self.server._serving or self.server._reading or self.server._handling:
            raise Violation(f"left behind: {len(self.server._serving)} connections")
        if more_descriptors > 0:
            raise Violation(f"{more_descriptors} descriptors leaked")

    async def _honest(self) -> None:
        self.tally.honest += 1
        answer = await asyncio.wait_for(call(self.server.path, "status"), ANSWER_S)
        if not answer.ok:
            raise Violation(f"an honest client was told {answer.lines}")

    async def _one(self) -> None:
        rng = self.rng
        kind = rng.choices(list(INPUTS), WEIGHTS)[0]
        data = INPUTS[kind](rng)
        manner = rng.random()
        self.tally.inputs += 1
        self.tally.kinds[kind] += 1
        verb = verb_of(data)
        client = await self._connected()
        try:
            if manner < 0.002 and b"\n" not in data and len(data) < LINE_MAX_BYTES:
                self._idle.append(client)  # says this much and no more
                await self._send(client, data)
                if len(self._idle) > IDLE_MAX:
                    self._idle.pop(0).close()
                return
            if manner < 0.05 and len(data) < 400:  # a byte or two at a time
                at = 0
                while at < len(data):
                    step = rng.randint(1, 40)
                    if not await self._send(client, data[at : at + step]):
                        break
                    at += step
                    await asyncio.sleep(0)
            else:
                await self._send(client, data)
            if manner > 0.9:
                client.close()  # does not wait for what is said to it
                return
            client.shutdown(socket.SHUT_WR)
            self._check(data, verb, await asyncio.wait_for(self._heard(client), ANSWER_S))
        except OSError:
            pass  # it hung up on us first, as it may
        finally:
            if client not in self._idle:
                client.close()

    async def _connected(self) -> socket.socket:
        loop = asyncio.get_running_loop()
        while True:
            client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            client.setblocking(False)
            try:
                await loop.sock_connect(client, str(self.server.path))
            except BlockingIOError:
                client.close()  # more at once than may wait at the door
                await asyncio.sleep(0.001)
                continue
            return client

    async def _send(self, client: socket.socket, data: bytes) -> bool:
        try:
            await asyncio.wait_for(asyncio.get_running_loop().sock_sendall(client, data), ANSWER_S)
        except OSError:
            return False
        return True

    async def _heard(self, client: socket.socket) -> bytes:
        heard = b""
        loop = asyncio.get_running_loop()
        while more := await loop.sock_recv(client, 65_536):
            heard += more
        return heard

    def _check(self, data: bytes, verb: str | None, heard: bytes) -> None:
        lines = heard.splitlines()
        if heard and not heard.endswith(b"\n"):
            raise Violation(f"half an answer to {data[:200]!r}: {heard[-200:]!r}")
        said = [msgspec.json.decode(line) for line in lines]
        answers = [each for each in said if each["type"] == "answer"]
        if len(answers) > 1 or (said and not answers):
            raise Violation(f"{len(answers)} answers to {data[:200]!r}")
        if answers and answers[0]["ok"] and verb not in VERBS:
            raise Violation(f"{data[:200]!r} asks for {verb!r} and was answered {answers[0]['lines']}")


def attack(path: Path, seed: int, inputs: int, said: Callable[[Tally], None] | None = None) -> Tally:
    """So many hostile inputs at a server of its own. Raises Violation."""

    async def main() -> Tally:
        one = Attack(path, seed)
        tally = await one.run(inputs, said)
        known = {verb: n for verb, n in one.verbs.items() if verb in VERBS}
        tally.reached = sum(known.values()) - tally.honest
        return tally

    return asyncio.run(main())


assert control.READING_MAX > IDLE_MAX + WORKERS
