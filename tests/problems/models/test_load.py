"""Where models come from, and which modules are new in them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BartConfig,
    DebertaV2Config,
    DebertaV2Model,
    T5Config,
)
from transformers.quantizers.quantizers_utils import should_convert_module

from autolora.configs.errors import UserError
from autolora.configs.training import ModelConfig
from autolora.problems.models.load import NOT_IN_4BIT, load_base, load_tokenizer, share_padding
from tests.helpers.generation_toys import make_causal


@pytest.mark.parametrize("load", [load_tokenizer, lambda c: load_base(c, AutoModelForSequenceClassification)])
@pytest.mark.parametrize("name", ["nobody/has-this-model", "{folder}", "{folder}/none"])
def test_a_model_that_cannot_be_had_is_one_line(load: Callable[[ModelConfig], Any], name: str, tmp_path: Path) -> None:
    name = name.format(folder=tmp_path)
    with pytest.raises(UserError, match=r"^--model\.name: cannot load ") as caught:
        load(ModelConfig(name=name))
    line = str(caught.value)
    assert name in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("kind", "new"), [("bert", ["classifier"]), ("roberta", ["classifier"]), ("gpt2", ["score"]), ("llama", ["score"])]
)
def test_the_new_head_is_found(model_folder: Callable[..., Path], kind: str, new: list[str]) -> None:
    base = load_base(ModelConfig(name=str(model_folder(kind))), AutoModelForSequenceClassification, num_labels=3)
    assert base.trained_whole == new
    assert base.model.num_labels == 3
    assert {str(p.dtype) for p in base.model.parameters()} == {"torch.float32"}


def test_every_module_that_was_made_at_random_is_reported(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    folder = without("pooler.dense.", model_folder("bert"), tmp_path)  # as many sentence encoders
    base = load_base(ModelConfig(name=str(folder)), AutoModelForSequenceClassification, num_labels=2)
    assert base.trained_whole == ["classifier", "pooler"]


@pytest.mark.parametrize(
    ("kind", "part"),
    [("bert", "layer.1.output.dense."), ("llama", "layers.1.mlp.up_proj."), ("gpt2", "h.1.attn.c_attn.")],
)
def test_a_checkpoint_that_lacks_weights_of_a_block_is_incomplete(
    model_folder: Callable[..., Path], tmp_path: Path, kind: str, part: str
) -> None:
    """The whole encoder was trained with them, as new modules are, or LoRA was refused as it lies in such a module."""
    folder = without(part, model_folder(kind), tmp_path)
    with pytest.raises(UserError, match=rf"^--model\.name: .* lacks [12] weights .*, such as .*{part}(weight|bias)"):
        load_base(ModelConfig(name=str(folder)), AutoModelForSequenceClassification, num_labels=2)


def without(part: str, source: Path, target: Path) -> Path:
    """A copy of a saved model without the one or two weights whose names hold `part`."""
    for path in source.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    weights = load_file(source / "model.safetensors")
    kept = {name: value for name, value in weights.items() if part not in name}
    assert len(weights) - len(kept) in (1, 2)
    save_file(kept, target / "model.safetensors", metadata={"format": "pt"})
    return target


def test_the_attention_kernel_is_chosen_for_second_derivatives(model_folder: Callable[..., Path]) -> None:
    config = ModelConfig(name=str(model_folder("bert")))

    def kernel(config: ModelConfig, second_order: bool) -> str:
        model = load_base(config, AutoModelForSequenceClassification, second_order=second_order).model
        return str(model.config._attn_implementation)

    assert kernel(config, False) == "sdpa"
    assert kernel(config, True) == "eager"
    assert kernel(config.model_copy(update={"attention": "eager"}), False) == "eager"


def test_a_tokenizer_without_padding_pads_with_the_end_of_text(
    model_folder: Callable[..., Path], tmp_path: Path
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_folder("gpt2"))
    tokenizer.pad_token = None
    tokenizer.save_pretrained(tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path).pad_token is None
    assert load_tokenizer(ModelConfig(name=str(tmp_path))).pad_token == "</s>"


def test_a_tokenizer_without_an_end_of_text_pads_with_its_unknown_token(
    model_folder: Callable[..., Path], tmp_path: Path
) -> None:
    """GPT and CTRL have no other special token; their classifiers ended in a traceback."""
    tokenizer = AutoTokenizer.from_pretrained(model_folder("gpt2"))
    tokenizer.pad_token = tokenizer.eos_token = None
    tokenizer.save_pretrained(tmp_path)
    assert load_tokenizer(ModelConfig(name=str(tmp_path))).pad_token == "<unk>"
    tokenizer.unk_token = None
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(
        UserError, match=r"^--model\.name: the tokenizer of .* has no token to pad texts with; allowed: "
    ):
        load_tokenizer(ModelConfig(name=str(tmp_path)))


def test_a_decoder_without_padding_classifies_batches(model_folder: Callable[..., Path]) -> None:
    """GPT-2 and Llama as the hub has them know no padding token, and refuse more than one row without it."""
    folder = model_folder("gpt2")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = load_base(ModelConfig(name=str(folder)), AutoModelForSequenceClassification, num_labels=2).model.eval()
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


def test_a_model_without_sdpa_gets_the_kernel_that_it_has(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    DebertaV2Model(DebertaV2Config(vocab_size=50, **sizes)).save_pretrained(tmp_path)
    base = load_base(ModelConfig(name=str(tmp_path)), AutoModelForSequenceClassification, num_labels=2)
    assert base.model.config._attn_implementation == "eager"


@pytest.mark.parametrize(
    ("name", "converted"),
    [
        ("bert.pooler.dense", False),
        ("classifier", False),
        ("classifier.dense", False),
        ("lm_head", False),
        ("bert.encoder.layer.0.attention.self.query", True),
    ],
)
def test_what_may_be_trained_whole_is_not_kept_in_4_bits(name: str, converted: bool) -> None:
    assert should_convert_module(name, NOT_IN_4BIT) == converted


def edited(source: Path, target: Path, **changes: Any) -> Path:
    """A copy of a saved model whose config.json says something else."""
    shutil.copytree(source, target)
    settings = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps(settings | changes))
    return target


@pytest.mark.parametrize(
    ("settings", "method"),
    [
        ({"quant_method": "gptq", "bits": 4}, "gptq"),
        ({"quant_method": "awq", "bits": 4}, "awq"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes"),
        ({"load_in_8bit": True}, "bitsandbytes"),
    ],
)
def test_quantised_weights_are_refused_before_they_are_loaded(
    model_folder: Callable[..., Path], tmp_path: Path, settings: dict[str, Any], method: str
) -> None:
    folder = edited(model_folder("llama"), tmp_path / "base", quantization_config=settings)
    (folder / "model.safetensors").unlink()
    with pytest.raises(
        UserError, match=rf"^--model\.name: .* are quantised \({method}\).*--model\.dtype nf4"
    ) as caught:
        load_base(ModelConfig(name=str(folder)), AutoModelForSequenceClassification, num_labels=2)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("kind", "head"), [("bert", "classifier"), ("roberta", "classifier"), ("gpt2", "score")])
def test_a_head_of_another_number_of_classes_is_made_new_and_trained(
    model_folder: Callable[..., Path], tmp_path: Path, kind: str, head: str
) -> None:
    """As when an NLI model is to learn two classes."""
    three = AutoModelForSequenceClassification.from_pretrained(model_folder(kind), num_labels=3)
    three.save_pretrained(tmp_path)
    base = load_base(ModelConfig(name=str(tmp_path)), AutoModelForSequenceClassification, num_labels=2)
    assert base.trained_whole == [head]
    shapes = {name: tuple(p.shape) for name, p in base.model.named_parameters() if name.startswith(head)}
    assert {shape[0] for shape in shapes.values()} <= {2, 32}
    assert (2, 32) in shapes.values()
    for name, value in three.base_model.state_dict().items():
        assert torch.equal(base.model.base_model.state_dict()[name], value)
    same = load_base(ModelConfig(name=str(tmp_path)), AutoModelForSequenceClassification, num_labels=3)
    assert same.trained_whole == [head]


@pytest.mark.parametrize("config_class", [BartConfig, T5Config])
def test_a_head_is_made_new_where_the_model_does_not_say_its_classes(config_class: Any, tmp_path: Path) -> None:
    """Their classes have no num_labels beside that of config.json: BART for MNLI was taken for a damaged model."""
    sizes = {"d_model": 16, "vocab_size": 40, "pad_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 0}
    config = config_class(**sizes, num_labels=3)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path)
    base = load_base(ModelConfig(name=str(tmp_path)), AutoModelForSequenceClassification, num_labels=2)
    assert base.trained_whole == ["classification_head"]
    assert base.model.classification_head.out_proj.weight.shape == (2, 16)
    same = load_base(ModelConfig(name=str(tmp_path)), AutoModelForSequenceClassification, num_labels=3)
    assert same.trained_whole == ["classification_head"], "a head that came with the weights is trained, too"


@pytest.mark.parametrize(
    ("auto_class", "kind", "changes", "key"),
    [
        (AutoModelForSequenceClassification, "bert", {"intermediate_size": 48}, r"bert\.encoder\.layer\.\d"),
        (AutoModelForSequenceClassification, "llama", {"intermediate_size": 48}, r"model\.layers\.\d"),
        (AutoModelForCausalLM, "gpt2", {"n_positions": 40}, r"transformer\.wpe"),
    ],
)
def test_other_weights_of_the_wrong_size_are_a_damaged_model(
    model_folder: Callable[..., Path], tmp_path: Path, auto_class: Any, kind: str, changes: dict[str, int], key: str
) -> None:
    folder = edited(model_folder(kind), tmp_path / "base", **changes)
    with pytest.raises(UserError, match=rf"^--model\.name: .* its config\.json says: {key}.* has the size ") as caught:
        load_base(ModelConfig(name=str(folder)), auto_class)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", ["wide", None, 32.5])
def test_a_value_of_the_wrong_type_in_config_json_is_one_line(
    model_folder: Callable[..., Path], tmp_path: Path, value: Any
) -> None:
    folder = edited(model_folder("bert"), tmp_path / "base", hidden_size=value)
    for load in (load_tokenizer, lambda config: load_base(config, AutoModelForSequenceClassification, num_labels=2)):
        with pytest.raises(
            UserError, match=r"^--model\.name: cannot load .*Field 'hidden_size' expected int"
        ) as caught:
            load(ModelConfig(name=str(folder)))
        assert "\n" not in str(caught.value)


def test_a_model_that_would_answer_in_tuples_names_its_loss(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    folder = edited(model_folder("bert"), tmp_path / "base", return_dict=False)
    model = load_base(ModelConfig(name=str(folder)), AutoModelForSequenceClassification, num_labels=2).model
    assert model(input_ids=torch.tensor([[1, 5, 2]]), labels=torch.tensor([1])).loss.isfinite()


def test_an_output_layer_of_another_vocabulary_is_no_head_to_be_made_new(tmp_path: Path) -> None:
    """Random numbers there would be trained around, never trained."""
    make_causal("llama", 40).save_pretrained(tmp_path / "whole")
    folder = edited(tmp_path / "whole", tmp_path / "base")
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"] = weights["lm_head.weight"][:38].clone()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"lm_head\.weight has the size \[38, 32\], not \[40, 32\]"):
        load_base(ModelConfig(name=str(folder)), AutoModelForCausalLM)


@pytest.mark.parametrize("cached", [False, True])
def test_a_download_is_told_before_it(
    monkeypatch: pytest.MonkeyPatch, log_lines: list[str], cached: bool, tmp_path: Path
) -> None:
    monkeypatch.setattr("autolora.problems.models.load.constants.HF_HUB_OFFLINE", False)
    found = str(tmp_path / "config.json") if cached else None
    monkeypatch.setattr("autolora.problems.models.load.try_to_load_from_cache", lambda *_, **__: found)
    tokenizer = SimpleNamespace(pad_token="<pad>")
    monkeypatch.setattr("autolora.problems.models.load.AutoTokenizer.from_pretrained", lambda *_, **__: tokenizer)
    load_tokenizer(ModelConfig(name="someone/a-model"))
    load_tokenizer(ModelConfig(name=str(tmp_path)))
    assert [line.partition(" into ")[0] for line in log_lines] == (
        [] if cached else ["INFO downloading someone/a-model from the model hub"]
    )
