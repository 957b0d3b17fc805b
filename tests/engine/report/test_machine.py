"""On what the numbers of a report were computed, as its page says."""

from autolora.engine.report.machine import machine_and_versions

MACHINE = {"device": "cuda", "name": "NVIDIA H100", "precision": "bf16", "weights": "4 bits", "processes": 2}


def test_two_runs_on_different_machines_can_be_told_apart() -> None:
    result = {"machine": MACHINE, "commit": "0123abcd", "versions": {"torch": "2.15.0"}}
    assert machine_and_versions(result) == {
        "device": "cuda (NVIDIA H100), 2 processes",
        "precision": "arithmetic bf16, frozen weights 4 bits",
        "this program": "commit 0123abcd",
        "torch": "2.15.0",
    }
    one = machine_and_versions({"machine": MACHINE | {"name": "", "processes": 1}, "commit": None})
    assert one == {"device": "cuda", "precision": "arithmetic bf16, frozen weights 4 bits"}


def test_an_older_result_has_what_it_has() -> None:
    assert machine_and_versions({"versions": {"torch": "2.15.0"}}) == {"torch": "2.15.0"}
    assert machine_and_versions({}) == {}
