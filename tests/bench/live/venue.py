"""`python -m tests.bench.live.venue [CPU]`: the least that both clients take for Bitget's classic API, in a process.

Threads and blocking sockets, so that what is measured is the client: a frame leaves in one `send`, an order is answered
where it was received. Times are CLOCK_MONOTONIC, which all processes of a machine share. It is told what to do by lines
of JSON on stdin, and answers each with one on stdout.

A played round is a snapshot, `n` changes and a few frames that are not counted, so that whoever missed the last wake-up
gets another. A frame is known by its venue time, which no two counted ones of a paced round share.
"""

import base64
import hashlib
import json
import os
import socket
import sys
import threading
import time
from typing import Any, Final

from tests.bench.frames import books

HEAD_END: Final = b"\r\n\r\n"
PLACE: Final = "/api/v2/mix/order/place-order"
PLACE_BATCH: Final = "/api/v2/mix/order/batch-place-order"
TAIL: Final = 5
TAIL_S: Final = 0.02
QUIET_S: Final = 0.1
BEAT_S: Final = 2.0
"""A socket that is silent for 5 s is ended by ours."""
CONTRACT: Final = {
    "symbol": "BTCUSDT", "baseCoin": "BTC", "quoteCoin": "USDT", "makerFeeRate": "0.0002", "takerFeeRate": "0.0006",
    "supportMarginCoins": ["USDT"], "minTradeNum": "0.0001", "priceEndStep": "1", "volumePlace": "4", "pricePlace": "1",
    "sizeMultiplier": "0.0001", "symbolType": "perpetual", "minTradeUSDT": "5", "symbolStatus": "normal",
    "deliveryTime": "", "launchTime": "", "fundInterval": "8", "minLever": "1", "maxLever": "125",
    "maxOrderQty": "100000", "maxMarketOrderQty": "100000",
}  # fmt: skip
ACCOUNT: Final = {
    "marginCoin": "USDT", "locked": "0", "available": "100000", "crossedMaxAvailable": "100000", "isolatedMaxAvailable":
    "100000", "maxTransferOut": "100000", "accountEquity": "100000", "usdtEquity": "100000", "btcEquity": "1.5",
    "crossedRiskRate": "0", "unrealizedPL": "0", "coupon": "0", "crossedUnrealizedPL": "0", "isolatedUnrealizedPL": "0",
    "crossedMarginLeverage": 1, "isolatedLongLever": 1, "isolatedShortLever": 1, "marginMode": "crossed", "posMode":
    "one_way_mode",
}  # fmt: skip
KEY: Final = {"userId": "1", "ips": ["127.0.0.1"], "authorities": ["coor", "coow"], "parentId": 0}
PRICE: Final = {"symbol": "BTCUSDT", "price": "65000", "indexPrice": "65000.1", "markPrice": "65000.1"}
FUNDING: Final = {
    "symbol": "BTCUSDT", "fundingRate": "0.0001", "fundingRateInterval": "8", "minFundingRate": "-0.003",
    "maxFundingRate": "0.003",
}  # fmt: skip


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Frames:
    """Texts cut where their time goes in, and their venue times as they are sent."""

    def __init__(self, texts: list[str]) -> None:
        self._parts = [text[: text.rindex('"ts":"')] for text in texts]

    def packed(self, number: int, ts_ms: int) -> bytes:
        return packed(f'{self._parts[number]}"ts":"{ts_ms}"}}],"ts":{ts_ms}}}')


def packed(text: str) -> bytes:
    """An unmasked text frame."""
    body = text.encode()
    if len(body) < 126:
        return bytes((0x81, len(body))) + body
    if len(body) < 1 << 16:
        return b"\x81\x7e" + len(body).to_bytes(2) + body
    return b"\x81\x7f" + len(body).to_bytes(8) + body


class Venue:
    def __init__(self) -> None:
        self.listening = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listening.getsockname()[1]
        self.frames = {
            "plain": Frames(books("classic", checksums=False)),
            "checked": Frames(books("classic", checksums=True)),
        }
        self.sockets: dict[str, socket.socket] = {}
        """By side and stream: "ours/public". One thread at a time writes to each: `_writing`."""
        self.arrivals: dict[str, int] = {}
        self.placed: list[dict[str, Any]] = []
        self._writing = threading.Lock()

    # --- connections --------------------------------------------------------------------------------------------------

    def accept(self) -> None:
        while True:
            connection, _ = self.listening.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        pending = b""
        try:
            while True:
                while (end := pending.find(HEAD_END)) < 0:
                    pending += self._more(connection)
                head = pending[:end].decode("latin-1")
                pending = pending[end + len(HEAD_END) :]
                method, target, _ = head.split(" ", 2)
                side, _, path = target[1:].partition("/")
                if "upgrade: websocket" in head.lower():
                    self._websocket(connection, f"{side}/{path.rpartition('/')[2]}", head, pending)
                    return
                length = 0
                if method == "POST":
                    at = head.lower().index("content-length:") + 15
                    length = int(head[at:].partition("\r\n")[0])
                while len(pending) < length:
                    pending += self._more(connection)
                body, pending = pending[:length], pending[length:]
                connection.sendall(self._answer(side, "/" + path, body, time.monotonic_ns()))
        except (ConnectionError, OSError):
            connection.close()

    @staticmethod
    def _more(connection: socket.socket) -> bytes:
        more = connection.recv(1 << 16)
        if not more:
            raise ConnectionResetError
        return more

    def _answer(self, side: str, target: str, body: bytes, arrived_ns: int) -> bytes:
        path = target.partition("?")[0]
        data: Any = []
        if path == PLACE:
            data = self._took(side, json.loads(body), arrived_ns)
        elif path == PLACE_BATCH:
            took = [self._took(side, order, arrived_ns) for order in json.loads(body)["orderList"]]
            data = {"successList": took, "failureList": []}
        elif path == "/api/v2/mix/market/contracts":
            data = [CONTRACT] if "productType=USDT-FUTURES" in target else []
        elif path == "/api/v2/mix/account/account":
            data = ACCOUNT
        elif path == "/api/v2/spot/account/info":
            data = KEY
        elif path == "/api/v2/mix/market/current-fund-rate":
            data = [{**FUNDING, "nextUpdate": str(now_ms() + 3_600_000)}]
        elif path == "/api/v2/mix/market/symbol-price":
            data = [{**PRICE, "ts": str(now_ms())}]
        elif path == "/api/v2/public/time":
            data = {"serverTime": str(now_ms())}
        text = json.dumps({"code": "00000", "msg": "success", "requestTime": now_ms(), "data": data})
        return (
            f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode()
        )

    def _took(self, side: str, order: dict[str, Any], arrived_ns: int) -> dict[str, str]:
        self.arrivals[order["clientOid"]] = arrived_ns
        if side == "ours":
            self.placed.append(order)
        return {"clientOid": order["clientOid"], "orderId": str(10**18 + len(self.arrivals))}

    def _websocket(self, connection: socket.socket, name: str, head: str, pending: bytes) -> None:
        key = next(line.split(": ")[1] for line in head.split("\r\n") if line.lower().startswith("sec-websocket-key"))
        accept = base64.b64encode(hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest())
        connection.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + HEAD_END
        )
        self.sockets[name] = connection
        while True:
            while (taken := unmasked(pending)) is None:
                pending += self._more(connection)
            opcode, body, pending = taken
            if opcode == 8:
                connection.close()
                return
            if body == b"ping":
                self._send(connection, packed("pong"))
            elif opcode == 1:
                asked = json.loads(body)
                if asked["op"] == "login":
                    self._send(connection, packed('{"event":"login","code":0,"connId":"1"}'))
                elif asked["op"] == "subscribe":
                    for arg in asked["args"]:
                        self._send(connection, packed(json.dumps({"event": "subscribe", "arg": arg})))

    def _send(self, connection: socket.socket, data: bytes) -> None:
        with self._writing:
            connection.sendall(data)

    def beat(self) -> None:
        while True:
            time.sleep(BEAT_S)
            for connection in list(self.sockets.values()):
                try:
                    self._send(connection, packed("pong"))
                except OSError:
                    continue

    # --- what it is told ----------------------------------------------------------------------------------------------

    def play(self, side: str, frames: str, n: int, per_s: float) -> dict[str, Any]:
        """`per_s` 0: all at once. Answers when each frame was handed to the kernel, by its venue time."""
        connection, made = self.sockets[f"{side}/public"], self.frames[frames]
        base_ms = now_ms()
        self._send(connection, made.packed(0, base_ms - 1))
        time.sleep(QUIET_S)
        sent: dict[int, int] = {}
        if per_s:
            packets = [made.packed(1 + i, base_ms + round(i * 1_000 / per_s)) for i in range(n)]
            step_ns = round(1e9 / per_s)
            due_ns = time.monotonic_ns() + step_ns
            for i, packet in enumerate(packets):
                if (left_ns := due_ns - time.monotonic_ns()) > 0:
                    time.sleep(left_ns / 1e9)
                due_ns = max(due_ns + step_ns, time.monotonic_ns() - 5 * step_ns)  # late ones are not made up for
                sent[base_ms + round(i * 1_000 / per_s)] = time.monotonic_ns()
                self._send(connection, packet)
        else:
            self._send(connection, b"".join(made.packed(1 + i, base_ms) for i in range(n)))
        time.sleep(QUIET_S)
        tail_ms = now_ms()
        for i in range(TAIL):
            self._send(connection, made.packed(n + 1 + i, max(now_ms(), tail_ms + i)))
            time.sleep(TAIL_S)
        return {"sent": sent, "base_ms": base_ms, "tail_ms": tail_ms}

    def arrived(self) -> dict[str, int]:
        """When each order was there, by its client id; and our private stream is told of its own, all at once."""
        arrivals, self.arrivals = self.arrivals, {}
        placed, self.placed = self.placed, []
        rows = [
            {
                "instId": "BTCUSDT", "orderId": str(10**18 + i), "clientOid": order["clientOid"],
                "side": order["side"], "price": order["price"], "size": order["size"], "accBaseVolume": "0",
                "status": "live", "uTime": str(now_ms()),
            }
            for i, order in enumerate(placed)
        ]  # fmt: skip
        push = {"action": "snapshot", "arg": {"instType": "USDT-FUTURES", "channel": "orders", "instId": "default"}}
        connection = self.sockets.get("ours/private")
        if connection is not None and rows:
            self._send(connection, packed(json.dumps({**push, "data": rows, "ts": now_ms()})))
        return arrivals


def unmasked(data: bytes) -> tuple[int, bytes, bytes] | None:
    """(opcode, body, rest) of the first masked frame, or None while it is not all there."""
    if len(data) < 6:
        return None
    length, at = data[1] & 127, 2
    if length == 126:
        length, at = int.from_bytes(data[2:4]), 4
    if len(data) < at + 4 + length:
        return None
    mask, body = data[at : at + 4], data[at + 4 : at + 4 + length]
    return data[0] & 15, bytes(byte ^ mask[i % 4] for i, byte in enumerate(body)), data[at + 4 + length :]


def main() -> int:
    if len(sys.argv) > 1:
        os.sched_setaffinity(0, {int(sys.argv[1])})
    venue = Venue()
    for call in (venue.accept, venue.beat):
        threading.Thread(target=call, daemon=True).start()
    print(json.dumps({"port": venue.port}), flush=True)
    for line in sys.stdin:
        told = json.loads(line)
        answer: object
        if "play" in told:
            answer = venue.play(**told["play"])
        else:
            answer = venue.arrived() if "arrived" in told else list(venue.sockets)
        print(json.dumps(answer), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
