"""Signals: the first asks, the second stops, and afterwards the handlers are those of before."""

import os
import signal

import pytest

from autolora.engine.run.interrupt import Interrupted, StopRequest, leave_at_signals, watch_signals


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


@pytest.mark.parametrize(("rank", "lines"), [(None, 1), ("0", 1), ("1", 0)])
def test_the_first_signal_is_answered_at_once_by_one_process(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], rank: str | None, lines: int
) -> None:
    """A step may take seconds: who sees no answer presses again, and then nothing is saved."""
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    if rank is not None:
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setenv("WORLD_SIZE", "2")
    request = StopRequest()
    request.handle(signal.SIGINT, None)
    told = capfd.readouterr().err
    assert told.count("stopping as soon as what is done is saved") == told.count("\n") == lines
    with pytest.raises(Interrupted):
        request.handle(signal.SIGINT, None)
    assert capfd.readouterr().err == ""


def test_interrupted_is_not_caught_as_an_ordinary_mistake() -> None:
    """transformers and wandb catch some errors of their callbacks; the user's Ctrl-C must come through as itself."""
    request = StopRequest()
    request.check()
    request.handle(signal.SIGINT, None)
    with pytest.raises(Interrupted):
        request.handle(signal.SIGTERM, None)
    assert request.code == 130, "the first signal names the exit code"


def test_what_has_nothing_to_save_stops_at_the_first_signal() -> None:
    with pytest.raises(Interrupted) as caught, watch_signals(at_once=True):
        os.kill(os.getpid(), signal.SIGTERM)
    assert caught.value.code == 143


@pytest.mark.trains
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_anything_is_begun_ends_in_one_line(number: signal.Signals) -> None:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.dup2(writing, 2)
            leave_at_signals()
            os.kill(os.getpid(), number)
            signal.pause()
        finally:
            os._exit(99)
    os.close(writing)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with os.fdopen(reading) as said:
        assert said.read() == "stopped before anything was begun\n"
    assert code == 128 + number
