"""What comes back over HTTP/1.1 for one request, in any pieces, with its bounds. See `wire_http`."""

from enum import StrEnum
from typing import Final

import msgspec
from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

HEAD_MAX: Final = 64 << 10
"""Bytes of an answer's headers, with those behind a chunked body."""
BODY_MAX: Final = 16 << 20
"""Bytes of an answer."""


class Lost(StrEnum):
    """Why there is no answer."""

    NOT_CONNECTED = "not_connected"
    """Nothing left."""
    TIMEOUT = "timeout"
    DISCONNECTED = "disconnected"
    """Before the answer, or within its headers; `TRUNCATED`: within its body."""
    TRUNCATED = "truncated"
    UNREADABLE = "unreadable"
    """No HTTP, or packed."""
    TOO_LARGE = "too_large"
    CLOSED = "closed"
    """We ended it."""


class Reply(msgspec.Struct, frozen=True):
    status: int
    retry_after: str
    """As it was said; empty where it was not."""
    body: bytes


class Reader:
    """The answer to one request, from what came after that was written. The parser calls `on_…`, which never raise."""

    def __init__(self) -> None:
        self.can_go_on = False
        """The answer was whole, said that another may follow, and nothing did."""
        self._parser: HttpResponseParser | None = HttpResponseParser(self)
        self._why: Lost | None = None
        """What is wrong with it."""
        self._received = self._status = self._head_size = self._body_size = 0
        self._retry_after = ""
        self._in_body = self._is_sized = False
        self._body: list[bytes] = []
        self._reply: Reply | None = None

    def forget(self) -> None:
        self._parser = None  # which knows this one

    def read(self, data: bytes) -> Reply | Lost | None:
        """None: there is more to come."""
        assert self._parser is not None
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade):
            self.can_go_on = False
            self._why = self._why or Lost.UNREADABLE
        if self._reply is None and self._why is None:
            return Lost.TOO_LARGE if self._received > (BODY_MAX if self._in_body else 0) + HEAD_MAX else None
        return self._reply or self._why

    def ended(self, exc: Exception | None) -> Reply | Lost:
        """The connection did."""
        if not self._in_body:
            return Lost.DISCONNECTED
        if self._is_sized or exc is not None:
            return Lost.TRUNCATED
        self.on_message_complete()  # its end is the body's
        return self._reply or self._why or Lost.TRUNCATED

    def on_message_begin(self) -> None:
        self.can_go_on = False  # where there was one already

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_size += len(name) + len(value) + 4
        if self._head_size > HEAD_MAX:
            self._why = Lost.TOO_LARGE
        match name.lower():
            case b"content-length":
                self._is_sized = True
            case b"transfer-encoding":
                self._is_sized = True
                if value.strip().lower() != b"chunked":
                    self._why = self._why or Lost.UNREADABLE
            case b"content-encoding":
                if value.strip().lower() != b"identity":
                    self._why = self._why or Lost.UNREADABLE
            case b"retry-after":
                self._retry_after = value.decode("latin-1")
            case _:
                pass

    def on_headers_complete(self) -> None:
        assert self._parser is not None
        self._status = self._parser.get_status_code()
        self._in_body = self._status >= 200

    def on_body(self, part: bytes) -> None:
        self._body_size += len(part)
        if self._body_size > BODY_MAX:
            self._why = Lost.TOO_LARGE
            self._body.clear()
        else:
            self._body.append(part)

    def on_message_complete(self) -> None:
        if self._reply is not None or self._why is not None:
            return
        if self._status == 101:
            self._why = Lost.UNREADABLE
        elif self._status < 200:
            self._is_sized, self._retry_after = False, ""
        else:
            assert self._parser is not None
            self.can_go_on = self._parser.should_keep_alive()
            self._reply = Reply(self._status, self._retry_after, b"".join(self._body))
