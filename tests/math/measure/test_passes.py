"""The rows that judge a search: batches that no half shares, and statistics in the order of the rows."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from autolora.engine.measure.likelihood import Categorical
from autolora.engine.measure.passes import LEAST_BATCHES, sources_of
from tests.helpers.branches import planted, sample_of, searched


@pytest.mark.parametrize("rows", [8, 41, 200, 1000])
def test_random_batches_hold_every_row_once_and_never_rows_of_both_halves(rows: int) -> None:
    sample = sample_of(torch.zeros(rows, 1, 1), torch.zeros(rows, dtype=torch.long))
    batches = sample.random_batches(16)
    assert sorted(row for batch in batches for row in batch) == list(range(rows))
    assert len(batches) >= min(LEAST_BATCHES, rows)
    assert max(map(len, batches)) <= 16
    for batch in batches:
        assert len({bool(sample.first_half[row]) for row in batch}) == 1


@pytest.mark.parametrize("sizes", [[1] * 10, [3, 1, 4, 2], [9, 1], [1, 9], [10]])
def test_no_source_has_rows_in_both_halves_and_the_halves_are_as_equal_as_can_be(sizes: list[int]) -> None:
    sample = sample_of(torch.zeros(10, 1, 1), torch.zeros(10, dtype=torch.long))
    names = [f"source {number}" for number, size in enumerate(sizes) for _ in range(size)]
    sample = replace(sample, rows=sample.rows.add_column("source", names))
    halves: dict[str, set[bool]] = {}
    for name, half in zip(names, sample.first_half.tolist(), strict=True):
        halves.setdefault(name, set()).add(half)
    if len(sizes) == 1:  # there is no other way: each row counts as a source
        assert sample.sources.tolist() == list(range(10))
        assert sample.first_half.sum() == 5
        return
    assert all(len(half) == 1 for half in halves.values())
    assert sample.sources.max() + 1 == len(sizes)
    ends = np.cumsum(sizes)[:-1]
    assert abs(sample.first_half.sum() - 5) == np.abs(ends - 5).min()
    for batch in sample.random_batches(4):
        assert len({bool(sample.first_half[row]) for row in batch}) == 1


def test_copies_of_a_text_are_one_source() -> None:
    """Three annotators of each text made errors too small by the root of three, and lay in both halves."""
    sample = sample_of(torch.zeros(9, 1, 1), torch.zeros(9, dtype=torch.long))
    sample = replace(sample, rows=sample.rows.add_column("input_ids", [[number // 3] for number in range(9)]))
    assert sample.sources.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert sample.first_half.sum() in (3, 6)
    assert sources_of(sample.rows, [8, 0, 1, 7]).tolist() == [0, 1, 1, 0]


def test_statistics_are_those_of_the_rows_at_each_point() -> None:
    model, inputs, labels = planted(branches=2, needed=(0,), rows=30, seed=0)
    found = searched(model)
    told: list[int] = []
    sample = sample_of(inputs, labels, batch=7, advance=told.append)
    on, off = found.all(), found.all() & False
    statistics, weights = sample.statistics(model, [found.cut(off), found.cut(on)])
    assert sum(told) == 2 * 30
    assert weights.tolist() == [1.0] * 30
    for place, mask in enumerate((off, on)):
        with torch.no_grad(), found.gates.open(mask.float()):
            logits = model(x=inputs).logits
        expected, _ = sample.likelihood.statistics(logits, labels)
        assert torch.allclose(statistics[place], expected.double(), atol=1e-5)


def test_dropout_is_off_while_rows_are_measured() -> None:
    model, inputs, labels = planted(branches=2, needed=(0,), rows=10, seed=0)
    modes: set[bool] = set()
    model.register_forward_pre_hook(lambda module, _: modes.add(module.training))
    model.train()
    sample_of(inputs, labels).statistics(model)
    assert modes == {False}


def causal(kind: str) -> Any:
    """A tiny random language model with LoRA, whose head knows on how many tokens it was asked."""
    torch.manual_seed(0)
    if kind == "gpt2":
        model: Any = GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=16, n_layer=1, n_head=2, n_positions=32))
    else:
        sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        model = LlamaForCausalLM(LlamaConfig(vocab_size=50, **sizes))
    model.seen = []
    model.lm_head.register_forward_hook(lambda _, inputs, __: model.seen.append(inputs[0].shape[1]))
    return get_peft_model(model, LoraConfig(target_modules=["c_attn" if kind == "gpt2" else "q_proj"])).eval()


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_language_model_gives_no_logits_of_prompts(kind: str) -> None:
    """Prompts of unequal lengths, a row without labels, and a label on the last token."""
    model = causal(kind)
    inputs = {"input_ids": torch.randint(50, (3, 12))}
    labels = torch.full((3, 12), -100)
    labels[0, 5:9], labels[1, 7:12] = inputs["input_ids"][0, 5:9], inputs["input_ids"][1, 7:12]
    sample = sample_of(torch.zeros(3, 1, 1), torch.zeros(3, dtype=torch.long), likelihood=Categorical(shifted=True))
    whole = model(**inputs).logits.detach()
    logits, told = sample.labelled_logits(model, inputs, labels)
    assert model.get_base_model().seen == [12, 8], "tokens 4 to 10 tell a label, and one more goes along"
    for one, other in zip(
        sample.likelihood.statistics(logits.detach(), told), sample.likelihood.statistics(whole, labels), strict=True
    ):
        torch.testing.assert_close(one, other)
    for found, expected in (
        (sample.likelihood.loss(logits, told, 2.0), sample.likelihood.loss(whole, labels, 2.0)),
        (sample.likelihood.weights(logits, told), torch.tensor([4, 5, 0])),
    ):
        torch.testing.assert_close(found, expected)
