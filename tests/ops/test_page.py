"""The operator page's door, over real sockets: what comes in, what changes anything, what a slow browser costs."""

import asyncio
import gc
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import msgspec
import pytest

from mmdaemon.ops.control import Answer, Request, Say
from mmdaemon.ops.page import About, History, PageError, PageServer, Row
from mmdaemon.ops.page import server as page_server
from mmdaemon.ops.page.document import page_of
from mmdaemon.ops.token import Token, unknown
from tests.ops.samples import picture

PATIENCE_S = 20
HOSTILE = "</script><script>alert(1)</script>\"'&"


def row(number: int = 0, **fields: Any) -> Row:
    zeros = dict.fromkeys(("fair", "bid", "ask", "spread", "impact", "inventory", "fees", "funding", "total"), 0.0)
    known: dict[str, Any] = {**zeros, "quote_bid": None, "quote_ask": None, "position": 0.5, "largest": None}
    return Row(ts_ms=number * 1e3, guard="running", regime="up", **{**known, "read_age_s": 1.0, **fields})


class Site:
    """A page server whose daemon is a hand-made picture, and what was asked of that daemon."""

    def __init__(self) -> None:
        self.token: Token = unknown()
        self.asked: list[Request] = []
        self.told: list[tuple[str, dict[str, object]]] = []
        self.looks = 0
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.fails = False
        self.history = History(60, lambda: 5_000_000_000)
        about = About("BTC", "USDT", "/state/token")
        self.server = PageServer(
            self.history, row, self.status, self.handle, self.token, about, 0, lambda *told: self.told.append(told)
        )
        self.client: aiohttp.ClientSession

    def status(self) -> Any:
        self.looks += 1
        return picture()

    async def handle(self, request: Request, say: Say) -> Answer:
        self.asked.append(request)
        await say("gate closed")
        await self.go_on.wait()
        if self.fails:
            raise RuntimeError("no")
        return Answer(True, 0, ["killed: nothing rests"], picture())

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}"

    def headers(self, **changes: str | None) -> dict[str, str]:
        given = {"Origin": self.url, "Content-Type": "application/json", **changes}
        return {name.replace("_", "-"): value for name, value in given.items() if value is not None}

    async def kill(self, *, token: str | None = None, headers: dict[str, str] | None = None, **args: Any) -> Any:
        body = {"token": self.token.secret.reveal() if token is None else token, **args}
        headers = self.headers() if headers is None else headers
        async with self.client.post(f"{self.url}/kill", data=json.dumps(body), headers=headers) as response:
            return response.status, await response.text()


@pytest.fixture
async def site(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    """Its seconds pass when a test says so: by `tick`."""
    monkeypatch.setattr(page_server, "EVERY_S", 3_600.0)
    made = Site()
    await made.server.start()
    async with aiohttp.ClientSession() as made.client:
        yield made
        await made.server.close()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not holds():  # noqa: ASYNC110 - what is waited for are the server's own figures
            await asyncio.sleep(0.01)


# --- what may come in -------------------------------------------------------------------------------------------------


async def test_no_route_and_no_method_but_the_kill_with_the_token_asks_anything_of_the_daemon(site: Site) -> None:
    answers: dict[tuple[str, str], int] = {}
    for path in ("/", "/events", "/kill", "/pause", "/resume", "/metrics", "/../token", "//", "/kill/", "/favicon.ico"):
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"):
            async with site.client.request(method, site.url + path, headers=site.headers(), data=None) as response:
                answers[method, path] = response.status
    assert {key: code for key, code in answers.items() if code < 400} == {("GET", "/"): 200, ("GET", "/events"): 200}
    assert answers["POST", "/kill"] == 400
    assert answers["GET", "/kill"] == 405
    assert site.asked == []
    assert (await site.kill(reason="drill", flatten=True))[0] == 200
    assert [(each.verb, each.args) for each in site.asked] == [("kill", {"reason": "drill", "flatten": True})]
    assert site.asked[0].who.startswith("page 127.0.0.1:")


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:80", "", "localhost.:1", "[::", "10.0.0.1"])
@pytest.mark.parametrize("path", ["/", "/events"])
async def test_a_name_that_was_made_to_resolve_to_us_is_refused(site: Site, host: str, path: str) -> None:
    async with site.client.get(site.url + path, headers={"Host": host}) as response:
        assert response.status == 403
        assert "BTCUSDT" not in await response.text()


async def test_through_a_tunnel_the_port_is_another_and_the_name_is_ours(site: Site) -> None:
    for host in ("localhost:8000", "127.0.0.1:8000"):
        async with site.client.get(f"{site.url}/", headers={"Host": host}) as response:
            assert response.status == 200
        headers = site.headers(Host=host, Origin=f"http://{host}")
        assert (await site.kill(headers=headers))[0] == 200


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"Origin": None}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Host": "evil.example", "Origin": "http://evil.example"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-site"}, 403),
        ({"Content_Type": "text/plain"}, 415),
        ({"Content_Type": "application/x-www-form-urlencoded"}, 415),
    ],
)
async def test_a_kill_that_another_site_sends_is_refused_though_it_has_the_token(
    site: Site, change: dict[str, str | None], code: int
) -> None:
    assert (await site.kill(headers=site.headers(**change)))[0] == code
    assert site.asked == []


async def test_another_site_takes_no_place_of_ours(site: Site) -> None:
    async with site.client.get(f"{site.url}/events", headers={"Sec-Fetch-Site": "cross-site"}) as response:
        assert response.status == 403
    assert site.server.counts["opened"] == 0


async def test_every_answer_has_its_headers_and_none_sets_a_cookie(site: Site) -> None:
    async with site.client.get(f"{site.url}/") as page:
        policy = page.headers["Content-Security-Policy"]
        text = await page.text()
    for rule in ("default-src 'none'", "connect-src 'self'", "frame-ancestors 'none'", "form-action 'none'"):
        assert rule in policy
    assert "unsafe" not in policy
    assert "http://" not in text.replace("http://www.w3.org/2000/svg", "")
    for method, path in (("GET", "/"), ("GET", "/nothing"), ("POST", "/kill"), ("GET", "/events"), ("PUT", "/")):
        async with site.client.request(method, site.url + path, headers=site.headers()) as response:
            seen = response.headers
            assert seen["X-Content-Type-Options"] == "nosniff", (method, path)
            assert (seen["X-Frame-Options"], seen["Cache-Control"]) == ("DENY", "no-store")
            assert seen["Content-Security-Policy"] == policy
            assert "Set-Cookie" not in seen
            assert "aiohttp" not in seen["Server"]


def test_what_a_venue_named_stays_text() -> None:
    page = page_of(picture(symbol=HOSTILE, mode=HOSTILE), About(HOSTILE, HOSTILE, HOSTILE))
    assert HOSTILE not in page
    assert "&lt;/script&gt;&lt;script&gt;alert(1)" in page


# --- the kill ---------------------------------------------------------------------------------------------------------


async def test_a_wrong_token_does_nothing_and_is_told_and_a_right_one_is_taken_after_any_number(site: Site) -> None:
    right = site.token.secret.reveal()
    wrong = ["", "x", right[:-1], right + "x", "\N{SNOWMAN}" * 43, right.swapcase(), "y" * 200]
    codes = [(await site.kill(token=each))[0] for each in wrong]
    assert codes == [403] * page_server.WRONG_MAX + [429] * (len(wrong) - page_server.WRONG_MAX)
    assert site.asked == []
    assert [name for name, _ in site.told] == ["page_token_refused"] * page_server.WRONG_MAX
    assert right not in str(site.told)
    assert (await site.kill())[0] == 200
    assert len(site.asked) == 1


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b"\xff", b'{"token":1}', b'{"token":"t","verb":"resume"}', b'{"token":"' + b"x" * 5000]
)
async def test_what_is_no_kill_is_refused(site: Site, body: bytes) -> None:
    async with site.client.post(f"{site.url}/kill", data=body, headers=site.headers()) as response:
        assert response.status in {400, 413}
    assert site.asked == []


async def test_a_kill_says_what_it_does_while_it_does_it(site: Site) -> None:
    site.go_on.clear()
    body = json.dumps({"token": site.token.secret.reveal()})
    async with (
        asyncio.timeout(PATIENCE_S),
        site.client.post(f"{site.url}/kill", data=body, headers=site.headers()) as response,
    ):
        first = json.loads(await response.content.readline())
        assert first == {"type": "say", "line": "gate closed"}
        assert site.asked[0].args == {"reason": "operator page"}
        beat = json.loads(await response.content.readline())
        assert beat == {"type": "beat"}
        site.go_on.set()
        last = json.loads((await response.content.read()).splitlines()[-1])
    assert (last["type"], last["ok"], last["lines"], last["status"]) == (
        "answer", True, ["killed: nothing rests"], None,
    )  # fmt: skip


async def test_a_kill_goes_on_when_its_browser_goes_away_and_a_failing_one_takes_nothing_with_it(site: Site) -> None:
    contained: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: contained.append(context))
    site.go_on.clear()
    site.fails = True
    gone = asyncio.create_task(site.kill())
    await until(lambda: bool(site.asked))
    gone.cancel()
    await asyncio.wait({gone})
    site.go_on.set()
    await until(lambda: bool(contained))
    assert [each["contained"] for each in contained] == ["operator page"]
    _, said = await site.kill()
    assert "RuntimeError" in said
    assert json.loads(said.splitlines()[-1])["ok"] is False
    site.fails = False
    assert '"ok":true' in (await site.kill())[1]


# --- live -------------------------------------------------------------------------------------------------------------


async def events(response: aiohttp.ClientResponse) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    kind = ""
    async for line in response.content:
        text = line.decode().rstrip("\n")
        if text.startswith("event: "):
            kind = text.removeprefix("event: ")
        elif text.startswith("data: "):
            yield kind, json.loads(text.removeprefix("data: "))


async def test_a_browser_gets_the_whole_then_what_is_new_and_each_sample_once(site: Site) -> None:
    site.history.note("fill", {"px": 7})
    async with asyncio.timeout(PATIENCE_S), site.client.get(f"{site.url}/events", read_bufsize=1 << 20) as response:
        assert response.headers["Content-Type"] == "text/event-stream"
        stream = events(response)
        kind, whole = await anext(stream)
        assert (kind, whole["version"], whole["keep_s"]) == ("whole", 1, 60)
        assert whole["status"] == json.loads(msgspec.json.encode(picture()))
        assert len(whole["rows"]) == 1
        assert dict(zip(whole["columns"], whole["rows"][0], strict=True))["position"] == 0.5
        assert (whole["fills"], whole["notes"]) == ([], [])
        site.history.note("guard", {"after": "hard_stop", "reasons": None})
        site.server.tick()
        kind, more = await anext(stream)
        assert (kind, len(more["rows"])) == ("more", 1)
        assert more["fills"] == [{"ts_ms": 5e3, "name": "fill", "fields": {"px": "7"}}]
        assert [note["fields"] for note in more["notes"]] == [{"after": "hard_stop", "reasons": "None"}]
        site.server.tick()
        assert (await anext(stream))[1]["notes"] == []
        async with site.client.get(f"{site.url}/events", read_bufsize=1 << 20) as second:
            assert len((await anext(events(second)))[1]["notes"]) == 1


async def test_nobody_looks_nothing_is_looked_up(site: Site) -> None:
    before = site.looks
    site.server.tick()
    assert site.looks == before


async def test_one_page_too_many_is_refused_and_a_place_comes_free(site: Site) -> None:
    async with asyncio.timeout(PATIENCE_S):
        open_pages = [await site.client.get(f"{site.url}/events") for _ in range(page_server.CLIENTS_MAX)]
        async with site.client.get(f"{site.url}/events") as refused:
            assert refused.status == 503
        open_pages[0].close()

        def has_noticed() -> bool:
            site.server.tick()  # who is gone is noticed when it is written to
            return len(site.server._clients) < page_server.CLIENTS_MAX

        await until(has_noticed)
        async with site.client.get(f"{site.url}/events") as again:
            assert again.status == 200
        for page in open_pages:
            page.close()


async def test_a_browser_that_does_not_fetch_is_dropped_and_others_are_not(site: Site) -> None:
    async with asyncio.timeout(PATIENCE_S):
        slow_reader, slow = await asyncio.open_connection("127.0.0.1", site.server.port, limit=1024)
        slow.write(f"GET /events HTTP/1.1\r\nHost: 127.0.0.1:{site.server.port}\r\n\r\n".encode())
        await slow_reader.readline()
        async with site.client.get(f"{site.url}/events", read_bufsize=1 << 24) as good:
            await until(lambda: len(site.server._clients) == 2)
            reading = asyncio.create_task(_read_on(good))
            padding = b": " + b"x" * (4 << 20) + b"\n\n"
            while not site.server.counts["dropped"]:
                site.server._publish(padding)
                await until(lambda: all(q.empty() for q in list(site.server._clients)[1:]))
            assert len(site.server._clients) == 1
            assert not reading.done()
            reading.cancel()
            await asyncio.wait({reading})
        slow.close()


async def _read_on(response: aiohttp.ClientResponse) -> None:
    async for _ in response.content.iter_any():
        pass


async def test_a_close_ends_the_streams_and_leaves_the_kill_to_the_kill_switch(site: Site) -> None:
    site.go_on.clear()
    killing = asyncio.create_task(site.kill())
    response = await site.client.get(f"{site.url}/events")
    await until(lambda: bool(site.asked))
    async with asyncio.timeout(PATIENCE_S):
        await site.server.close()
        await response.read()
        said = await asyncio.gather(killing, return_exceptions=True)
    assert "the daemon is stopping" in str(said) or isinstance(said[0], aiohttp.ClientError)
    with pytest.raises(aiohttp.ClientError):
        await site.client.get(f"http://127.0.0.1:{site.server._asked_port or 1}/")


async def test_a_port_that_is_taken_is_said_with_what_to_do(site: Site) -> None:
    other = Site()
    other.server._asked_port = site.server.port
    with pytest.raises(PageError, match=r"page port \d+ on 127.0.0.1 is in use.*set page.port"):
        await other.server.start()


async def test_a_sampling_that_fails_is_said_and_takes_nothing_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_server, "EVERY_S", 0.01)
    made = Site()
    await made.server.start()

    def broken() -> Row:
        raise ValueError("no row")

    made.server._row = broken
    await until(lambda: bool(made.told))
    assert made.told == [("page_died", {"error": "ValueError('no row')"})]
    await made.server.close()


# --- what is kept -----------------------------------------------------------------------------------------------------


def _whole(history: History) -> dict[str, Any]:
    return json.loads(history.whole(picture()).split(b"data: ")[1])


def test_the_history_is_bounded_and_blots_out_secrets() -> None:
    history = History(60, lambda: 0, lambda text: text.replace("hunter2", "***"))
    for number in range(200):
        for _ in range(50):
            history.note("fill", {"px": 1})
            history.note("request_failed", {"error": "hunter2" + "x" * 9_000})
        history.sample(row(number))
    whole = _whole(history)
    assert [each[0] for each in whole["rows"]] == [number * 1e3 for number in range(140, 200)]
    assert (len(whole["fills"]), len(whole["notes"])) == (2_000, 300)
    assert whole["notes"][0]["fields"]["error"] == "***" + "x" * 397
    assert b"hunter2" not in history.whole(picture())


@pytest.mark.parametrize(
    "raw",
    [
        b"\x00\xff\xfe garbage\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"y" * 70_000 + b"\r\n\r\n",
        b"POST /kill HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://127.0.0.1\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /kill HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://127.0.0.1\r\nContent-Type: application/json\r\n"
        b"Content-Length: 50\r\n\r\n{",
        b"GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nGET /events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 20,
        b"GET /%00%zz/../..//etc/passwd HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    ],
)
async def test_no_bytes_reach_the_loop_s_exception_handler_which_would_stop_trading(site: Site, raw: bytes) -> None:
    """There a callback that raised is a defect of the daemon: it trips the kill switch."""
    failures: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    for abrupt in (False, True):
        reader, writer = await asyncio.open_connection("127.0.0.1", site.server.port)
        writer.write(raw)
        await writer.drain()
        if abrupt:
            writer.transport.abort()
        else:
            await asyncio.sleep(0.05)
            assert b"BTCUSDT" not in await _now(reader) or raw.startswith(b"GET /events")
            writer.close()
    await asyncio.sleep(0.05)
    gc.collect()  # a task whose failure nobody asked for tells it when it goes
    await asyncio.sleep(0.05)
    assert failures == []
    assert site.asked == []
    async with site.client.get(f"{site.url}/") as page:
        assert page.status == 200


async def _now(reader: asyncio.StreamReader) -> bytes:
    """What came so far."""
    try:
        async with asyncio.timeout(0.05):
            return await reader.read(1 << 20)
    except TimeoutError:
        return b""
