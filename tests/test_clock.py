import asyncio
import contextlib
import contextvars
import gc
import hashlib
import logging
import random
import sys
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import pytest
import uvloop

from mmdaemon import virtual_loop
from mmdaemon.clock import Clock, RealClock, VirtualClock, run_real, run_virtual
from mmdaemon.core.types import NS
from mmdaemon.virtual_loop import NotInVirtualTime, Stuck, VirtualLoop

MS = 1_000_000
START_MONO_NS = NS
START_WALL_NS = 1_767_225_600 * NS  # 2026-01-01T00:00:00Z

GOLDEN = "d3eff2aee152e4072378bb12de116c87faf99fa639340c39ad09da2252156b71"
"""The digest of `program` with seed 7, the same on Python 3.11, 3.12 and 3.13."""

Main = Callable[[VirtualClock], Coroutine[Any, Any, Any]]


def virtual(main: Main, **options: Any) -> Any:
    return run_virtual(main, start_wall_ns=START_WALL_NS, **options)


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    loop = VirtualLoop(START_MONO_NS)
    yield loop
    loop.close()


def run_to_the_end(loop: VirtualLoop) -> None:
    """Run until nothing is left."""
    with pytest.raises(Stuck, match="no task"):
        loop.run_forever()


# Order


def test_timers_run_in_the_order_of_moment_then_insertion(loop: VirtualLoop) -> None:
    ran: list[tuple[int, int]] = []
    moments = [random.Random(3).randrange(5) for _ in range(200)]
    for number, moment in enumerate(moments):
        loop.call_at_ns(START_MONO_NS + moment, lambda *what: ran.append(what), moment, number)
    run_to_the_end(loop)
    assert ran == sorted((moment, number) for number, moment in enumerate(moments))


def test_float_and_nanosecond_timers_share_one_order(loop: VirtualLoop) -> None:
    ran: list[str] = []
    loop.call_later(0.1, ran.append, "first")
    loop.call_at_ns(START_MONO_NS + 100 * MS, ran.append, "second")
    loop.call_at(1.1, ran.append, "third")
    run_to_the_end(loop)
    assert ran == ["first", "second", "third"]
    assert loop.time_ns() == START_MONO_NS + 100 * MS
    assert loop.time() == 1.1


def test_what_a_timer_makes_ready_runs_before_the_next_timer_of_that_moment(loop: VirtualLoop) -> None:
    ran: list[str] = []

    def first() -> None:
        ran.append("first")
        loop.call_soon(lambda: (ran.append("caused"), loop.call_soon(ran.append, "caused by that")))
        loop.call_at_ns(loop.time_ns(), ran.append, "third")
        loop.call_at_ns(0, ran.append, "late already")

    loop.call_at_ns(2 * NS, first)
    loop.call_at_ns(2 * NS, ran.append, "second")
    run_to_the_end(loop)
    assert ran == ["first", "caused", "caused by that", "late already", "second", "third"]
    assert loop.time_ns() == 2 * NS, "a moment in the past never turns time back"


def test_a_cancelled_timer_does_not_move_time(loop: VirtualLoop) -> None:
    cancelled = loop.call_at_ns(9 * NS, pytest.fail)
    for _ in range(3):
        loop.call_at_ns(2 * NS, lambda: None)
    cancelled.cancel()
    loop.call_soon(pytest.fail).cancel()
    assert cancelled in [timer for _, _, timer in loop._timers], "it is still in the heap"
    run_to_the_end(loop)
    assert loop.time_ns() == 2 * NS


def test_delays_are_exact_however_late_it_is() -> None:
    """A float of seconds holds no nanoseconds after some months."""
    loop = VirtualLoop(start_mono_ns=1 << 60)
    loop.call_later(1e-9, lambda: None)
    run_to_the_end(loop)
    assert loop.time_ns() == (1 << 60) + 1
    loop.close()


def test_tasks_of_a_group_are_cancelled_in_the_same_order_in_every_run() -> None:
    """A `TaskGroup` cancels a set; ordinary tasks hash by address."""

    async def main(_clock: Clock) -> list[int]:
        cancelled: list[int] = []

        async def wait(number: int) -> None:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                cancelled.append(number)
                raise

        async def fail() -> None:
            await asyncio.sleep(1)
            raise ValueError

        async def group_of_tasks() -> None:
            async with asyncio.TaskGroup() as group:
                for number in range(100):
                    group.create_task(wait(number))
                group.create_task(fail())

        with pytest.raises(ExceptionGroup):
            await group_of_tasks()
        return cancelled

    first = virtual(main)
    kept = [bytearray(random.Random(1).randrange(2000)) for _ in range(1000)]  # other addresses the next time
    assert virtual(main) == first
    assert sorted(first) == list(range(100))
    assert len(kept) == 1000


# Determinism


async def program(clock: Clock, seed: int) -> str:
    """Ten workers that draw what they do from one generator, so that one step out of order changes all that follows."""
    rng = random.Random(seed)
    digest = hashlib.sha256()
    queue: asyncio.Queue[str] = asyncio.Queue(maxsize=2)
    event, lock = asyncio.Event(), asyncio.Lock()

    def note(*what: object) -> None:
        digest.update(repr((clock.mono_ns(), clock.wall_ns(), rng.randrange(1000), *what)).encode())

    async def child(name: str, delay_ms: int, fails: bool) -> str:
        try:
            await asyncio.sleep(delay_ms / 1000)
            if fails:
                raise ValueError(name)
        except asyncio.CancelledError:
            note(name, "cancelled")
            raise
        return name

    async def ticks(name: str) -> AsyncIterator[int]:
        try:
            for tick in range(3):
                yield tick
                await asyncio.sleep(0.001)
        finally:
            note(name, "ticks end")

    async def act(name: str, what: int) -> object:
        delays_ms = [rng.randrange(5) for _ in range(4)]
        children = [(f"{name}.{number}", delay_ms, delay_ms == 3) for number, delay_ms in enumerate(delays_ms)]
        match what:
            case 0:
                return await asyncio.sleep(delays_ms[0] / 1000)
            case 1:
                async with asyncio.timeout(delays_ms[0] / 1000):
                    return await queue.get()
            case 2:
                async with asyncio.timeout(delays_ms[0] / 1000):
                    return await queue.put(name)
            case 3:
                async with lock:
                    return await asyncio.sleep(0)
            case 4:
                async with asyncio.TaskGroup() as group:
                    for each in children:
                        group.create_task(child(*each))
            case 5:
                return str(await asyncio.gather(*(child(*each) for each in children), return_exceptions=True))
            case 6:
                tasks = {asyncio.create_task(child(*each)) for each in children}
                done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in pending:
                    task.cancel()
                await asyncio.gather(*pending, return_exceptions=True)
                return [task.exception() is None and task.result() for task in done]
            case 7:
                clock.call_at(clock.mono_ns() + delays_ms[0] * MS, note, name, "timer")
                clock.call_at(clock.mono_ns() + delays_ms[1] * MS, note, name, "cancelled timer").cancel()
                clock.call_at(clock.mono_ns() + delays_ms[2] * MS, event.set)
            case 8:
                async with asyncio.timeout(delays_ms[0] / 1000):
                    return await event.wait()
            case _:
                event.clear()
                async for tick in ticks(name):
                    if tick == delays_ms[0]:
                        return tick  # and leaves the generator in the middle
        return None

    async def worker(name: str) -> None:
        for turn in range(30):
            what = rng.randrange(10)
            try:
                note(name, turn, what, await act(name, what))
            except TimeoutError:
                note(name, turn, what, "timed out")
            except ExceptionGroup as failures:
                note(name, turn, what, [str(failure) for failure in failures.exceptions])

    async with asyncio.TaskGroup() as group:
        for number in range(10):
            group.create_task(worker(f"worker-{number}"))
    return digest.hexdigest()


def test_a_program_takes_the_same_steps_in_every_run_and_on_every_interpreter() -> None:
    assert virtual(lambda clock: program(clock, 7)) == GOLDEN
    assert virtual(lambda clock: program(clock, 7)) == GOLDEN
    assert virtual(lambda clock: program(clock, 8)) != GOLDEN


def test_default_task_names_are_the_same_in_every_run() -> None:
    async def main(_clock: Clock) -> list[str]:
        tasks = [asyncio.create_task(asyncio.sleep(0)) for _ in range(3)]
        tasks.append(asyncio.create_task(asyncio.sleep(0), name="sender"))
        await asyncio.wait(tasks)
        return [task.get_name() for task in tasks]

    assert virtual(main) == virtual(main) == ["Task-2", "Task-3", "Task-4", "sender"]


# asyncio in virtual time


def test_a_day_of_seconds_and_ten_minutes_of_hundredths_pass_without_drift() -> None:
    async def main(clock: Clock) -> tuple[int, int]:
        for _ in range(86_400):
            await asyncio.sleep(1)
        for _ in range(60_000):
            await asyncio.sleep(0.01)
        return clock.mono_ns(), clock.wall_ns()

    passed_ns = (86_400 + 600) * NS
    assert virtual(main) == (START_MONO_NS + passed_ns, START_WALL_NS + passed_ns)


def test_sleeping_and_timing_out_take_exactly_their_time() -> None:
    async def main(clock: Clock) -> None:
        async def after() -> int:
            nonlocal begun_ns
            passed_ns, begun_ns = clock.mono_ns() - begun_ns, clock.mono_ns()
            return passed_ns

        begun_ns = clock.mono_ns()
        await asyncio.sleep(0.25)
        assert await after() == 250 * MS
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.sleep(10), 1.5)
        assert await after() == 1500 * MS
        assert await asyncio.wait_for(asyncio.sleep(1, "done"), 1.5) == "done"
        assert await after() == NS
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.003):
                await asyncio.Event().wait()
        assert await after() == 3 * MS
        assert await asyncio.gather(asyncio.sleep(2, "a"), asyncio.sleep(1, "b")) == ["a", "b"]
        assert await after() == 2 * NS
        async with asyncio.timeout_at(asyncio.get_running_loop().time() + 1):
            await asyncio.sleep(0.5)
        assert await after() == 500 * MS

    virtual(main)


def test_cancelling_a_task_frees_its_timer_and_runs_its_cleanup() -> None:
    async def main(clock: Clock) -> list[str]:
        seen: list[str] = []

        async def work() -> None:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                await asyncio.sleep(1)
                seen.append("cleaned up")
                raise

        task = asyncio.create_task(work())
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert clock.mono_ns() == START_MONO_NS + 2 * NS
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        assert loop._timers == []
        return seen

    assert virtual(main) == ["cleaned up"]


def test_a_failing_child_ends_its_group_at_once() -> None:
    async def main(clock: Clock) -> int:
        async def fail() -> None:
            await asyncio.sleep(2)
            raise ValueError("child")

        async def group_of_tasks() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(3600))
                group.create_task(fail())

        with pytest.raises(ExceptionGroup) as raised:
            await group_of_tasks()
        assert [str(each) for each in raised.value.exceptions] == ["child"]
        return clock.mono_ns() - START_MONO_NS

    assert virtual(main) == 2 * NS


def test_a_callback_runs_in_the_context_it_was_made_in(loop: VirtualLoop) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="outside")
    seen: list[str] = []
    context = contextvars.copy_context()
    context.run(variable.set, "given")

    async def main() -> None:
        variable.set("task")
        loop.call_at_ns(2 * NS, lambda: seen.append(variable.get()))
        loop.call_at_ns(2 * NS, lambda: seen.append(variable.get()), context=context)
        await asyncio.sleep(2)

    loop.run_until_complete(main())
    assert seen == ["task", "given"]
    assert variable.get() == "outside"


def test_stop_lets_run_what_was_ready_and_keeps_the_rest(loop: VirtualLoop) -> None:
    ran: list[str] = []

    def first() -> None:
        for _ in range(3):
            loop.stop()
        loop.call_soon(ran.append, "the next time")

    loop.call_soon(first)
    loop.call_soon(ran.append, "ready")
    loop.run_forever()
    assert ran == ["ready"]
    assert not loop.is_running()
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert ran == ["ready", "the next time"]


def test_a_loop_can_be_stopped_before_its_future_is_done(loop: VirtualLoop) -> None:
    future = loop.create_future()
    loop.call_at_ns(2 * NS, loop.stop)
    with pytest.raises(RuntimeError, match="stopped before"):
        loop.run_until_complete(future)
    loop.call_at_ns(3 * NS, future.set_result, "late")
    assert loop.run_until_complete(future) == "late"


def test_a_broken_off_run_does_not_end_the_next_one(loop: VirtualLoop) -> None:
    future = loop.create_future()
    with pytest.raises(Stuck):
        loop.run_until_complete(future)
    loop.call_at_ns(2 * NS, future.set_result, None)
    assert loop.run_until_complete(asyncio.sleep(5, "whole")) == "whole"

    def stop_and_exit() -> None:
        loop.stop()
        raise SystemExit

    loop.call_soon(stop_and_exit)
    with pytest.raises(SystemExit):
        loop.run_forever()
    assert loop.run_until_complete(asyncio.sleep(5, "whole again")) == "whole again"


def test_one_loop_runs_at_a_time() -> None:
    async def main(_clock: Clock) -> None:
        loop = asyncio.get_running_loop()
        assert loop.is_running()
        with pytest.raises(RuntimeError, match="running"):
            virtual(main)
        with pytest.raises(RuntimeError, match="running"):
            loop.run_forever()
        with pytest.raises(RuntimeError, match="running"):
            loop.close()

    virtual(main)


def test_a_closed_loop_takes_nothing() -> None:
    loop = VirtualLoop()
    loop.call_soon(pytest.fail)
    loop.close()
    assert loop.is_closed()
    with pytest.raises(RuntimeError, match="closed"):
        loop.call_soon(print)
    with pytest.raises(RuntimeError, match="closed"):
        loop.call_at_ns(2 * NS, print)
    with pytest.raises(RuntimeError, match="closed"):
        loop.run_forever()


def test_a_run_leaves_the_threads_own_loop_alone() -> None:
    async def main(_clock: Clock) -> None:
        assert isinstance(asyncio.get_running_loop(), VirtualLoop)

    own = asyncio.SelectorEventLoop()
    asyncio.set_event_loop(own)
    hooks = sys.get_asyncgen_hooks()
    try:
        virtual(main)
        assert asyncio.get_event_loop() is own
        assert sys.get_asyncgen_hooks() == hooks
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
    finally:
        asyncio.set_event_loop(None)
        own.close()


def test_asyncios_own_runner_drives_it() -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        assert runner.run(asyncio.sleep(3600, "an hour")) == "an hour"


# What is left at the end


def test_tasks_left_behind_are_cancelled_in_the_order_of_their_creation() -> None:
    ended: list[int] = []
    tasks: list[asyncio.Task[None]] = []

    async def wait(number: int) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append(number)

    async def main(_clock: Clock) -> None:
        for number in range(50):
            tasks.append(asyncio.create_task(wait(number)))
            for _ in range(number):  # numbers far apart: a set would not keep their order
                asyncio.create_task(asyncio.sleep(0))  # noqa: RUF006
        await asyncio.sleep(1)

    virtual(main)
    assert ended == list(range(50))
    assert all(task.cancelled() for task in tasks)


def test_a_task_that_fails_as_it_is_cancelled_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    async def stubborn() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            raise ValueError("in clean-up")

    async def main(_clock: Clock) -> None:
        main.task = asyncio.create_task(stubborn())  # type: ignore[attr-defined]
        await asyncio.sleep(1)

    with caplog.at_level(logging.ERROR, "asyncio"):
        virtual(main)
    assert [record.exc_info[1].args for record in caplog.records if record.exc_info and record.exc_info[1]] == [
        ("in clean-up",)
    ]


def test_async_generators_are_closed_in_virtual_time() -> None:
    ended: list[tuple[str, int]] = []

    async def main(clock: Clock) -> None:
        async def ticks(name: str) -> AsyncIterator[int]:
            try:
                while True:
                    yield 1
            finally:
                await asyncio.sleep(1)
                ended.append((name, (clock.mono_ns() - START_MONO_NS) // NS))

        async for _ in ticks("lost"):
            break
        await asyncio.sleep(3)
        for name in ("a", "b", "c"):
            kept.append(ticks(name))
            await anext(kept[-1])

    kept: list[AsyncIterator[int]] = []
    virtual(main)
    assert ended == [("lost", 1), ("a", 4), ("b", 4), ("c", 4)]


# Leaks


def test_cancelled_timers_leave_the_heap_and_free_what_they_held(loop: VirtualLoop) -> None:
    class Held:
        pass

    held = [Held() for _ in range(1000)]
    gone = [weakref.ref(each) for each in held]
    timers = [loop.call_at_ns(2 * NS + number, lambda _held: None, each) for number, each in enumerate(held)]
    live = loop.call_at_ns(9 * NS, loop.stop)
    order = list(range(1000))
    random.Random(5).shuffle(order)
    for cancelled, number in enumerate(order, start=1):
        timers[number].cancel()
        timers[number].cancel()
        assert len(loop._timers) < 2 * (1001 - cancelled)
    assert [timer for _, _, timer in loop._timers] == [live]
    held.clear()
    gc.collect()
    assert [ref() for ref in gone if ref() is not None] == []
    loop.run_forever()
    assert (loop._timers, loop._timers_cancelled, loop.time_ns()) == ([], 0, 9 * NS)


def test_cancelling_half_of_the_timers_keeps_the_order_of_the_others(loop: VirtualLoop) -> None:
    ran: list[tuple[int, int]] = []
    rng = random.Random(11)
    timers = [
        (moment, number, loop.call_at_ns(2 * NS + moment, lambda *what: ran.append(what), moment, number))
        for number, moment in enumerate(rng.randrange(20) for _ in range(500))
    ]
    kept: list[tuple[int, int]] = []
    for moment, number, timer in timers:
        if rng.random() < 0.4:
            kept.append((moment, number))
        else:
            timer.cancel()
        assert loop._timers_cancelled == sum(timer.cancelled() for _, _, timer in loop._timers)
    run_to_the_end(loop)
    assert ran == sorted(kept)
    assert loop._timers_cancelled == 0


def test_cancelling_a_timer_that_has_run_or_was_cancelled_changes_nothing(loop: VirtualLoop) -> None:
    ran = loop.call_at_ns(2 * NS, loop.stop)
    waiting = [loop.call_at_ns(3 * NS, lambda: None) for _ in range(9)]
    loop.run_forever()
    ran.cancel()
    assert loop._timers_cancelled == 0
    waiting[0].cancel()
    waiting[0].cancel()
    assert loop._timers_cancelled == 1
    run_to_the_end(loop)
    assert loop._timers_cancelled == 0


def test_timeouts_that_do_not_happen_leave_nothing_behind() -> None:
    async def main(_clock: Clock) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        for _ in range(1000):
            async with asyncio.timeout(3600):
                await asyncio.sleep(0.001)
            assert len(loop._timers) <= 1
        assert loop._timers_cancelled == 0
        assert len(loop._ready) == 0

    virtual(main)


# Stuck


def test_waiting_for_ever_is_an_error_that_names_the_tasks() -> None:
    async def main(_clock: Clock) -> None:
        async def wait_for_fills() -> None:
            await asyncio.Event().wait()

        async with asyncio.TaskGroup() as group:
            group.create_task(wait_for_fills(), name="reconcile")

    with pytest.raises(Stuck, match=r"no timer is set; pending: Task-1 in .*main, line \d+; reconcile in .*wait_for_f"):
        virtual(main)


@pytest.mark.parametrize("retry", [lambda: asyncio.sleep(0), lambda: asyncio.wait_for(asyncio.Event().wait(), 0)])
def test_a_retry_without_delay_is_an_error(retry: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(virtual_loop, "SPIN_LIMIT", 1000)

    async def main(_clock: Clock) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await retry()

    with pytest.raises(Stuck, match=r"1,000 callbacks, and time has not moved; pending: Task-1 in .*main"):
        virtual(main)


def test_timers_that_do_not_move_time_are_an_error(loop: VirtualLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(virtual_loop, "SPIN_LIMIT", 1000)

    def again() -> None:
        loop.call_later(0, again)

    again()
    with pytest.raises(Stuck, match="time has not moved"):
        loop.run_forever()


def test_many_callbacks_are_no_error_while_time_moves(loop: VirtualLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(virtual_loop, "SPIN_LIMIT", 10)

    async def main() -> None:
        for _ in range(1000):
            await asyncio.sleep(1e-9)

    loop.run_until_complete(main())
    assert loop.time_ns() == START_MONO_NS + 1000


# Refusals


IMPLEMENTED = {
    "call_at",
    "call_exception_handler",
    "call_later",
    "call_soon",
    "call_soon_threadsafe",
    "close",
    "create_future",
    "create_task",
    "default_exception_handler",
    "get_debug",
    "get_exception_handler",
    "is_closed",
    "is_running",
    "run_forever",
    "run_until_complete",
    "set_exception_handler",
    "shutdown_asyncgens",
    "shutdown_default_executor",
    "stop",
    "time",
}
"""What asyncio without I/O needs. Everything else that asyncio's loops can do must be refused, in every version."""


@pytest.mark.parametrize(
    "name", [name for name in dir(asyncio.AbstractEventLoop) if not name.startswith("_") and name not in IMPLEMENTED]
)
def test_every_other_method_of_a_loop_is_refused(name: str, loop: VirtualLoop) -> None:
    with pytest.raises(NotInVirtualTime, match="virtual time has no"):
        getattr(loop, name)()


@pytest.mark.parametrize(
    ("what", "attempt"),
    [
        ("threads", lambda loop: asyncio.to_thread(time.monotonic)),
        ("threads", lambda loop: loop.run_in_executor(None, time.monotonic)),
        ("sockets", lambda loop: asyncio.open_connection("127.0.0.1", 1)),
        ("sockets", lambda loop: asyncio.start_server(print, "127.0.0.1", 0)),
        ("sockets", lambda loop: asyncio.open_unix_connection("nowhere")),
        ("processes", lambda loop: asyncio.create_subprocess_exec("true")),
        ("name look-ups", lambda loop: loop.getaddrinfo("localhost", 1)),
    ],
)
def test_asyncios_ways_outside_are_refused(what: str, attempt: Callable[[VirtualLoop], Any]) -> None:
    async def main(_clock: Clock) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        with pytest.raises(NotInVirtualTime, match=what):
            await attempt(loop)

    virtual(main)


def test_another_thread_is_refused_and_its_own_is_not(loop: VirtualLoop) -> None:
    refused: list[BaseException] = []

    def call() -> None:
        try:
            loop.call_soon_threadsafe(pytest.fail)
        except NotInVirtualTime as error:
            refused.append(error)

    def main() -> None:
        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
        loop.call_soon_threadsafe(loop.stop)

    loop.call_soon(main)
    loop.run_forever()
    assert len(refused) == 1


# Exceptions


def test_an_exception_in_a_callback_goes_to_the_handler_and_the_run_goes_on(loop: VirtualLoop) -> None:
    seen: list[dict[str, Any]] = []
    assert loop.get_exception_handler() is None
    loop.set_exception_handler(lambda _loop, context: seen.append(context))
    loop.call_at_ns(2 * NS, divmod, 1, 0)
    loop.call_at_ns(3 * NS, loop.stop)
    loop.run_forever()
    assert [type(context["exception"]) for context in seen] == [ZeroDivisionError]
    assert loop.time_ns() == 3 * NS


def test_without_a_handler_it_is_logged(loop: VirtualLoop, caplog: pytest.LogCaptureFixture) -> None:
    loop.call_at_ns(2 * NS, divmod, 1, 0)
    run_to_the_end(loop)
    assert ["divmod" in record.getMessage() and record.levelno for record in caplog.records] == [logging.ERROR]


def test_what_the_handler_raises_ends_the_run(loop: VirtualLoop) -> None:
    def handler(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        raise context["exception"]

    loop.set_exception_handler(handler)
    loop.call_at_ns(2 * NS, divmod, 1, 0)
    loop.call_at_ns(3 * NS, pytest.fail)
    with pytest.raises(ZeroDivisionError):
        loop.run_forever()


@pytest.mark.parametrize("exit_of", [SystemExit, KeyboardInterrupt])
def test_an_exit_in_a_task_ends_the_run_and_cleans_up(
    exit_of: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    ended: list[str] = []

    async def bystander() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append("bystander")

    async def main(_clock: Clock) -> None:
        task = asyncio.create_task(bystander())
        await asyncio.sleep(1)
        assert not task.done()
        raise exit_of

    with pytest.raises(exit_of):
        virtual(main)
    assert ended == ["bystander"]
    gc.collect()
    assert caplog.records == [], "it was raised, so it is not also reported as unseen"


# Steps


class Crash(Exception):
    pass


def test_steps_are_counted_one_by_one_and_do_not_change_the_run() -> None:
    counts: list[list[int]] = [[], []]
    for steps in counts:
        assert virtual(lambda clock: program(clock, 7), on_step=steps.append) == GOLDEN
    assert counts[0] == counts[1] == list(range(1, len(counts[0]) + 1))
    assert len(counts[0]) > 1000


def test_a_run_can_be_broken_off_before_any_step_and_goes_on_from_there() -> None:
    async def main() -> list[str]:
        done: list[str] = []

        async def work(name: str) -> None:
            for turn in range(3):
                await asyncio.sleep(0.001)
                done.append(f"{name}{turn}")

        async with asyncio.timeout(10):
            await asyncio.gather(work("a"), work("b"))
        return done

    def crash_before(ordinal: int) -> Callable[[int], None]:
        def on_step(step: int) -> None:
            if step == ordinal:
                raise Crash

        return on_step

    def run(on_step: Callable[[int], None]) -> tuple[list[str], bool]:
        loop = VirtualLoop(on_step=on_step)
        task = loop.create_task(main())
        try:
            return loop.run_until_complete(task), False
        except Crash:
            loop.on_step = None
            return loop.run_until_complete(task), True
        finally:
            loop.close()

    steps: list[int] = []
    whole, _ = run(steps.append)
    assert whole == ["a0", "b0", "a1", "b1", "a2", "b2"]
    for ordinal in steps:
        assert run(crash_before(ordinal)) == (whole, True)
    assert run(crash_before(steps[-1] + 1)) == (whole, False)


def test_a_crash_ends_the_run_and_the_clean_up_is_not_watched() -> None:
    steps: list[int] = []

    def on_step(step: int) -> None:
        steps.append(step)
        if step == 5:
            raise Crash

    async def main(_clock: Clock) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(10):
                group.create_task(asyncio.sleep(1))

    with pytest.raises(Crash):
        virtual(main, on_step=on_step)
    assert steps == [1, 2, 3, 4, 5]


# Clocks


def test_the_wall_clock_can_step_and_monotonic_time_does_not() -> None:
    async def main(clock: VirtualClock) -> None:
        assert (clock.mono_ns(), clock.wall_ns()) == (5, START_WALL_NS)
        await asyncio.sleep(1)
        clock.wall_offset_ns -= 3600 * NS
        assert (clock.mono_ns(), clock.wall_ns()) == (5 + NS, START_WALL_NS + NS - 3600 * NS)

    virtual(main, start_mono_ns=5)


def test_a_virtual_clock_calls_at_the_nanosecond() -> None:
    async def main(clock: Clock) -> list[tuple[int, str]]:
        called: list[tuple[int, str]] = []

        def call(name: str) -> None:
            called.append((clock.mono_ns() - START_MONO_NS, name))

        clock.call_at(START_MONO_NS + 7, call, "seven")
        clock.call_at(START_MONO_NS + 3, call, "three")
        clock.call_at(START_MONO_NS - 3, call, "past")
        timer = clock.call_at(START_MONO_NS + 5, call, "cancelled")
        assert not timer.cancelled()
        timer.cancel()
        assert timer.cancelled()
        assert called == []
        await asyncio.sleep(1)
        return called

    assert virtual(main) == [(0, "past"), (3, "three"), (7, "seven")]


async def early_by_ns(clock: Clock) -> list[int]:
    """How early each of many timers at odd fractions of a millisecond was called."""
    early_ns: list[int] = []
    done = asyncio.Event()
    rng = random.Random(13)
    base_ns = clock.mono_ns()
    dues_ns = [base_ns + rng.randrange(-MS, 30 * MS) for _ in range(200)]

    def call(due_ns: int) -> None:
        early_ns.append(due_ns - clock.mono_ns())
        if len(early_ns) == len(dues_ns):
            done.set()

    for due_ns in dues_ns:
        clock.call_at(due_ns, call, due_ns)
        clock.call_at(due_ns, pytest.fail).cancel()
    assert early_ns == [], "called within call_at"
    await done.wait()
    return early_ns


@pytest.mark.parametrize("loop_factory", [uvloop.new_event_loop, asyncio.SelectorEventLoop])
def test_a_real_clock_never_calls_early(loop_factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        early_ns = runner.run(early_by_ns(RealClock(runner.get_loop())))
    assert len(early_ns) == 200
    assert max(early_ns) <= 0


class HastyLoop(asyncio.SelectorEventLoop):
    """Wakes every timer after half of its delay."""

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any, **options: Any) -> Any:
        return super().call_later(delay / 2 if delay > 0.001 else delay, callback, *args, **options)


def test_a_timer_woken_early_waits_again_and_can_still_be_cancelled() -> None:
    async def main(clock: Clock) -> None:
        called: list[int] = []
        done = asyncio.Event()
        due_ns = clock.mono_ns() + 20 * MS
        kept = clock.call_at(due_ns, lambda: called.append(clock.mono_ns()))
        dropped = clock.call_at(due_ns, called.append, 0)
        clock.call_at(due_ns - 5 * MS, dropped.cancel)
        clock.call_at(due_ns + 20 * MS, done.set)
        await done.wait()
        assert len(called) == 1
        assert called[0] >= due_ns
        assert not kept.cancelled()
        assert dropped.cancelled()

    with asyncio.Runner(loop_factory=HastyLoop) as runner:
        runner.run(main(RealClock(runner.get_loop())))


def test_run_real_runs_on_uvloop_with_the_machines_clocks() -> None:
    async def main(clock: RealClock) -> str:
        assert isinstance(asyncio.get_running_loop(), uvloop.Loop)
        before = time.clock_gettime_ns(time.CLOCK_BOOTTIME), time.time_ns()  # which goes on while the machine sleeps
        now = clock.mono_ns(), clock.wall_ns()
        after = time.clock_gettime_ns(time.CLOCK_BOOTTIME), time.time_ns()
        assert before[0] <= now[0] <= after[0]
        assert before[1] <= now[1] <= after[1]
        return "done"

    assert run_real(main) == "done"
