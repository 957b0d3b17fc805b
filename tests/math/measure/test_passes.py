"""Passes of rows through a model: statistics in the order of the rows, of each fold by its own cut."""

from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from autolora.engine.measure.gated import Cut
from autolora.engine.measure.likelihood import Categorical
from tests.helpers.branches import gated, passes_of, planted, train


def test_the_rows_of_a_fold_are_measured_with_its_own_cut() -> None:
    model, inputs, labels = planted(branches=2, needed=(0,), rows=30, seed=0)
    train(model, inputs, labels, steps=10)
    found, told, modes = gated(model), list[int](), set[bool]()
    passes = passes_of(inputs, labels, batch=7, advance=told.append)
    folds = np.arange(30) % 3
    masks = [found.even(rank) for rank in (0, 1, 4)]
    model.register_forward_pre_hook(lambda module, _: modes.add(module.training))
    model.train()
    statistics, weights = passes.of_cuts(found, folds, [[Cut(mask) for mask in masks], [Cut(masks[1])] * 3])
    assert sum(told) == 2 * 30
    assert weights.tolist() == [1.0] * 30
    for fold, mask in enumerate(masks):
        for one, own in zip(statistics, (mask, masks[1]), strict=True):
            with torch.no_grad(), found.gates.open(own.float()):
                logits = model(x=inputs[folds == fold]).logits
            expected, _ = passes.likelihood.statistics(logits, labels[folds == fold])
            torch.testing.assert_close(one[folds == fold], expected.double())
    model.train()
    torch.testing.assert_close(passes.statistics(model)[0][folds == 2], statistics[0][folds == 2])
    assert modes == {False}, "dropout is off"


def test_a_batch_has_rows_of_similar_length_the_longest_first() -> None:
    rows = passes_of(torch.zeros(5, 1, 1), torch.zeros(5, dtype=torch.long)).rows
    object.__setattr__(rows, "lengths", np.array([3, 9, 1, 9, 4]))
    assert rows.by_length(np.array([0, 1, 2, 3, 4]), 2) == [[1, 3], [4, 0], [2]]


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
    likelihood = Categorical(shifted=True)
    passes = passes_of(torch.zeros(3, 1, 1), torch.zeros(3, dtype=torch.long), likelihood=likelihood)
    whole = model(**inputs).logits.detach()
    logits, told = passes.labelled_logits(model, inputs, labels)
    assert model.get_base_model().seen == [12, 8], "tokens 4 to 10 tell a label, and one more goes along"
    expected = likelihood.statistics(whole, labels)
    torch.testing.assert_close(likelihood.statistics(logits.detach(), told), expected)
    torch.testing.assert_close(likelihood.loss(logits, told, 2.0), likelihood.loss(whole, labels, 2.0))
    assert likelihood.weights(logits, told).tolist() == [4, 5, 0]
