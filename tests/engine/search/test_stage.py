"""Stage 1 writes what stage 2 and the report read, and nothing that only a stop needs."""

import json
from collections.abc import Callable

import pytest
import torch
from safetensors.torch import load_file

from configs.schema import RunConfig
from engine.disk import newest
from engine.run.context import Context
from engine.search import trajectory
from engine.search.found import read_numbers
from engine.search.settings import FOUND
from engine.search.stage import build_search, search
from problems.machine.processes import Processes


@pytest.fixture
def searched(tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context]) -> tuple[Context, object]:
    """A run after its search, and the engine that the search left."""
    run = run_of(tiny_config())
    return run, search(run)


@pytest.mark.trains
def test_a_search_leaves_numbers_curves_weights_and_its_settings(searched: tuple[Context, object]) -> None:
    run, engine = searched
    folder, summary = run.folder, json.loads(run.folder.search_summary.read_text())
    assert summary["settings"] == json.loads(json.dumps(FOUND.of(run.config)))
    assert summary["data"] == run.fingerprint
    assert (summary["steps"], summary["stopped"]) == (6, "steps used up")
    assert trajectory.read(folder.trajectory).names == list(summary["parameters_per_rank"])
    assert torch.equal(read_numbers(folder)["alpha"], engine.alpha())  # type: ignore[attr-defined]
    weights = load_file(folder.search_weights)
    trained = {name: p for name, p in engine.lora.module.named_parameters() if p.requires_grad}  # type: ignore[attr-defined]
    assert weights.keys() == trained.keys()
    assert all(torch.equal(weights[name], trained[name]) for name in trained)
    assert newest.peek(folder.search_checkpoint) == {}


def test_both_problems_see_their_own_half_of_the_rows(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context]
) -> None:
    engine = build_search(run_of(tiny_config("--task.validation_share", "0.25")), second_order=False)
    d_tr, d_val = (problem.train_data_loader[0].rows for problem in (engine.lora, engine.selection))
    assert (len(d_tr), len(d_val)) == (48, 16)
    sentences = [tuple(ids) for ids in d_tr["input_ids"]], [tuple(ids) for ids in d_val["input_ids"]]
    assert not set(sentences[0]) & set(sentences[1])


@pytest.mark.trains
def test_a_process_that_is_not_the_first_writes_no_result(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(tiny_config("--search.steps", "2"))
    run.data  # noqa: B018 - as alone: there is no first process to wait for

    class Second(Processes):
        """A second process whose first one agrees with everything."""

        first = False  # type: ignore[assignment]

    run.processes = Second()
    search(run)
    assert not run.folder.search_summary.exists()
    assert not run.folder.search_metrics.exists()
