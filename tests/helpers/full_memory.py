"""A device that refuses the memory of the longest batch."""

from typing import Any

import pytest
import torch

from autolora.engine.run import trial_batch
from autolora.problems.machine.compute import on_device


def refuse_allocations(monkeypatch: pytest.MonkeyPatch, granted: int = 0) -> None:
    """Lets the first `granted` trials of a longest batch pass, and refuses the next one."""
    tried = []

    def refuse(batch: dict[str, Any], device: torch.device) -> dict[str, Any]:
        tried.append(1)
        if len(tried) > granted:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return on_device(batch, device)

    monkeypatch.setattr(trial_batch, "on_device", refuse)
