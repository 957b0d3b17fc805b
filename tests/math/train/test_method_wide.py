"""Wide LoRA: a fifth of the rows chooses the cut and is trained on only after it; energy cuts where PEFT cuts."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import LoraConfig, convert_to_lora

from autolora.engine import ranks
from autolora.engine.cut.basis import Gated, plain_basis
from autolora.engine.retrain.methods import wide
from autolora.engine.run.folder import RunFolder
from autolora.problems.models.attach import attach, lora_layers
from tests.helpers.generation_toys import make_causal

WIDE = ("--method", "wide", "--task.train_rows", "60", "--retrain.learning_rate", "3e-2", "--retrain.max_steps", "9",
        "--retrain.batch_size", "8", "--retrain.extra_steps", "8")  # fmt: skip


@pytest.mark.trains
def test_a_fifth_chooses_the_cut_and_is_trained_on_only_after_it(
    run_all: Callable[..., RunFolder], seen: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The training after the cut begins where the cut one is."""
    found: list[Any] = []
    original = wide.cut_to

    def cut(model: Any, bases: Any, kept: Any, *rest: Any) -> Any:
        made = original(model, bases, kept, *rest)
        layers: Any = lora_layers(made.model)
        left = {name: layer.get_delta_weight("default").detach().clone() for name, layer in layers.items()}
        found.append((len(seen), bases, kept, left))
        return made

    monkeypatch.setattr(wide, "cut_to", cut)
    folder = run_all(*WIDE, "--lora.budget", "1.25")
    ((steps, bases, kept, left),) = found
    before, after = ({tuple(filter(None, row)) for batch in part for row in batch["input_ids"]} for part in
                     (seen[:steps], seen[steps:]))  # fmt: skip
    assert len(before & after) > 40
    assert 8 <= len(after - before) <= 12, "a fifth of 60 rows"
    scale = 16 / (4 * 4) ** 0.5  # of mean_rank, at rank k in every layer
    assert left.keys() == {name for name, rank in kept.items() if rank}
    for name, delta in left.items():
        first = scale * bases[name].b[:, : kept[name]] @ bases[name].a[: kept[name]]
        torch.testing.assert_close(delta, first.float(), rtol=1e-3, atol=1e-5)
    assert ranks.load(folder.ranks).ranks == kept


@pytest.mark.parametrize("part", [0.5, 0.9, 0.99])
def test_energy_cuts_where_peft_cuts(part: float) -> None:
    config = LoraConfig(r=6, target_modules=["q_proj", "up_proj"], task_type="CAUSAL_LM", init_lora_weights=False)
    model = attach(make_causal("llama", 20), config)
    with torch.no_grad():
        for layer in lora_layers(model).values():
            layer.lora_B["default"].weight.mul_(torch.logspace(0, -2, 6))
    gated = Gated(model)
    gated.remove()
    found: Any = SimpleNamespace(evidence=SimpleNamespace(plain_curve=()))
    lora = SimpleNamespace(basis="energy", keep=part, budget=None)
    bases, kept = wide.chosen(gated, found, lora)
    _, state = convert_to_lora(model, part, progressbar=False)
    theirs = {key.removeprefix("base_model.model.").partition(".lora_A")[0]: len(value) for key, value in state.items()
              if ".lora_A" in key}  # fmt: skip
    assert dict(zip(gated.names, kept, strict=True)) == theirs
    a, b = gated.factors()[0]
    torch.testing.assert_close(bases[0].size, plain_basis(a, b).size)
