"""The gradient spectrum against the gradients of the weights, computed one by one."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from benchmarks.scores.spectrum import gradient_spectrum
from configs.schema import RunConfig
from engine.answer.head import train_head
from engine.answer.stage import sample_of
from engine.run.context import Context
from tests.helpers.tiny import MEASURED

CASES = {
    "bert": (["bert.encoder.layer.0.attention.self.query", "bert.encoder.layer.1.attention.self.value"], 0),
    # A Conv1D holds its weight as [inputs, outputs]; q, k and v are thirds of its outputs.
    "gpt2": (["transformer.h.0.attn.c_attn.q", "transformer.h.0.attn.c_attn.v"], 1),
}


@pytest.mark.trains
@pytest.mark.parametrize("kind", list(CASES))
def test_it_is_the_largest_singular_value_of_the_mean_gradient(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], kind: str
) -> None:
    names, outputs_at = CASES[kind]
    run = run_of(tiny_config(*MEASURED, "--search.dropout", "false", kind=kind))
    d_tr, d_val = (np.asarray(half) for half in run.halves())
    sample, of_val, rows = sample_of(run, d_tr), sample_of(run, d_val), run.data.train.select(d_tr)
    found = gradient_spectrum(run, rows, sample, of_val, names)
    model, _ = train_head(run, rows, of_val)  # the same training again
    model.requires_grad_(True)
    model.eval()
    batch = run.data.collate(list(rows))
    labels = batch.pop("labels")
    torch.nn.functional.cross_entropy(model(**batch).logits, labels).backward()
    for value, name in zip(found.tolist(), names, strict=True):
        layer, _, part = name.rpartition(".") if kind == "gpt2" else (name, "", "")
        gradient = model.get_submodule(layer).get_parameter("weight").grad
        assert gradient is not None
        if part:
            gradient = gradient.chunk(3, dim=outputs_at)["qkv".index(part)]
        assert value == pytest.approx(float(torch.linalg.svdvals(gradient)[0] ** 2), rel=1e-3)
