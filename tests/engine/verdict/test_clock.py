"""The minutes of a verdict end what trains as a signal does, and no signal is lost."""

import signal
import threading
import time
from collections.abc import Callable

import pytest

from autolora.engine.run.interrupt import Interrupted, StopRequest
from autolora.engine.verdict.clock import time_limit


def work(stop: StopRequest) -> None:
    for _ in range(500):
        stop.check()
        time.sleep(0.01)
    pytest.fail("nobody asked to stop")


def test_the_body_ends_when_the_time_is_over_and_the_stop_is_free_again() -> None:
    stop = StopRequest()
    with time_limit(stop, 0.05 / 60):
        work(stop)
    assert stop.code is None


def test_a_signal_goes_on_its_way_and_is_not_overwritten_by_the_clock() -> None:
    stop = StopRequest()

    def body() -> None:
        with time_limit(stop, 0.05 / 60):
            stop.code = 130
            time.sleep(0.15)
            work(stop)

    with pytest.raises(Interrupted) as found:
        body()
    assert found.value.code == stop.code == 130


def test_a_signal_after_the_time_is_over_still_lets_what_trains_save_itself() -> None:
    stop, saved = StopRequest(), []

    def body() -> None:
        with time_limit(stop, 0.01 / 60):
            time.sleep(0.1)
            stop.handle(signal.SIGINT, None)  # the first one asks
            saved.append(True)
            work(stop)

    with pytest.raises(Interrupted) as found:
        body()
    assert saved
    assert found.value.code == stop.code == 130


def test_a_signal_while_what_trains_saves_itself_is_not_forgotten() -> None:
    stop = StopRequest()

    def body() -> None:
        with time_limit(stop, 0.01 / 60):
            try:
                work(stop)
            finally:
                stop.handle(signal.SIGTERM, None)

    with pytest.raises(Interrupted) as found:
        body()
    assert found.value.code == 143


def test_a_body_that_is_done_in_time_is_not_stopped_later() -> None:
    stop = StopRequest()
    with time_limit(stop, 0.05 / 60):
        pass
    time.sleep(0.15)
    assert stop.code is None


def test_more_minutes_than_a_timer_takes_are_the_longest_that_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[float] = []

    class Timer(threading.Timer):
        def __init__(self, seconds: float, call: Callable[[], None]) -> None:
            taken.append(seconds)
            super().__init__(seconds, call)

    monkeypatch.setattr(threading, "Timer", Timer)
    with time_limit(StopRequest(), 1e30):
        pass
    assert taken == [threading.TIMEOUT_MAX]
