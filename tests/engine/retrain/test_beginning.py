"""A training begins with its last check; only then are files written that make the folder count as begun."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from autolora.configs.errors import UserError
from autolora.configs.requests import Request
from autolora.configs.schema import RunConfig
from autolora.engine import ranks
from autolora.engine.retrain.beginning import begin
from autolora.engine.retrain.methods import METHODS
from autolora.engine.run.context import Context
from autolora.engine.run.interrupt import StopRequest
from autolora.engine.stages import run_stages
from autolora.problems.models import recompute
from tests.helpers.full_memory import refuse_allocations
from tests.helpers.retraining import with_ranks


@pytest.mark.trains
def test_a_training_without_room_writes_nothing(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(tiny_config("--method", "lora"))
    data = run.data
    prepared = METHODS["lora"].prepare(run.base(), run, len(data.train))
    with monkeypatch.context() as patched:
        refuse_allocations(patched)
        with pytest.raises(torch.OutOfMemoryError):
            begin(run, prepared, data)
    assert not run.folder.config.exists()
    assert not run.folder.ranks.exists()
    begin(run, prepared, data)
    assert run.folder.config.exists()
    assert run.folder.ranks.exists()


@pytest.mark.trains
def test_a_model_without_blocks_to_recompute_is_refused_before_a_folder_exists(
    tiny_config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was refused after config.yaml was written, so that the folder counted as begun."""
    config = tiny_config("--method", "lora", "--model.gradient_checkpointing", "true")
    monkeypatch.setattr(recompute, "blocks_of", lambda model: [])
    with pytest.raises(UserError, match=r"^--model\.gradient_checkpointing: this model has no blocks"):
        run_stages(Request(config, "all", False, "x"), StopRequest())
    assert not (Path(config.runs_folder) / str(config.name)).exists()


@pytest.mark.trains
def test_the_head_alone_has_no_ranks(tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context]) -> None:
    run = run_of(tiny_config("--method", "head"))
    data = run.data
    begin(run, METHODS["head"].prepare(run.base(), run, len(data.train)), data)
    assert run.folder.config.exists()
    assert not run.folder.ranks.exists()


@pytest.mark.trains
def test_ranks_of_a_search_get_the_scale_at_which_they_are_retrained(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context]
) -> None:
    """ranks.json said the scale of the search, and another trainer would have trained at that."""
    config, folder = with_ranks(tiny_config("--lora.lora_alpha", "4", "--retrain.scale", "rslora"))
    by_hand = folder.ranks.read_bytes()
    run = run_of(config)
    data = run.data
    begin(run, METHODS["autolora"].prepare(run.base(), run, len(data.train)), data)
    assert folder.ranks.read_bytes() == by_hand, "a file that says no scale stays as it is"
    ranks.save(dataclasses.replace(ranks.load(folder.ranks), lora_alpha=9.0, scale="component"), folder.ranks)
    begin(run, METHODS["autolora"].prepare(run.base(), run, len(data.train)), data)
    found = ranks.load(folder.ranks)
    assert (found.lora_alpha, found.scale) == (4.0, "rslora")
