"""Whether torch's waiting threads spin or sleep follows from the load of other programs, and from the environment."""

import os

import psutil
import pytest

from autolora.problems.machine import waiting

NAMES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither variable is set; afterwards both are as before."""
    for name in NAMES:
        monkeypatch.setenv(name, "x")  # so that monkeypatch restores also what was not set
        monkeypatch.delenv(name)


def chosen() -> dict[str, str]:
    return {name: os.environ[name] for name in NAMES if name in os.environ}


@pytest.mark.parametrize(
    ("taken", "expected"),
    [
        (0.0, {"GOMP_SPINCOUNT": "3000"}),
        (0.59, {"GOMP_SPINCOUNT": "3000"}),
        (0.61, {"OMP_WAIT_POLICY": "PASSIVE"}),
        (4.0, {"OMP_WAIT_POLICY": "PASSIVE"}),
    ],
)
def test_threads_spin_while_the_cores_are_free(
    monkeypatch: pytest.MonkeyPatch, taken: float, expected: dict[str, str]
) -> None:
    monkeypatch.setattr(waiting, "own_cores", lambda: 4)
    monkeypatch.setattr(waiting, "taken_by_others", lambda: taken)
    waiting.choose_waiting()
    assert chosen() == expected


@pytest.mark.parametrize("given", [{"OMP_WAIT_POLICY": "ACTIVE"}, {"GOMP_SPINCOUNT": "7"}])
def test_what_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch, given: dict[str, str]) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    waiting.choose_waiting()
    assert chosen() == given


@pytest.mark.parametrize(
    ("machine", "worked", "own", "taken"),
    [
        (4, 3.0, 1.0, 1.0),  # two seconds of others in two seconds: one core
        (4, 1.0, 1.0, 0.0),
        (4, 0.9, 1.0, 0.0),  # the clocks of system and process differ by a tick
        (64, 60.0, 1.0, 0.0),  # they are on cores that this process may not use
        (6, 9.0, 1.0, 2.0),  # two of four are
    ],
)
def test_the_work_of_others_is_counted_on_the_own_cores(
    monkeypatch: pytest.MonkeyPatch, machine: int, worked: float, own: float, taken: float
) -> None:
    monkeypatch.setattr(waiting, "own_cores", lambda: 4)
    monkeypatch.setattr(psutil, "cpu_count", lambda: machine)
    monkeypatch.setattr(waiting, "_BEGAN", (-2.0, 0.0, 0.0))
    monkeypatch.setattr(waiting, "_now", lambda: (0.0, worked, own))
    assert waiting.taken_by_others() == pytest.approx(taken)


def test_the_clocks_run_forward() -> None:
    first, second = waiting._now(), waiting._now()
    assert all(b >= a for a, b in zip(first, second, strict=True))
    assert first[1] > 0
