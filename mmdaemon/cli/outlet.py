"""The process's stdout and stderr, which may be full, closed, or read by nobody.

What a verb says never changes what it does, nor its exit code: a `kill` gets to its end on a full disk and into a pipe
that nobody reads, and then still says by its code whether anything rests.
"""

import io
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_STANDARD: Final = (0, 1, 2)


class Outlet(io.FileIO):
    """A descriptor to which a write succeeds or is given up; `lost` is the first failure.

    Where `ends_unread` is set, a reader that went away (`| head`) is a BrokenPipeError all the same, so that verbs that
    only show something end.
    """

    def __init__(self, number: int, *, closefd: bool) -> None:
        super().__init__(number, "wb", closefd=closefd)
        self.lost: OSError | None = None
        self.ends_unread = False

    def write(self, b: "ReadableBuffer", /) -> int:
        size = memoryview(b).nbytes
        try:
            written: int | None = super().write(b)
        except OSError as error:
            self.lost = self.lost or error
            if self.ends_unread and isinstance(error, BrokenPipeError):
                raise
            return size
        if written is None:  # somebody made it non-blocking, and it is full
            self.lost = self.lost or BlockingIOError("it is full, and is not waited for")
        return size if written is None else written


@contextmanager
def outlets() -> Generator[Outlet | None]:
    """While it lasts, stdout and stderr are outlets; yields that of stdout.

    Streams that somebody else put in their place (a test) stay, and None is yielded. Where a standard descriptor is
    closed, what is opened next (a journal, a socket) would be given its number, and be written to by whoever takes it
    for stderr: /dev/null stands there instead.
    """
    for number in _STANDARD:
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
    before = sys.stdout, sys.stderr
    out, sys.stdout = _outlet(sys.stdout, sys.__stdout__)
    _, sys.stderr = _outlet(sys.stderr, sys.__stderr__, line_buffering=True)
    mine = sys.stdout, sys.stderr
    try:
        yield out
    finally:
        if out is not None:
            out.ends_unread = False
        for stream in mine:
            stream.flush()
        sys.stdout, sys.stderr = before


def _outlet(
    stream: TextIO | None, original: TextIO | None, *, line_buffering: bool = False
) -> tuple[Outlet | None, TextIO]:
    """An outlet in the place of the process's own stream; another stream as it is. A text that the encoding does not
    have is escaped: a strange file name is no reason to stop either."""
    if stream is None:  # its descriptor was closed when the process began
        outlet = Outlet(os.open(os.devnull, os.O_WRONLY), closefd=True)
        return outlet, io.TextIOWrapper(io.BufferedWriter(outlet), "utf-8", "backslashreplace")
    if stream is not original or not isinstance(stream, io.TextIOWrapper):
        return None, stream
    stream.flush()
    outlet = Outlet(stream.fileno(), closefd=False)
    return outlet, io.TextIOWrapper(
        io.BufferedWriter(outlet),
        stream.encoding,
        "backslashreplace",
        line_buffering=line_buffering or stream.line_buffering,
        write_through=stream.write_through,
    )
