"""Free memory: a container's limit counts where it is less than the machine's."""

from pathlib import Path

import pytest
import torch

from engine.run import free as module
from engine.run.free import free
from problems.machine.compute import Compute

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("version", [0, 1])
def test_a_containers_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int) -> None:
    monkeypatch.setattr(module, "_ROOT", tmp_path)
    for name, text in zip(module._CGROUPS[version], ("5000", "4000", "anon 1\ninactive_file 1500\n"), strict=True):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="ascii")
    assert free(Compute(torch.device("cpu"), bf16=False)) == 2500


def test_no_limit_is_no_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ROOT", tmp_path)
    for name, text in zip(module._CGROUPS[0], ("max", "4000", "inactive_file 1500"), strict=True):
        (tmp_path / name).write_text(text, encoding="ascii")
    assert list(module._left_in_containers()) == []
