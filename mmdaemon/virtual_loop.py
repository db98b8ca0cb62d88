"""asyncio in virtual time: an event loop whose time is a number. `mmdaemon.clock` makes and runs it.

  * a moment is integer nanoseconds; time moves only when nothing is ready, straight to the next timer;
  * timers run in the order of (moment, insertion number), each after all that earlier ones made ready has run;
  * tasks are numbered and the number is their hash: a `TaskGroup` cancels its set of tasks, and `asyncio.wait` returns
    its sets, in an order that follows from the run and not from memory addresses;
  * what would bring in time or order from outside (threads, sockets, processes, signals) is refused.

Two things stay outside. What only the cyclic garbage collector finds (an async generator left in the middle, a failed
task nobody awaited) is closed or reported when it finds it. And `asyncio.wait_for` takes other steps on Python 3.11
than on later ones; `asyncio.timeout` takes the same on all.
"""

# A loop is asyncio's other half: it runs handles by their `_run`, and says which loop is running.
# pyright: reportPrivateUsage=false

import asyncio
import logging
import sys
import threading
from asyncio import Handle, TimerHandle
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Sequence
from contextvars import Context, copy_context
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Any, NoReturn, TypeVar, TypeVarTuple, cast
from weakref import WeakValueDictionary

from mmdaemon.core.types import NS

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
Coro = Coroutine[Any, Any, T] | Generator[Any, None, T]
ExceptionHandler = Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object]
OnStep = Callable[[int], None]
"""Called before each callback with its ordinal, from 1. If it raises, the run ends before that callback."""

SPIN_LIMIT = 1_000_000  # callbacks in one moment before a run is called stuck: `sleep(0)` or a retry in a loop


class NotInVirtualTime(RuntimeError):
    """The virtual loop was asked for something that brings in time or order from outside."""


class Stuck(RuntimeError):
    """Virtual time cannot go on: all tasks wait for ever, or callbacks follow each other in one moment without end."""


class _Task(asyncio.Task[T]):
    __slots__ = ("_number",)

    def __init__(self, number: int, coro: Coro[T], **kwargs: Any) -> None:
        self._number = number  # first, because asyncio hashes the task as it registers it
        super().__init__(coro, **kwargs)

    def __hash__(self) -> int:
        return self._number


def _refused(what: str) -> Any:
    def refuse(*_args: object, **_kwargs: object) -> NoReturn:
        raise NotInVirtualTime(f"virtual time has no {what}: hand in something that runs in line, or run in real time")

    return refuse


class _Handle(Handle):
    """asyncio's, made in one call: it is made for every wake-up, and the loop has no debug mode to ask about."""

    __slots__ = ()

    def __init__(
        self,
        callback: Callable[[*Ts], object],
        args: tuple[*Ts],
        loop: asyncio.AbstractEventLoop,
        context: Context | None,
    ) -> None:
        self._context = copy_context() if context is None else context
        self._loop = loop
        self._callback: Callable[..., object] | None = callback
        self._args: Sequence[Any] = args
        self._cancelled = False
        self._repr = None
        self._source_traceback = None


class _TimerHandle(TimerHandle):
    __slots__ = ()

    def __init__(
        self,
        mono_ns: int,
        callback: Callable[[*Ts], object],
        args: tuple[*Ts],
        loop: asyncio.AbstractEventLoop,
        context: Context | None,
    ) -> None:
        self._context = copy_context() if context is None else context
        self._loop = loop
        self._callback: Callable[..., object] | None = callback
        self._args: Sequence[Any] = args
        self._cancelled = False
        self._repr = None
        self._source_traceback = None
        self._when = mono_ns / NS
        self._scheduled = True


class VirtualLoop(asyncio.AbstractEventLoop):
    """asyncio in virtual time, without I/O and without debug mode.

    An exception in a callback goes to the exception handler, as in asyncio; what that handler raises ends the run.
    `on_step` is read when a run begins; without one it costs nothing.
    """

    def __init__(self, start_mono_ns: int = NS, on_step: OnStep | None = None) -> None:
        self.on_step = on_step
        self.on_task: Callable[[asyncio.Task[Any]], object] | None = None
        """Called with each task that is made, in the context of its maker."""
        self._now_ns = start_mono_ns
        self._ready: deque[Handle | None] = deque()  # None ends the run: what was ready before it has run
        self._timers: list[tuple[int, int, TimerHandle]] = []
        self._next_timer = count(1).__next__
        self._timers_cancelled = 0  # of those in the heap
        self._steps = 0
        self._next_task = count(1).__next__
        self._generators: WeakValueDictionary[int, AsyncGenerator[Any, Any]] = WeakValueDictionary()
        self._next_generator = count(1).__next__
        self._until: asyncio.Future[Any] | None = None
        self._exception_handler: ExceptionHandler | None = None
        self._thread = threading.get_ident()
        self._closed = False

    def time(self) -> float:
        return self._now_ns / NS

    def time_ns(self) -> int:
        return self._now_ns

    def call_soon(self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None) -> Handle:
        if self._closed:
            raise RuntimeError("the virtual loop is closed")
        handle = _Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_soon_threadsafe(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> Handle:
        if threading.get_ident() != self._thread:
            raise NotInVirtualTime("another thread called the loop, but virtual time has one thread")
        return self.call_soon(callback, *args, context=context)

    def call_at_ns(
        self, mono_ns: int, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> TimerHandle:
        """As `call_at`, in nanoseconds. A moment in the past means now."""
        if self._closed:
            raise RuntimeError("the virtual loop is closed")
        handle = _TimerHandle(mono_ns, callback, args, self, context)
        heappush(self._timers, (mono_ns, self._next_timer(), handle))
        return handle

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> TimerHandle:
        return self.call_at_ns(round(when * NS), callback, *args, context=context)

    def call_later(
        self, delay: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> TimerHandle:
        return self.call_at_ns(self._now_ns + round(delay * NS), callback, *args, context=context)

    def _timer_handle_cancelled(self, handle: TimerHandle) -> None:
        """Called by `TimerHandle.cancel` before it marks the handle. Leaves less than half of the heap cancelled."""
        self._timers_cancelled += handle._scheduled
        if 2 * self._timers_cancelled >= len(self._timers):
            self._timers[:] = [timer for timer in self._timers if not (timer[2]._cancelled or timer[2] is handle)]
            heapify(self._timers)
            self._timers_cancelled = 0

    def _run(self) -> None:
        ready, timers, on_step = self._ready, self._timers, self.on_step
        spins, spin_limit = 0, SPIN_LIMIT
        while True:
            if ready:
                handle = ready.popleft()
                if handle is None:
                    return
                if handle._cancelled:
                    continue
            elif timers:
                mono_ns, _, handle = heappop(timers)
                handle._scheduled = False
                if handle._cancelled:  # time does not move for it
                    self._timers_cancelled -= 1
                    continue
                if mono_ns > self._now_ns:
                    self._now_ns = mono_ns
                    spins = 0
            else:
                raise Stuck(f"nothing is ready and no timer is set; {self._pending()}")
            if on_step is not None:
                ready.appendleft(handle)  # where it stays if on_step raises
                on_step(self._steps + 1)
                ready.popleft()
                self._steps += 1
                if handle._cancelled:  # by on_step
                    continue
            handle._run()
            spins += 1
            if spins >= spin_limit:
                raise Stuck(f"{spins:,} callbacks, and time has not moved; {self._pending()}")

    def run_forever(self) -> None:
        self._check_can_run()
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(firstiter=self._generator_begun, finalizer=self._generator_lost)
        asyncio._set_running_loop(self)
        self._thread = threading.get_ident()
        try:
            self._run()
        finally:
            asyncio._set_running_loop(None)
            sys.set_asyncgen_hooks(*hooks)
            if None in self._ready:
                self._ready.remove(None)

    def run_until_complete(self, future: Awaitable[T] | Generator[Any, None, T]) -> T:
        self._check_can_run()
        task = asyncio.ensure_future(cast("Awaitable[T]", future), loop=self)
        task.add_done_callback(self._done)
        self._until = task
        try:
            self.run_forever()
        finally:
            self._until = None
            if task.done() and not task.cancelled():
                task.exception()  # whether or not the run was broken off, it has been seen
        if not task.done():
            raise RuntimeError("the virtual loop was stopped before the future was done")
        return task.result()

    def _done(self, future: asyncio.Future[Any]) -> None:
        if future is self._until:  # not one whose run was broken off
            self.stop()

    def stop(self) -> None:
        if None not in self._ready:
            self._ready.append(None)

    def is_running(self) -> bool:
        return asyncio._get_running_loop() is self

    def is_closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        if self.is_running():
            raise RuntimeError("the virtual loop is running")
        self._closed = True
        self._ready.clear()
        self._timers.clear()

    def _check_can_run(self) -> None:
        if self._closed or asyncio._get_running_loop() is not None:
            raise RuntimeError("the virtual loop is closed, or a loop is running in this thread already")

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Coro[T], *, name: str | None = None, context: Context | None = None) -> asyncio.Task[T]:
        number = self._next_task()
        # asyncio's own default names count over the whole process, so a second run would have other ones.
        task = _Task(number, coro, loop=self, name=f"Task-{number}" if name is None else name, context=context)
        if self.on_task is not None:
            self.on_task(task)
        return task

    def tasks(self) -> list[asyncio.Task[Any]]:
        """The tasks not yet done, in the order of their creation."""
        return sorted(asyncio.all_tasks(self), key=hash)

    def _pending(self) -> str:
        waiting = [(task.get_name(), frame) for task in self.tasks() for frame in task.get_stack(limit=1)]
        places = [f"{name} in {at.f_code.co_qualname}, line {at.f_lineno}" for name, at in waiting]
        return f"pending: {'; '.join(places) or 'no task'}"

    async def shutdown_tasks(self) -> None:
        """Cancel all other tasks, in the order of their creation, and see them end."""
        left = [task for task in self.tasks() if task is not asyncio.current_task()]
        for task in left:
            task.cancel()
        await self._see_end(left, "a task failed as it was cancelled")

    async def shutdown_asyncgens(self) -> None:
        left = list(self._generators.values())
        self._generators.clear()
        await self._see_end([generator.aclose() for generator in left], "an async generator failed as it was closed")

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """There is none."""

    async def _see_end(self, left: Sequence[Awaitable[object]], message: str) -> None:
        for end in await asyncio.gather(*left, return_exceptions=True):
            if isinstance(end, BaseException) and not isinstance(end, asyncio.CancelledError):
                self.call_exception_handler({"message": message, "exception": end})

    def _generator_begun(self, generator: AsyncGenerator[Any, Any]) -> None:
        self._generators[self._next_generator()] = generator

    def _generator_lost(self, generator: AsyncGenerator[Any, Any]) -> None:
        if not self._closed:
            self.call_soon_threadsafe(self.create_task, generator.aclose())

    def set_exception_handler(self, handler: ExceptionHandler | None) -> None:
        self._exception_handler = handler

    def get_exception_handler(self) -> ExceptionHandler | None:
        return self._exception_handler

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if self._exception_handler is None:
            self.default_exception_handler(context)
        else:
            self._exception_handler(self, context)

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        logging.getLogger("asyncio").error("%s: %s", context["message"], context, exc_info=context.get("exception"))

    # Never. asyncio asks with every future, and `bool()` costs no frame.
    get_debug = staticmethod(bool)  # pyright: ignore[reportAssignmentType] - `self` is not passed

    run_in_executor = set_default_executor = _refused("threads or executors")
    getaddrinfo = getnameinfo = _refused("name look-ups")
    create_connection = create_server = create_datagram_endpoint = _refused("sockets")
    create_unix_connection = create_unix_server = connect_accepted_socket = start_tls = _refused("sockets")
    sock_recv = sock_recv_into = sock_recvfrom = sock_recvfrom_into = sock_accept = _refused("sockets")
    sock_sendall = sock_sendto = sock_sendfile = sock_connect = sendfile = _refused("sockets")
    add_reader = remove_reader = add_writer = remove_writer = _refused("file descriptors")
    connect_read_pipe = connect_write_pipe = _refused("pipes")
    subprocess_shell = subprocess_exec = _refused("processes")
    add_signal_handler = remove_signal_handler = _refused("signals")
    set_task_factory = get_task_factory = _refused("task factories")
    set_debug = _refused("debug mode")
