"""A resumed run on another machine is told so in one sentence; on the same machine nothing is said."""

import pytest
import torch

from autolora.engine.run.same_machine import machine_of, warn_of_another_machine
from autolora.problems.machine.compute import Compute

HERE = Compute(torch.device("cpu"), bf16=False)


@pytest.mark.parametrize(
    ("began", "words"),
    [
        (Compute(torch.device("cpu"), bf16=True), "cpu in bf16"),
        (Compute(torch.device("cuda", 1), bf16=True), "cuda in bf16"),
        (Compute(torch.device("cuda"), bf16=False), "cuda in fp32"),
    ],
)
def test_another_device_or_precision_is_told(log_lines: list[str], began: Compute, words: str) -> None:
    warn_of_another_machine("search", machine_of(began), HERE)
    assert log_lines == [
        f"WARNING search: began on {words} and resumes on cpu in fp32, so it ends at other numbers than without the "
        f"stop"
    ]


def test_of_the_same_machine_or_an_old_checkpoint_nothing_is_said(log_lines: list[str]) -> None:
    warn_of_another_machine("search", machine_of(HERE), HERE)
    warn_of_another_machine("search", {}, HERE)
    second, first = Compute(torch.device("cuda", 1), bf16=True), Compute(torch.device("cuda"), bf16=True)
    warn_of_another_machine("search", machine_of(second), first)  # another GPU of the same kind
    assert log_lines == []
