"""Two trainings of one seed differ in their ranks alone: A, batches and masks are the same wherever
both have them."""

from collections.abc import Callable
from itertools import combinations
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autolora.configs.schema import RunConfig
from autolora.engine.disk.files import write_json
from autolora.problems.models.attach import ADAPTER, lora_layers
from tests.helpers.methods import LEARNED, NAMES, K
from tests.helpers.retraining import retrain, rows_of, with_ranks
from tests.helpers.stages import Stages


@pytest.mark.trains
@pytest.mark.parametrize("method", ["autolora", "lora", "lora_random"])
def test_a_of_every_method_is_the_first_rows_of_one_matrix(
    method: str, new_run: Callable[..., Stages]
) -> None:
    def start_of(name: str, method: str, *more: str) -> dict[str, Tensor]:
        """A of every layer as a method starts with it, whatever was drawn before."""
        run = new_run("--name", name, "--method", method, *more)
        if method == "autolora":
            layers = [{"name": n, "rank": r} for n, r in zip(NAMES, LEARNED, strict=True)]
            write_json(run.folder.ranks, {"k": K, "layers": layers})
        torch.manual_seed(torch.seed())
        prepared = run.prepared()
        return {
            name: layer.lora_A[ADAPTER].weight.detach()
            for name, layer in lora_layers(prepared.model).items()
        }

    rank = {"lora": ("--lora.r", "2"), "lora_random": ("--lora.budget", "2")}.get(method, ())
    whole = start_of("whole", "lora", "--lora.r", "6")
    found = start_of("found", method, *rank)
    assert set(found) <= set(whole)
    assert len({len(a) for a in found.values()}) > (method != "lora") - 1
    for name, a in found.items():
        assert torch.equal(a, whole[name][: len(a)]), name
    other = start_of("other", method, *rank, "--seed", "1")
    assert not any(torch.equal(other[name][:1], whole[name][:1]) for name in other)
    assert len({tuple(a[0].tolist()) for a in whole.values()}) == len(NAMES), (
        "no two layers of one width share an A"
    )


@pytest.mark.trains
def test_two_methods_of_one_seed_see_the_same_batches_and_masks(
    tiny_config: Callable[..., RunConfig],
    seen: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A mask: where a dropout's outputs were 0, one after the other."""
    masks: list[Tensor] = []
    original = nn.Dropout.forward

    def forward(self: nn.Dropout, x: Tensor) -> Tensor:
        y = original(self, x)
        # passes before the training ask how much memory it needs
        if self.training and self.p and seen:
            masks.append(y == 0)
        return y

    monkeypatch.setattr(nn.Dropout, "forward", forward)

    def trained(name: str, *more: str) -> tuple[list[Any], list[Tensor]]:
        rows = ("--task.train_rows", "20", "--task.evaluation_rows", "20")
        options = (
            "--retrain.max_steps",
            "4",
            "--retrain.gradient_accumulation",
            "2",
            "--name",
            name,
        )
        config, folder = with_ranks(tiny_config(*rows, *options, *more, dropout=0.2))
        if config.method != "autolora":
            folder.ranks.unlink()
        masks.clear()
        seen.clear()
        retrain(config)
        return rows_of(seen), list(masks)

    rows, base = trained("two")
    again, base_again = trained("all", "--method", "lora", "--lora.r", "4")
    assert rows == again
    assert len(base) > 8
    assert all(torch.equal(a, b) for a, b in zip(base, base_again, strict=True))
    _, other = trained("other", "--seed", "1")
    assert not any(
        a.shape == b.shape and torch.equal(a, b) for a, b in zip(base, other, strict=False)
    )
    # Each batch of each step has masks of its own. Those of one seed begin alike, whatever their
    # shape.
    assert len(base) % len(seen) == 0
    of_batch = len(base) // len(seen)
    first = [base[i].flatten()[:512].tolist() for i in range(0, len(base), of_batch)]
    assert len(first) == 6
    assert all(one != other for one, other in combinations(first, 2))
