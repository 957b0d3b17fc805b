"""A GGUF file as the base, and what an adapter of it says about loading."""

import json
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from autolora.engine.interrupt import StopRequest
from autolora.engine.stages import run_stages
from tests.contract.inputs import E2E, language_arguments
from tests.helpers.chat_toys import run_card
from tests.helpers.command import parse
from tests.helpers.generation_toys import make_causal, make_tokenizer, write_e2e


def write_gguf(path: Path, model: Any, tokenizer: Any) -> None:
    """A tiny Llama in F32, its value projections in Q8_0. The rows of q and k are not exchanged, as
    llama.cpp does, so that what is read is another model."""
    config = model.config
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(256)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    described = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    words = sorted(described["vocab"], key=described["vocab"].get)
    writer.add_token_list(words)
    writer.add_token_types([3 if word.startswith("<") and len(word) > 1 else 1 for word in words])
    writer.add_token_merges([" ".join(pair) for pair in described["merges"]])
    for name in ("bos", "eos"):
        getattr(writer, f"add_{name}_token_id")(getattr(tokenizer, f"{name}_token_id"))
    for name, tensor in model.state_dict().items():
        name = str(names.get_name(name, try_suffixes=(".weight",)))
        if "attn_v" in name:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(name, gguf.quants.quantize(tensor.numpy(), kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, tensor.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.trains
def test_the_adapters_card_says_how_the_base_is_loaded(tmp_path: Path) -> None:
    tokenizer = make_tokenizer("<s>")
    write_gguf(tmp_path / "tiny.Q8_0.gguf", make_causal("llama", len(tokenizer)), tokenizer)
    data = write_e2e(tmp_path / "data")
    more = {**E2E, "export__merged": "true", "method": "lora", "retrain__learning_rate": 3e-2}
    argv = language_arguments(tmp_path / "tiny.Q8_0.gguf", data, tmp_path / "runs", **more)
    folder = run_stages(parse(argv), StopRequest(), draw=False)
    model = run_card(folder.adapter)["model"].eval()
    ids = torch.tensor([[3, 9, 40, 41]])
    merged = AutoModelForCausalLM.from_pretrained(folder.merged).eval()
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits, merged(ids).logits, rtol=1e-4, atol=1e-4)
        with model.disable_adapter():
            assert not torch.allclose(merged(ids).logits, model(ids).logits, atol=1e-3)
    assert AutoTokenizer.from_pretrained(folder.adapter).get_vocab() == tokenizer.get_vocab()
    assert (
        not {"gguf_file", "quantization_config"}
        & json.loads((folder.merged / "config.json").read_text()).keys()
    )
