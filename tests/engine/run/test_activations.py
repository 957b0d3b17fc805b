"""What autograd would keep is counted exactly, and the counting itself keeps none of it."""

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from datasets import Dataset
from torch import nn
from torch.profiler import ProfilerActivity, profile
from transformers import LlamaConfig, LlamaForCausalLM

from autolora.configs.schema import RunConfig
from autolora.engine.run.activations import Activations, activations
from autolora.engine.run.context import Context
from autolora.problems.data import Data
from autolora.problems.machine.compute import Compute
from autolora.problems.models.attach import attach_components
from autolora.problems.models.recompute import recompute_blocks
from autolora.problems.tasks import token_loss

TOKENS = 128
CPU = Compute(torch.device("cpu"), bf16=False)


def searched_model(run: Context) -> nn.Module:
    assert len(run.data.train)  # the task learns its classes from the rows
    base = run.base()
    return attach_components(base.model, run.config.lora, run.task.peft_type, base.trained_whole)


def deep_model(dtype: torch.dtype = torch.float32, vocabulary: int = 50) -> Any:
    """Twelve blocks, so that what all blocks keep is much more than what one of them needs."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 12, "num_attention_heads": 4}
    model = LlamaForCausalLM(LlamaConfig(**sizes, vocab_size=vocabulary)).to(dtype)
    model.loss_function = token_loss.token_loss
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("q_proj" in name)
    return model


def rows_of(count: int, tokens: int = TOKENS) -> Data:
    ids = torch.arange(tokens).remainder(50).tolist()
    rows = [{"input_ids": ids, "attention_mask": [1] * tokens, "labels": ids, "length": tokens}] * count
    columns = ("input_ids", "attention_mask", "labels")

    def collate(given: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        return {name: torch.tensor([row[name] for row in given]) for name in columns}

    return Data(Dataset.from_list(rows), {}, collate)


def peak_of(action: Callable[[], object]) -> int:
    """The most bytes that torch had allocated at a time during `action`, by its own account of every allocation."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        action()
    profiler: Any = found.profiler
    changes = [event for event in profiler.kineto_results.events() if event.name() == "[memory]"]
    now = most = 0
    for change in sorted(changes, key=lambda event: event.start_ns()):
        now += change.nbytes()
        most = max(most, now)
    return most


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("again", [False, True])
def test_the_measurement_needs_less_than_what_it_finds(rows: int, again: bool) -> None:
    """Also where the blocks will be computed again, which they are not yet when it runs."""
    model, data = deep_model(), rows_of(1)
    found: list[Activations] = []
    peak = peak_of(lambda: found.append(activations(model, data, CPU, rows)))
    assert 0 < peak <= found[0].of(rows, again=again)


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("again", [False, True])
def test_what_it_finds_is_the_peak_of_a_step(rows: int, again: bool) -> None:
    model, data = deep_model(), rows_of(3)
    found = activations(model, data, CPU, rows).of(rows, again=again)
    if again:
        recompute_blocks(model)
    model.train()
    batch = data.collate(list(data.train.select(range(rows))))
    gradients = sum(parameter.nbytes for parameter in model.parameters() if parameter.requires_grad)
    peak = peak_of(lambda: model(**batch).loss.backward())
    # The gradients of the activations inside one block come on top; in a model this narrow they are a large part.
    assert 0.8 * found <= peak <= 1.2 * found + gradients, (peak, found, gradients)


@pytest.mark.parametrize("again", [False, True])
def test_the_scores_of_a_large_vocabulary_are_there_twice(again: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """With their gradient. Where the loss is computed in parts, autograd does not save them, but they are kept."""
    monkeypatch.setattr(token_loss, "CHUNK", 2**14)
    vocabulary = 20_000
    model, data = deep_model(vocabulary=vocabulary), rows_of(1)
    found = activations(model, data, CPU, 1).of(1, again=again)
    if again:
        recompute_blocks(model)
    model.train()
    batch = data.collate(list(data.train))
    peak = peak_of(lambda: model(**batch).loss.backward())
    assert found > 2 * TOKENS * vocabulary * 4
    assert peak == pytest.approx(found, rel=0.05)


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_one_row_and_two_tell_what_any_batch_keeps(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], kind: str
) -> None:
    run = run_of(tiny_config(kind=kind, dropout=0.1))
    model = searched_model(run)
    found = activations(model, run.data, run.compute)
    longest = max(run.data.train, key=lambda row: row["length"])
    model.train()
    kept: dict[int, tuple[Any, int]] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        """Holds every storage, so that none is freed and none can be mistaken for another."""
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = (storage, storage.nbytes())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = model(**run.data.collate([dict(longest) for _ in range(16)])).logits
    weights = {parameter.untyped_storage().data_ptr() for parameter in (*model.parameters(), *model.buffers())}
    held = sum(size for place, (_, size) in kept.items() if place not in weights)
    needed = held + 2 * logits.untyped_storage().nbytes()  # the scores and their gradient
    assert 0.99 * needed <= found.of(16, again=False) <= 1.06 * needed
    assert found.blocks == 2
    assert found.of(16, again=True) < found.of(16, again=False)


@pytest.mark.parametrize("rows", [1, 2])
def test_weights_in_bf16_need_no_copies_for_arithmetic_in_bf16(rows: int) -> None:
    """The copies do not grow with the rows, nor, where one row goes through the model at a time, with its tokens."""
    data, compute = rows_of(1, tokens=8), Compute(torch.device("cpu"), bf16=True)
    copied, plain = (activations(deep_model(kind), data, compute, rows) for kind in (torch.float32, torch.bfloat16))
    frozen = sum(p.numel() for p in deep_model().model.layers.parameters() if not p.requires_grad)
    assert copied.fixed > 2 * 0.9 * frozen
    assert plain.fixed < 0.01 * copied.fixed


def test_looking_changes_no_dropout_mask_no_mode_and_leaves_no_hook(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context]
) -> None:
    run = run_of(tiny_config(dropout=0.1))
    model = searched_model(run).eval()
    before = torch.get_rng_state()
    activations(model, run.data, run.compute)
    assert torch.equal(torch.get_rng_state(), before)
    assert not model.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_looking_keeps_nothing_in_memory(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context]
) -> None:
    run = run_of(tiny_config(dropout=0.1))
    model = searched_model(run)
    activations(model, run.data, run.compute)
    weights = [weakref.ref(weight) for weight in model.parameters()]
    del model
    gc.collect()
    assert not any(weight() is not None for weight in weights)


def test_blocks_that_are_computed_again_have_another_peak_if_there_are_blocks() -> None:
    found = Activations(fixed=40.0, row=100.0, fixed_again=10.0, row_again=30.0, blocks=4)
    assert (found.of(2, again=False), found.of(2, again=True)) == (240, 70)
    assert Activations(40.0, 100.0, 10.0, 30.0, blocks=0).of(2, again=True) == 240
