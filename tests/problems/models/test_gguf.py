"""A GGUF file as the base: its weights, its tokenizer, and what an adapter of it says about loading."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from autolora.configs.parser import parse
from autolora.configs.training import ModelConfig
from autolora.engine.run.interrupt import StopRequest
from autolora.engine.stages import run_stages
from autolora.problems.models.load import load_base, load_tokenizer
from tests.helpers.generation_toys import arguments, make_causal, make_tokenizer, write_e2e
from tests.helpers.gguf_toys import write_gguf


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Any]:
    """The file, and the model and tokenizer in it."""
    tokenizer = make_tokenizer("<s>")
    model = make_causal("llama", len(tokenizer))
    path = tmp_path_factory.mktemp("gguf") / "tiny.Q8_0.gguf"
    write_gguf(path, model, tokenizer)
    return path, model, tokenizer


def test_the_files_model_and_tokenizer_are_those_that_went_in(tiny: tuple[Path, Any, Any]) -> None:
    path, model, tokenizer = tiny
    config = ModelConfig(name=str(path))
    loaded = load_base(config, AutoModelForCausalLM)
    assert loaded.trained_whole == []
    for name, value in model.state_dict().items():
        found = loaded.model.state_dict()[name]
        assert found.dtype == torch.float32
        within = value.abs().max() / 127 if "v_proj" in name else 0.0
        torch.testing.assert_close(found, value, rtol=0, atol=float(within))
    text = "name : The Mill | area : £20-25 café"
    again = load_tokenizer(config)
    assert again(text, add_special_tokens=False)["input_ids"] == tokenizer(text)["input_ids"]
    assert again.decode(tokenizer(text)["input_ids"]) == text
    assert (again.bos_token, again.eos_token) == ("<s>", "<|endoftext|>")


@pytest.mark.trains
def test_the_adapters_card_says_how_the_base_is_loaded(tiny: tuple[Path, Any, Any], tmp_path: Path) -> None:
    data = write_e2e(tmp_path / "data")
    argv = [*arguments(tiny[0], data, tmp_path / "runs", "[q_proj,v_proj]"), "--export.merged", "true"]
    folder = run_stages(parse(argv), StopRequest(), draw=False)
    code = re.search(r"```python\n(.*?)```", (folder.adapter / "README.md").read_text(), re.S)
    assert code is not None
    names: dict[str, Any] = {}
    exec(code[1].replace('adapter = "."', f"adapter = {str(folder.adapter)!r}"), names)
    ids = torch.tensor([[3, 9, 40, 41]])
    merged = AutoModelForCausalLM.from_pretrained(folder.merged).eval()
    with torch.no_grad():
        torch.testing.assert_close(names["model"].eval()(ids).logits, merged(ids).logits, rtol=1e-4, atol=1e-4)
        assert not torch.allclose(merged(ids).logits, tiny[1].eval()(ids).logits, atol=1e-3)
    assert "gguf_file" not in json.loads((folder.merged / "config.json").read_text())
