"""A search writes what the retraining and the report read, and nothing that only a stop needs."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from autolora.configs.schema import RunConfig
from autolora.engine.disk import newest
from autolora.engine.run.context import Context
from autolora.engine.run.program import commit
from autolora.engine.run.savings import FIRST_ORDER, OTHERS
from autolora.engine.search import trajectory
from autolora.engine.search.found import read_numbers, searched_model
from autolora.engine.search.settings import FOUND
from autolora.engine.search.stage import build_search, search
from autolora.problems.machine.processes import Processes
from tests.helpers.tables import write


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
    assert (summary["steps"], summary["stopped"], summary["commit"]) == (6, "steps used up", commit())
    assert trajectory.read(folder.trajectory).names == list(summary["parameters_per_rank"])
    assert torch.equal(read_numbers(folder)["alpha"], engine.alpha())  # type: ignore[attr-defined]
    weights = load_file(folder.search_weights)
    trained = {name: p for name, p in engine.lora.module.named_parameters() if p.requires_grad}  # type: ignore[attr-defined]
    assert weights.keys() == trained.keys()
    assert all(torch.equal(weights[name], trained[name]) for name in trained)
    assert newest.peek(folder.search_checkpoint) == {}


@pytest.mark.trains
def test_contribution_is_that_of_the_last_step_and_not_of_the_singular_basis(
    searched: tuple[Context, object],
) -> None:
    """The fold overwrites A and B; afterwards alpha |B_j| |A_j| would be alpha times the singular values."""
    run, _ = searched
    found, numbers = trajectory.read(run.folder.trajectory), read_numbers(run.folder)
    torch.testing.assert_close(numbers["contribution"], torch.tensor(found.contribution[-1]))
    assert not torch.allclose(numbers["contribution"], numbers["alpha"] * numbers["singular_values"], rtol=1e-2)


def test_both_problems_see_their_own_half_of_the_rows(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context]
) -> None:
    engine = build_search(run_of(tiny_config("--task.validation_share", "0.25")), second_order=False)
    d_tr, d_val = (problem.train_data_loader[0].rows for problem in (engine.lora, engine.selection))
    assert (len(d_tr), len(d_val)) == (48, 16)
    sentences = [tuple(ids) for ids in d_tr["input_ids"]], [tuple(ids) for ids in d_val["input_ids"]]
    assert not set(sentences[0]) & set(sentences[1])


def test_rows_that_are_in_both_halves_are_told(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], tmp_path: Path, log_lines: list[str]
) -> None:
    """With repeated rows, the answer was measured on rows that W had been trained on, without a word. By default rows
    of one text stay together."""
    words = ("film", "room", "soup", "play")
    table = {"text": [f"the {word} is dull" for word in words] * 6, "label": ["a", "b", "a", "b"] * 6}
    path = write(tmp_path / "train.csv", table)
    given = ("--task.type", "text", "--task.path", str(path), "--task.validation_path", str(path))
    build_search(run_of(tiny_config(*given)), second_order=False)
    assert not any("also in D_tr" in line for line in log_lines)
    build_search(run_of(tiny_config(*given, "--task.split_by", "row")), second_order=False)
    assert sum("12 of 12 rows of D_val have a text that is also in D_tr" in line for line in log_lines) == 1


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


@pytest.mark.trains
@pytest.mark.parametrize("scale", ["start", "paper"])
def test_the_stored_model_computes_what_the_search_computed_with_its_gates(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], scale: str
) -> None:
    given = ("--search.steps", "12", "--search.learning_rate", "3e-2", "--search.scale", scale)
    searched = build_search(run_of(tiny_config(*given)), second_order=False)
    searched.run()
    run = run_of(tiny_config(*given))
    search(run)
    model, gates = searched_model(run)
    batch = run.data.collate(run.data.train.__getitems__(list(range(8))))
    with torch.no_grad():
        with searched.lora.gates.open(searched.selection.module()):
            expected = searched.lora.module.eval()(**batch).logits
        with gates.open(torch.zeros(len(gates.names), gates.k)):
            without = model.eval()(**batch).logits
        with gates.open(torch.ones(len(gates.names), gates.k)):
            torch.testing.assert_close(model(**batch).logits, expected, rtol=0, atol=1e-5)
    assert (without - expected).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("method", "per_weight"), [("darts", OTHERS), ("first_order", FIRST_ORDER), ("unrolled", OTHERS + 3 * 4)]
)
def test_the_memory_estimate_counts_the_copies_of_w_that_the_approximation_makes(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], monkeypatch: pytest.MonkeyPatch,
    method: str, per_weight: int,
) -> None:  # fmt: skip
    given: list[int] = []
    monkeypatch.setattr(
        "autolora.engine.search.stage.check_memory", lambda *_, **told: given.append(told["per_weight"])
    )
    build_search(run_of(tiny_config("--hypergradient.type", method, "--search.unroll_steps", "4")), second_order=False)
    assert given == [per_weight]
