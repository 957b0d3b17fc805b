"""Rows and texts beyond a model's positions are refused before the training."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import (
    BartConfig,
    BartForSequenceClassification,
    BertConfig,
    BertModel,
    CTRLConfig,
    CTRLModel,
    GPT2Config,
    GPT2Model,
    GPTJConfig,
    GPTJModel,
    LEDConfig,
    LEDModel,
    LlamaConfig,
    LlamaModel,
    MptConfig,
    MptModel,
    NystromformerConfig,
    NystromformerModel,
    OPTConfig,
    OPTModel,
    RobertaConfig,
    RobertaModel,
    XGLMConfig,
    XGLMModel,
)

from autolora.configs.errors import UserError
from autolora.configs.parser import parse
from autolora.configs.requests import Request
from autolora.configs.schema import Autolora, RunConfig
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import StopRequest
from autolora.engine.stages import run_stages
from autolora.problems.models.positions import most_positions, refuse_long_rows
from autolora.problems.tasks.base import PAD_TO
from tests.helpers.generation_toys import arguments, save_causal, write_e2e

NARROW: dict[str, Any] = {
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 40
}  # fmt: skip
GPT = {"n_embd": 16, "n_layer": 1, "n_head": 2, "vocab_size": 40}
PAIR: dict[str, Any] = {
    "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16,
    "vocab_size": 40, "pad_token_id": 1, "eos_token_id": 2,
}  # fmt: skip

MODELS: dict[str, tuple[Callable[[], Any], int | None]] = {
    "bert": (lambda: BertModel(BertConfig(**NARROW, max_position_embeddings=24)), 24),
    "roberta": (lambda: RobertaModel(RobertaConfig(**NARROW, max_position_embeddings=26, pad_token_id=1)), 24),
    "nystromformer": (lambda: NystromformerModel(NystromformerConfig(**NARROW, max_position_embeddings=24)), 24),
    "gpt2": (lambda: GPT2Model(GPT2Config(**GPT, n_positions=24)), 24),
    "gptj": (lambda: GPTJModel(GPTJConfig(**GPT, n_positions=24, rotary_dim=4)), 24),
    "ctrl": (lambda: CTRLModel(CTRLConfig(**GPT, n_positions=24, dff=16)), 24),
    "opt": (lambda: OPTModel(OPTConfig(**NARROW, ffn_dim=16, word_embed_proj_dim=16, max_position_embeddings=24)), 24),
    "bart": (lambda: BartForSequenceClassification(BartConfig(**PAIR, max_position_embeddings=24)), 24),
    "led": (
        lambda: LEDModel(
            LEDConfig(
                **PAIR,
                max_encoder_position_embeddings=64,
                max_decoder_position_embeddings=24,
                attention_window=[8],
            )
        ),
        24,
    ),
    "mpt": (
        lambda: MptModel(
            MptConfig(d_model=16, n_heads=2, n_layers=1, expansion_ratio=1, vocab_size=40, max_seq_len=24)
        ),
        24,
    ),
    "llama": (lambda: LlamaModel(LlamaConfig(**NARROW, max_position_embeddings=24)), None),
    "xglm": (
        lambda: XGLMModel(
            XGLMConfig(
                d_model=16, ffn_dim=16, num_layers=1, attention_heads=2, vocab_size=40, max_position_embeddings=24
            )
        ),
        None,
    ),
}
# They cut or fill long rows themselves before they look positions up, or take other inputs.
NOT_RUN = {"led", "bart", "nystromformer"}


@pytest.mark.trains
@pytest.mark.parametrize("kind", MODELS)
def test_the_positions_of_a_model_are_those_that_it_runs_on(kind: str) -> None:
    make, most = MODELS[kind]
    model = make().eval()
    assert most_positions(model) == most
    if kind in NOT_RUN:
        return

    def run(length: int) -> None:
        ids = torch.full((1, length), 5)
        with torch.no_grad():
            model(input_ids=ids, attention_mask=torch.ones_like(ids))

    run(24)
    if most is None:
        run(33)
    else:
        with pytest.raises((IndexError, RuntimeError)):
            run(25)


@pytest.mark.trains
@pytest.mark.parametrize(("kind", "most"), [("bert", 80), ("roberta", 79), ("gpt2", 80), ("llama", None)])
def test_a_row_is_refused_before_the_search_as_soon_as_its_batch_would_be_too_long(
    tiny_config: Callable[..., RunConfig], tmp_path: Path, kind: str, most: int | None
) -> None:
    longest = 80 if most is None else most // PAD_TO * PAD_TO
    for tokens, refused in ((longest, False), (longest + 1, most is not None)):
        special = 2  # the tokenizer's <s> and </s>
        rows = [*["good film,good", "bad film,bad"] * 8, f"{'a ' * (tokens - special)},good"]
        (tmp_path / "d.csv").write_text("\n".join(["text,label", *rows]) + "\n")
        more = ["--task.type", "text", "--task.path", str(tmp_path / "d.csv"), "--search.steps", "2"]
        request = Request(tiny_config(*more, "--name", f"n{tokens}", kind=kind), "search", False, "tiny.yaml")
        if not refused:
            run_stages(request, StopRequest(), draw=False)
            continue
        with pytest.raises(UserError, match=rf"^--task\.max_length: 128 .* a row has {tokens} tokens .* takes {most}"):
            run_stages(request, StopRequest())
        assert not (tmp_path / "runs" / f"n{tokens}" / "search").exists()


def test_rows_that_are_only_evaluated_for_their_loss_are_refused_too() -> None:
    model = torch.nn.ModuleDict({"position_embeddings": torch.nn.Embedding(16, 2)})
    model.config = BertConfig(max_position_embeddings=16)  # type: ignore[assignment]
    for longest in (16, 17):
        data = SimpleNamespace(
            train={"length": [3]}, evaluation={"test": {"length": [4]}}, unused={"length": [longest]}
        )
        with nullcontext() if longest == 16 else pytest.raises(UserError, match="a row has 17 tokens"):
            refuse_long_rows(model, data, Autolora())  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_text_that_would_outgrow_the_positions_is_refused_before_the_search(tmp_path: Path) -> None:
    """It failed while decoding, after search and retraining."""
    model, data = save_causal(tmp_path / "model", "gpt2"), write_e2e(tmp_path / "data")
    argv = arguments(model, data, tmp_path / "runs", "[c_attn]")
    with pytest.raises(
        UserError,
        match=r"^--task\.decode\.max_new_tokens: 150 .* takes 160; allowed: prompt and text ",
    ) as caught:
        run_stages(parse([*argv, "--task.decode.max_new_tokens", "150"]), StopRequest())
    assert "\n" not in str(caught.value)
    assert not RunFolder(tmp_path / "runs" / "tiny").search_metrics.exists()
    # One token more than the source leaves was too many; with that many it runs to the end.
    longest = int(str(caught.value).split("a prompt has ")[1].split()[0])
    with pytest.raises(UserError, match=r"--task\.decode\.max_new_tokens"):
        run_stages(parse([*argv, "--task.decode.max_new_tokens", str(161 - longest)]), StopRequest())
    folder = run_stages(parse([*argv, "--task.decode.max_new_tokens", str(160 - longest)]), StopRequest(), draw=False)
    assert folder.metrics.exists()
