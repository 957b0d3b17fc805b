"""Frozen weights in bf16, everything that is trained in fp32, and what is computed with them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, BertConfig, BertModel

from autolora.configs.schema import RunConfig
from autolora.configs.values import with_values
from autolora.engine.answer.stage import answer
from autolora.engine.retrain.stage import retrain
from autolora.engine.run.context import Context
from autolora.engine.search.stage import build_search, search
from autolora.problems.machine.compute import Compute
from autolora.problems.models import precision
from autolora.problems.models.load import BaseModel
from autolora.problems.models.precision import (
    count_parameters,
    train_in_fp32,
    weights_dtype,
    weights_in_fp32,
)
from tests.helpers.four_bits import FourBits

CPU = torch.device("cpu")
BF16 = ("--model.dtype", "bf16")


def config_of(model: Path, **values: Any) -> RunConfig:
    return with_values(RunConfig(name="x"), {"model.name": str(model), **values})


@pytest.mark.parametrize(
    ("values", "kind", "bf16", "expected"),
    [
        ({}, AutoModelForCausalLM, True, torch.bfloat16),
        ({}, AutoModelForCausalLM, False, torch.float32),
        ({}, AutoModelForSequenceClassification, True, torch.float32),
        ({"method": "full"}, AutoModelForCausalLM, True, torch.float32),
        ({"model.load_in_4bit": True}, AutoModelForCausalLM, True, torch.float32),
        ({"model.dtype": "fp32"}, AutoModelForCausalLM, True, torch.float32),
        ({"model.dtype": "bf16"}, AutoModelForSequenceClassification, False, torch.bfloat16),
    ],
)
def test_auto_takes_bf16_for_large_causal_models_where_the_run_computes_in_it(
    model_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch,
    values: dict[str, Any], kind: Any, bf16: bool, expected: torch.dtype,
) -> None:  # fmt: skip
    config = config_of(model_folder("llama"), **values)
    monkeypatch.setattr(precision, "LARGE", count_parameters(config, AutoModelForCausalLM))
    assert weights_dtype(config, kind, Compute(CPU, bf16=bf16)) == expected


def test_auto_keeps_smaller_models_in_fp32(model_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of(model_folder("llama"))
    model = AutoModelForCausalLM.from_pretrained(config.model.name)
    assert count_parameters(config, AutoModelForCausalLM) == sum(p.numel() for p in model.parameters())
    monkeypatch.setattr(precision, "LARGE", count_parameters(config, AutoModelForCausalLM) + 1)
    assert weights_dtype(config, AutoModelForCausalLM, Compute(CPU, bf16=True)) == torch.float32


@pytest.mark.parametrize("kind", ["bert", "roberta", "gpt2", "llama"])
def test_frozen_weights_are_bf16_and_trained_ones_fp32(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], kind: str
) -> None:
    engine = build_search(run_of(tiny_config(*BF16, kind=kind)), second_order=False)
    parameters = [(n, p) for n, p in engine.lora.module.named_parameters() if ".original_module." not in n]
    for name, parameter in parameters:
        assert parameter.dtype == (torch.float32 if parameter.requires_grad else torch.bfloat16), name
    assert any(parameter.requires_grad and ".lora_" not in name for name, parameter in parameters)


@pytest.mark.trains
@pytest.mark.parametrize("compute", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_a_search_with_bf16_weights_is_close_to_that_with_fp32_weights(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], kind: str, compute: str
) -> None:
    """The logits of the same trained numbers: bf16 has 8 bits. A module that is trained whole stands among them."""
    whole = "[pooler]" if kind == "bert" else "[norm]"
    given = ("--precision", compute, "--lora.modules_to_save", whole, "--search.dropout", "false")
    found = []
    for more in ((), BF16):
        engine = build_search(run_of(tiny_config(*given, *more, kind=kind)), second_order=False)
        engine.train()
        with torch.no_grad():
            torch.manual_seed(0)
            for parameter in engine.lora.trained:
                parameter.copy_(0.3 * torch.randn_like(parameter))
        loader = engine.lora.train_data_loader[0]
        batch = loader.collate([loader.rows[i] for i in range(8)])
        with engine.lora.compute.autocast():
            found.append(engine.lora.module(**batch).logits.float())
    assert found[0].abs().max() > 0.1
    torch.testing.assert_close(found[1], found[0], rtol=0.05, atol=0.05 * float(found[0].detach().abs().max()))


def test_products_with_weights_in_4_bits_are_in_fp32_where_nothing_may_round() -> None:
    torch.manual_seed(0)
    rough, exact, inputs = nn.Sequential(FourBits()), FourBits(torch.float32), torch.randn(3, 4)
    before = rough(inputs)
    with weights_in_fp32(rough):
        assert torch.equal(rough(inputs), exact(inputs))
    assert torch.equal(rough(inputs), before)
    assert not torch.equal(before, exact(inputs))
    with pytest.raises(ZeroDivisionError), weights_in_fp32(rough):
        raise ZeroDivisionError
    assert rough[0].compute_dtype == torch.bfloat16


@pytest.mark.trains
def test_without_autocast_a_head_gives_fp32_logits(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context]
) -> None:
    """Evaluation ranks predictions by them, and bf16 has too few numbers for that."""
    run = run_of(tiny_config(*BF16, kind="bert"))
    search(run)
    engine = build_search(run, second_order=False)
    loader = engine.lora.train_data_loader[0]
    batch = loader.collate([loader.rows[i] for i in range(8)])
    logits = engine.lora.module(**batch).logits
    assert logits.dtype == torch.float32
    assert not torch.equal(logits, logits.bfloat16().float())


@pytest.mark.trains
def test_embeddings_that_are_trained_whole_pass_bf16_on_to_the_frozen_blocks(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context]
) -> None:
    """Evaluation runs without autocast, where a block of bf16 weights refuses fp32 inputs: such a retraining had ended
    in an error after its last step. Without tied weights, the embeddings are the first weights of the model."""
    run = run_of(tiny_config(*BF16, "--lora.modules_to_save", "[embed_tokens]", kind="llama"))
    base = run.base().model
    assert base.get_input_embeddings().weight.dtype == torch.float32
    seen = []
    base.model.layers[0].register_forward_pre_hook(lambda block, inputs: seen.append(inputs[0].dtype))
    with torch.no_grad():
        logits = base(input_ids=torch.arange(4)[None]).logits
    assert seen == [torch.bfloat16]
    assert logits.dtype == torch.float32


def layers_in(dtype: torch.dtype) -> Any:
    """A model without a head: its layers stand side by side."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 4)).to(dtype)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_without_a_head_a_layer_in_the_middle_passes_on_what_the_frozen_ones_read(dtype: torch.dtype) -> None:
    """The frozen layer behind it refused fp32 inputs, so that a script's search ended in a traceback."""
    model, inputs = layers_in(dtype), torch.randn(3, 8, dtype=dtype)
    before = model(inputs).float()
    train_in_fp32(BaseModel(model, ["2"]), dtype)
    assert [model[i].weight.dtype for i in (0, 2, 4)] == [dtype, torch.float32, dtype]
    torch.testing.assert_close(model(inputs).float(), before, rtol=0.02, atol=0.02)


def test_without_a_head_the_last_layer_gives_fp32() -> None:
    model = layers_in(torch.bfloat16)
    train_in_fp32(BaseModel(model, ["4"]), torch.bfloat16)
    outputs = model(torch.randn(3, 8, dtype=torch.bfloat16))
    assert not torch.equal(outputs, outputs.bfloat16().float())


@pytest.mark.trains
@pytest.mark.parametrize(
    ("whole", "hidden", "pooled"),
    [("word_embeddings", torch.bfloat16, torch.bfloat16), ("pooler", torch.bfloat16, torch.float32)],
)
def test_a_body_alone_computes_with_a_module_in_fp32(whole: str, hidden: torch.dtype, pooled: torch.dtype) -> None:
    sizes = {"vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    body: Any = BertModel(BertConfig(**sizes, intermediate_size=8)).to(torch.bfloat16)
    train_in_fp32(BaseModel(body, [whole]), torch.bfloat16)
    outputs = body(input_ids=torch.arange(4)[None])
    assert (outputs.last_hidden_state.dtype, outputs.pooler_output.dtype) == (hidden, pooled)


def test_what_is_trained_of_a_float64_model_stays_in_float64() -> None:
    """Nobody asked for fewer digits, and the frozen layers refused what a layer in fp32 passed on."""
    model, inputs = layers_in(torch.float64), torch.randn(3, 8, dtype=torch.float64)
    before = model(inputs)
    train_in_fp32(BaseModel(model, ["2"]), torch.float64)
    assert torch.equal(model(inputs), before)


@pytest.mark.parametrize("output", ["tuple", "dict", "tensor"])
def test_a_module_that_returns_several_tensors_passes_all_on_in_half_precision(output: str) -> None:
    """Attention returns a tuple. Its numbers stayed in fp32, which the frozen layer behind it refuses: a run had ended
    in an error after its retraining."""
    seen: list[torch.dtype] = []

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(8, 8)

        def forward(self, angles: tuple[torch.Tensor, torch.Tensor]) -> Any:
            seen.extend(one.dtype for one in angles)
            hidden, counts = self.linear(angles[0] * angles[1]), torch.arange(3)
            return {"tuple": (hidden, (counts, None)), "dict": {"hidden": hidden}, "tensor": hidden}[output]

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention, self.out = Attention(), nn.Linear(8, 4)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            found = self.attention((inputs, inputs))
            if isinstance(found, tuple):
                assert found[1][0].dtype == torch.int64
                return self.out(found[0])
            return self.out(found["hidden"] if isinstance(found, dict) else found)

    torch.manual_seed(0)
    model, inputs = Block().to(torch.bfloat16), torch.randn(3, 8, dtype=torch.bfloat16)
    before = model(inputs).float()
    seen.clear()
    train_in_fp32(BaseModel(cast(Any, model), ["attention"]), torch.bfloat16)
    torch.testing.assert_close(model(inputs).float(), before, rtol=0.02, atol=0.02)
    assert seen == [torch.float32] * 2, "a module that is trained whole gets all its inputs in fp32"


@pytest.mark.trains
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_a_run_trains_attention_whole_beside_bf16_weights(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], precision: str
) -> None:
    given = ("--lora.target_modules", "[mlp.c_fc]", "--lora.modules_to_save", "[h.1.attn]", "--precision", precision)
    run = run_of(tiny_config(*BF16, *given, kind="gpt2"))
    search(run)
    answer(run)
    retrain(run)
    assert run.folder.metrics.exists()
