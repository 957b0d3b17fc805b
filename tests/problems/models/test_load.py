"""Where models come from, and which modules are new in them."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BartConfig,
    T5Config,
    T5ForConditionalGeneration,
)

from autolora.configs.errors import UserError
from autolora.configs.training import ModelConfig
from autolora.problems.models.layers import target_layers
from autolora.problems.models.load import (
    bodies_of,
    load_base,
    load_tokenizer,
    locate,
    share_padding,
)
from tests.helpers.generation_toys import make_causal


def test_a_decoder_without_padding_classifies_batches(
    model_folder: Callable[..., Path], tmp_path: Path
) -> None:
    """GPT-2 and Llama as the hub has them know no padding token, and refuse more than one row
    without it."""
    folder = model_folder("gpt2")
    without = tmp_path / "without"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token = None
    tokenizer.save_pretrained(without)
    tokenizer = load_tokenizer(ModelConfig(name=str(without)))
    model = load_base(
        ModelConfig(name=str(folder)), AutoModelForSequenceClassification, num_labels=2
    ).model.eval()
    model.config.pad_token_id = None
    rows = [tokenizer("the film is dull ."), tokenizer("dull .")]
    batch = dict(tokenizer.pad(rows, return_tensors="pt"))
    with pytest.raises(ValueError, match="padding token"):
        model(**batch)
    share_padding(model, tokenizer)
    with torch.no_grad():
        together = model(**batch).logits
        alone = [model(**{k: torch.tensor([v]) for k, v in row.items()}).logits[0] for row in rows]
    torch.testing.assert_close(together, torch.stack(alone), rtol=1e-4, atol=1e-5)


def test_a_head_is_made_new_where_the_model_does_not_say_its_classes(tmp_path: Path) -> None:
    """As when an NLI model is to learn two classes. BART has no num_labels beside that of
    config.json."""
    sizes = {
        "d_model": 16,
        "vocab_size": 40,
        "pad_token_id": 0,
        "eos_token_id": 2,
        "decoder_start_token_id": 0,
    }
    AutoModelForSequenceClassification.from_config(
        BartConfig(**sizes, num_labels=3)
    ).save_pretrained(tmp_path)
    for classes in (2, 3):  # a head that came with the weights is trained, too
        base = load_base(
            ModelConfig(name=str(tmp_path)), AutoModelForSequenceClassification, num_labels=classes
        )
        assert base.trained_whole == ["classification_head"]
        assert base.model.classification_head.out_proj.weight.shape == (classes, 16)


def test_other_weights_of_the_wrong_size_are_a_damaged_model(
    model_folder: Callable[..., Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(model_folder("bert"), tmp_path / "base")
    settings = (folder / "config.json").read_text()
    (folder / "config.json").write_text(
        settings.replace('"intermediate_size": 64', '"intermediate_size": 48')
    )
    with pytest.raises(
        UserError, match=r"^--model\.name: .*: bert\.encoder\.layer\.\d.* has the size "
    ) as caught:
        load_base(ModelConfig(name=str(folder)), AutoModelForSequenceClassification, num_labels=2)
    assert "\n" not in str(caught.value)


def test_an_output_layer_of_another_vocabulary_is_no_head_to_be_made_new(tmp_path: Path) -> None:
    """Random numbers there would be trained around, never trained."""
    make_causal("llama", 40).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights["lm_head.weight"] = weights["lm_head.weight"][:38].clone()
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"lm_head\.weight has the size \[38, 32\], not \[40, 32\]"):
        load_base(ModelConfig(name=str(tmp_path)), AutoModelForCausalLM)


def test_package_names_become_folders_without_running_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "packed_model"
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('must not run')")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert locate("package:packed_model/model") == str(package / "model")
    assert "packed_model" not in sys.modules
    assert locate("FacebookAI/roberta-base") == "FacebookAI/roberta-base"
    with pytest.raises(
        UserError, match=r"--model\.name: no installed package 'not_installed_at_all'"
    ):
        locate("package:not_installed_at_all/model")


def test_a_model_may_lie_in_the_home_of_the_user_and_is_no_adapter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert locate("~/model") == f"{tmp_path}/model"
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "b"}')
    with pytest.raises(UserError, match=r"^--model\.name: ~ holds an adapter, not a model"):
        locate("~")


def test_encoder_and_decoder_beside_each_other_are_the_body_and_all_linear_takes_both() -> None:
    """T5ForConditionalGeneration names a child that it does not have; LoRA was in the encoder
    alone."""
    sizes = {
        "d_model": 16,
        "d_kv": 8,
        "d_ff": 16,
        "num_layers": 2,
        "num_heads": 2,
        "vocab_size": 32,
    }
    model = T5ForConditionalGeneration(T5Config(**sizes))
    assert bodies_of(model) == ("encoder", "decoder")
    found = target_layers(model, ["all-linear"])
    named = get_peft_model(model, LoraConfig(target_modules="all-linear")).targeted_module_names
    assert sorted(found) == sorted(named)
    assert sum(name.startswith("decoder.") for name in found) == 20
