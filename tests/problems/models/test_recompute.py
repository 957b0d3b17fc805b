"""Blocks that are computed again give what blocks that keep their activations give, bit for bit on a CPU."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from autolora.configs.errors import UserError
from autolora.configs.schema import RunConfig
from autolora.engine.run.context import Context
from autolora.engine.search.engine import SearchEngine
from autolora.engine.search.stage import build_search
from autolora.problems.models import recompute
from autolora.problems.models.recompute import recompute_blocks

ON = ("--model.gradient_checkpointing", "true")


def steps(engine: SearchEngine, count: int = 4) -> SearchEngine:
    engine.train_iters = count
    engine.run()
    return engine


@pytest.mark.slow
@pytest.mark.trains
@pytest.mark.parametrize(
    ("kind", "method"),
    [
        *(("bert", method) for method in ("first_order", "forward_difference", "darts", "sama")),
        *((kind, "darts") for kind in ("roberta", "gpt2", "llama")),
    ],
)
def test_a_search_takes_the_same_steps(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], kind: str, method: str
) -> None:
    """Gates and dropout masks of the second pass are those of the first, also where gates differ in between."""
    given = ("--hypergradient.type", method, "--search.warmup_ratio", "0", "--search.steps", "4")
    kept, again = (
        steps(build_search(run_of(tiny_config(*given, *more, kind=kind, dropout=0.1)), second_order=False))
        for more in ((), ON)
    )
    assert torch.equal(kept.alpha(), again.alpha())
    assert torch.equal(kept.selection.implicit, again.selection.implicit)
    for one, other in zip(kept.lora.trained, again.lora.trained, strict=True):
        assert torch.equal(one, other)
    assert (kept.alpha() - 0.25).abs().max() > 1e-3


@pytest.fixture
def as_on_mps(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch does not replay the random state of the device, as it does not on mps."""
    original = recompute.checkpoint
    monkeypatch.setattr(recompute, "checkpoint", lambda *a, **k: original(*a, **{**k, "preserve_rng_state": False}))
    monkeypatch.setattr(recompute, "_masks_are_ours", lambda device: True)


@pytest.mark.slow
@pytest.mark.usefixtures("as_on_mps")
@pytest.mark.parametrize("method", ["first_order", "darts"])
def test_a_search_takes_the_same_steps_where_torch_replays_no_masks(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], method: str
) -> None:
    test_a_search_takes_the_same_steps(tiny_config, run_of, "bert", method)


@pytest.mark.trains
@pytest.mark.usefixtures("as_on_mps")
def test_the_second_pass_draws_the_masks_of_the_first_and_leaves_the_random_state() -> None:
    """On mps the second pass drew other masks, so that gradients were wrong without a word."""

    def values(*, again: bool) -> list[torch.Tensor]:
        torch.manual_seed(0)
        model, inputs = nn.Sequential(Block(), Block(), Block()), torch.randn(3, 4, requires_grad=True)
        if again:
            recompute_blocks(model)
        loss = model(inputs).square().sum()
        return [loss, *torch.autograd.grad(loss, [inputs, *model.parameters()]), torch.rand(3)]

    for one, other in zip(values(again=True), values(again=False), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("dropout", ["true", "false"])
def test_only_the_inputs_of_the_blocks_are_kept(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], dropout: str
) -> None:
    """Also in evaluation mode, in which a search without dropout and the shares run."""

    def kept(*more: str) -> int:
        """Numbers that the graph of one loss holds, by torch's own account of what it saves."""
        engine = build_search(run_of(tiny_config("--search.dropout", dropout, *more)), second_order=False)
        engine.train()
        loader = engine.lora.train_data_loader[0]
        batch = loader.collate([loader.rows[i] for i in range(16)])
        saved: dict[int, int] = {}

        def note(tensor: torch.Tensor) -> torch.Tensor:
            saved[tensor.data_ptr()] = tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            engine.lora.get_loss(batch)
        return sum(saved.values())

    assert kept(*ON) < 0.5 * kept()


def test_the_gates_of_the_forward_pass_count_when_others_are_open_in_the_backward_pass(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context]
) -> None:
    grads = []
    for more in ((), ON):
        engine = build_search(run_of(tiny_config("--search.dropout", "false", *more)), second_order=False)
        engine.train()
        with torch.no_grad():
            for layer in engine.lora.gates.layers.values():
                layer.lora_B["default"].weight.fill_(0.1)
        loader, gates = engine.lora.train_data_loader[0], engine.lora.gates
        batch = loader.collate([loader.rows[i] for i in range(4)])
        values = torch.linspace(0.2, 1, len(gates.names) * 4 * gates.k).view(4, len(gates.names), gates.k)
        values.requires_grad_(True)
        with gates.open(values):
            loss = engine.lora.module(**batch).loss
        with gates.open(torch.zeros(len(gates.names), gates.k)):
            grads.append(torch.autograd.grad(loss, values)[0])
    assert torch.equal(*grads)
    assert grads[0].abs().max() > 0


def test_a_model_without_known_blocks_is_refused() -> None:
    with pytest.raises(UserError, match=r"^--model\.gradient_checkpointing: .*allowed here: false$"):
        recompute_blocks(nn.Sequential(nn.Linear(2, 2)))


class Block(GradientCheckpointingLayer):
    """A block that transformers would mark."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(4, 4)
        self.dropout = nn.Dropout(0.5)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden + self.dropout(torch.tanh(self.map(hidden)))


@pytest.mark.trains
def test_a_compiled_model_may_recompute_its_blocks() -> None:
    """torch asserted at the first step of a compiled retraining."""

    def values(*, compiled: bool) -> list[torch.Tensor]:
        torch.manual_seed(0)
        model, inputs = nn.Sequential(Block(), Block()), torch.randn(3, 4, requires_grad=True)
        recompute_blocks(model)
        loss = (torch.compile(model, backend="aot_eager") if compiled else model)(inputs).square().sum()
        return [loss, *torch.autograd.grad(loss, [inputs, *model.parameters()])]

    for one, other in zip(values(compiled=True), values(compiled=False), strict=True):
        torch.testing.assert_close(one, other)
