"""Signals: the first asks, the second stops, and afterwards the handlers are those of before."""

import os
import signal

import pytest

from engine.run.interrupt import Interrupted, StopRequest, watch_signals


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_asks_and_the_second_stops(number: signal.Signals, code: int) -> None:
    before = signal.getsignal(number)
    with pytest.raises(Interrupted) as caught, watch_signals() as stop:  # noqa: PT012
        stop.check()
        os.kill(os.getpid(), number)
        assert stop.code == code
        with pytest.raises(Interrupted):
            stop.check()
        os.kill(os.getpid(), number)
    assert caught.value.code == code
    assert signal.getsignal(number) is before


def test_interrupted_is_not_caught_as_an_ordinary_mistake() -> None:
    """transformers and wandb catch some errors of their callbacks; the user's Ctrl-C must come through as itself."""
    request = StopRequest()
    request.check()
    request.handle(signal.SIGINT, None)
    with pytest.raises(Interrupted):
        request.handle(signal.SIGTERM, None)
    assert request.code == 130, "the first signal names the exit code"
