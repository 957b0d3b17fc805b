"""Wide LoRA: a fifth of the rows chooses the cut and is trained on only after it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from autolora.engine import ranks
from autolora.engine.retrain.methods import wide
from autolora.engine.store.folder import RunFolder
from autolora.problems.models.attach import lora_layers
from tests.helpers.shell import words

WIDE = words(
    "--method wide --task.train_rows 60 --retrain.learning_rate 3e-2 "
    "--retrain.max_steps 9 --retrain.batch_size 8 --retrain.extra_steps 8"
)


@pytest.mark.trains
def test_a_fifth_chooses_the_cut_and_is_trained_on_only_after_it(
    run_all: Callable[..., RunFolder], seen: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The training after the cut begins where the cut one is."""
    found: list[Any] = []
    original = wide.cut_to

    def cut(lora: Any, bases: Any, kept: Any, *rest: Any) -> Any:
        made = original(lora, bases, kept, *rest)
        layers: Any = lora_layers(made.model)
        left = {
            name: layer.get_delta_weight("default").detach().clone()
            for name, layer in layers.items()
        }
        named = (dict(zip(lora.names, each, strict=True)) for each in (bases, kept))
        found.append((len(seen), *named, left))
        return made

    monkeypatch.setattr(wide, "cut_to", cut)
    folder = run_all(*WIDE, "--lora.budget", "1.25")
    ((steps, bases, kept, left),) = found
    before, after = (
        {tuple(filter(None, row)) for batch in part for row in batch["input_ids"]}
        for part in (seen[:steps], seen[steps:])
    )
    assert len(before & after) > 40
    assert 8 <= len(after - before) <= 12, "a fifth of 60 rows"
    scale = 16 / (4 * 4) ** 0.5  # of mean_rank, at rank k in every layer
    assert left.keys() == {name for name, rank in kept.items() if rank}
    for name, delta in left.items():
        first = scale * bases[name].b[:, : kept[name]] @ bases[name].a[: kept[name]]
        torch.testing.assert_close(delta, first.float(), rtol=1e-3, atol=1e-5)
    assert ranks.load(folder.ranks).ranks == kept
