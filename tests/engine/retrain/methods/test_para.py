"""PARA: what is left after the training is the best approximation above one threshold, evaluated and exported so."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForSequenceClassification

from autolora.configs.errors import UserError
from autolora.configs.requests import Request
from autolora.configs.schema import RunConfig
from autolora.engine import ranks
from autolora.engine.retrain.methods import METHODS, para
from autolora.engine.run.context import Context
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import Interrupted, StopRequest
from autolora.engine.stages import run_stages
from autolora.problems.gates import factors
from autolora.problems.models.attach import lora_layers
from tests.helpers.branches import make
from tests.helpers.methods import HEAD, SIZE, Done, K
from tests.helpers.stopping import StopAt

BUDGET, STEPS = 1.25, 8
WIDE = ("--lora.target_modules", "[query,key,intermediate.dense]")
CUT = ("--method", "para", "--lora.budget", str(BUDGET), "--retrain.learning_rate", "3e-2")


def run(config: RunConfig) -> RunFolder:
    return run_stages(Request(config, "all", False, "x"), StopRequest(), draw=False)


@pytest.fixture
def deltas(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Tensor]]:
    """Delta of every layer before and after the cut."""
    found: dict[str, dict[str, Tensor]] = {}
    original = para.Truncation.__call__

    def all_of(model: PeftModel) -> dict[str, Tensor]:
        layers: Any = lora_layers(model)
        return {name: layer.get_delta_weight("default").detach().double() for name, layer in layers.items()}

    def cut(self: para.Truncation) -> None:
        found["before"] = all_of(self.model)
        original(self)
        found["after"] = all_of(self.model)

    monkeypatch.setattr(para.Truncation, "__call__", cut)
    return found


@pytest.mark.trains
@pytest.mark.parametrize("scale", ["mean_rank", "component", "fixed", "rslora"])
def test_what_is_left_is_the_best_approximation_above_one_threshold(
    tiny_config: Callable[..., RunConfig], model_folder: Callable[..., Path], deltas: dict[str, Any], scale: str
) -> None:
    folder = run(tiny_config(*CUT, *WIDE, "--retrain.scale", scale))
    record, result = ranks.load(folder.ranks), json.loads(folder.metrics.read_text())
    sizes = {layer.name: 96 if "intermediate" in layer.name else SIZE for layer in record.layers}
    kept, dropped = [], []
    for layer in record.layers:
        u, s, vt = torch.linalg.svd(deltas["before"][layer.name], full_matrices=False)
        best = u[:, : layer.rank] * s[: layer.rank] @ vt[: layer.rank]
        torch.testing.assert_close(deltas["after"][layer.name], best, rtol=1e-4, atol=1e-6)
        kept += s[: layer.rank].tolist()
        dropped += [(value, sizes[layer.name]) for value in s[layer.rank : K].tolist()]
    assert min(kept) > max(value for value, _ in dropped)
    budget = int(BUDGET * sum(sizes.values()))
    assert budget - max(dropped)[1] < result["lora_parameters"] <= budget
    assert len({layer.rank for layer in record.layers}) > 1
    assert record.rule == "para"
    assert result["trainable_parameters"] == K * sum(sizes.values()) + HEAD, "what was trained"
    assert result["seconds"]["search"] is None
    # Plain PEFT loads the same function, also where the exported scale is another.
    base = AutoModelForSequenceClassification.from_pretrained(model_folder("bert"), num_labels=2)
    layers: Any = lora_layers(PeftModel.from_pretrained(base, folder.adapter))
    assert {name: layer.r["default"] for name, layer in layers.items()} == record.kept
    for name, layer in layers.items():
        found = layer.get_delta_weight("default").detach().double()
        torch.testing.assert_close(found, deltas["after"][name], rtol=1e-4, atol=1e-6)


@pytest.mark.trains
def test_the_evaluation_is_of_what_is_left(tiny_config: Callable[..., RunConfig]) -> None:
    """Without a cut it is uniform LoRA of rank k, from the same start."""

    def loss(name: str, *arguments: str) -> float:
        config = tiny_config("--retrain.learning_rate", "3e-2", "--lora.lora_alpha", "64", "--name", name, *arguments)
        return float(json.loads(run(config).metrics.read_text())["loss"])

    uniform = loss("uniform", "--method", "lora", "--lora.r", str(K))
    assert loss("whole", "--method", "para", "--lora.budget", str(K)) == pytest.approx(uniform, abs=1e-5)
    assert loss("cut", "--method", "para", "--lora.budget", "0.5") != pytest.approx(uniform, abs=1e-4)


@pytest.mark.trains
def test_without_a_budget_it_is_that_of_uniform_ranks(done: Callable[..., Done]) -> None:
    record = ranks.load(done("para").folder.ranks)
    assert record.mean_rank == 2, "lora.r of all runs here"
    assert done("para").result["lora_parameters"] == 2 * 4 * SIZE


@pytest.mark.trains
def test_parts_of_a_fused_layer_are_cut_each_by_itself(
    tiny_config: Callable[..., RunConfig], deltas: dict[str, Any]
) -> None:
    folder = run(tiny_config(*CUT, "--lora.target_modules", "[c_attn.q,c_attn.v]", kind="gpt2"))
    record = ranks.load(folder.ranks)
    assert sum(record.kept.values()) == BUDGET * 4
    weights = load_file(folder.adapter / "adapter_model.safetensors")
    scale = 16 / math.sqrt(K * sum(record.kept.values()) / len(record.kept))
    for name, after in deltas["after"].items():
        for part, rows in (("q", slice(0, 32)), ("k", slice(32, 64)), ("v", slice(64, 96))):
            rank = record.kept.get(f"{name}.{part}", 0)
            assert int(torch.linalg.matrix_rank(after.T[rows], rtol=1e-5)) == rank  # Conv1D: [inputs, outputs]
        if any(key.startswith(f"{name}.") for key in record.kept):
            a, b = (weights[f"base_model.model.{name}.lora_{x}.weight"].double() for x in "AB")
            torch.testing.assert_close(b @ a * scale, after.T, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("step", [2, 5, STEPS])
def test_a_stopped_run_resumes_to_the_same_ranks_and_weights(
    make_config: Callable[..., RunConfig], finished_run: Callable[..., RunFolder], tmp_path: Path, step: int
) -> None:
    values = (*CUT, *WIDE, "--retrain.max_steps", str(STEPS))
    whole = finished_run("bert", *values)
    config = make_config(tmp_path / "parts", "bert", *values)
    folder = RunFolder(Path(config.runs_folder) / "tiny")
    with pytest.raises(Interrupted):
        run_stages(Request(config, "all", False, "x"), StopAt(folder, step), draw=False)
    run(config)
    assert folder.ranks.read_text() == whole.ranks.read_text()
    found, expected = (load_file(x.adapter / "adapter_model.safetensors") for x in (folder, whole))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.trains
def test_a_sweep_judges_what_is_left(tiny_config: Callable[..., RunConfig], deltas: dict[str, Any]) -> None:
    folder = run(tiny_config(*CUT[:4], "--retrain.learning_rates", "[1e-3,1e-2]"))
    assert json.loads(folder.metrics.read_text())["learning_rate"] in (1e-3, 1e-2)


def test_one_threshold_goes_by_value_and_ends_at_the_first_component_without_room() -> None:
    values = torch.tensor([[9.0, 4.0, 1.0], [8.0, 7.0, 0.5]])
    found = para.above_one_threshold
    assert found(values, [10, 30], 70).tolist() == [[True, False, False], [True, True, False]]
    assert found(values, [10, 30], 69).tolist() == [[True, False, False], [True, False, False]]
    assert found(values, [10, 30], 120).all()
    equal = found(torch.zeros(2, 2), [1, 1], 3)
    assert equal.tolist() == [[True, True], [True, False]], "of equal ones the first layer's"


@pytest.fixture
def branches() -> PeftModel:
    """Two layers with LoRA of rank 4 and scale 1, whose B is not zero."""
    torch.manual_seed(0)
    model = make(2, k=4)
    with torch.no_grad():
        for layer in lora_layers(model).values():
            factors(layer)[1].normal_()
    return model


def test_a_component_that_is_dropped_is_0_in_both_factors_and_the_smallest_that_is_kept_is_told(
    branches: PeftModel, log_lines: list[str]
) -> None:
    deltas = [(b @ a).detach() for a, b in map(factors, lora_layers(branches).values())]
    values = torch.cat([torch.linalg.svdvals(delta)[:4] for delta in deltas]).sort(descending=True).values
    cut = para.Truncation(branches, (), dict.fromkeys(lora_layers(branches), 10), 30)
    cut()
    assert log_lines == [
        f"INFO para: kept 3 of 8 components; the smallest kept singular value is {float(values[2]):.3g}"
    ]
    assert sum(cut.ranks.values()) == 3
    for name, layer in lora_layers(branches).items():
        a, b = factors(layer)
        assert not a[cut.ranks[name] :].any()
        assert not b[:, cut.ranks[name] :].any()
        assert a[: cut.ranks[name]].any(dim=1).all()


def test_a_model_with_a_weight_that_is_not_finite_is_not_cut(branches: PeftModel) -> None:
    (a, _), _ = map(factors, lora_layers(branches).values())
    with torch.no_grad():
        a[0, 0] = math.nan
    before = [weight.clone() for layer in lora_layers(branches).values() for weight in factors(layer)]
    cut = para.Truncation(branches, (), dict.fromkeys(lora_layers(branches), 10), 30)
    cut()
    assert set(cut.ranks.values()) == {4}
    after = [weight for layer in lora_layers(branches).values() for weight in factors(layer)]
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


def test_a_budget_without_room_is_refused(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context]
) -> None:
    run = run_of(tiny_config("--method", "para", "--lora.budget", "0.2"))
    with pytest.raises(UserError, match=r"^--lora\.budget: 0\.2 is not allowed for this model; allowed: 0\.25 or"):
        METHODS["para"].prepare(run.base(), run, 8)
