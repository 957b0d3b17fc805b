"""Stock PEFT in, stock PEFT out: a cut that plain PEFT loads computes what the model's first
components compute."""

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AdaLoraConfig, LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import BertConfig, GPT2Config, LlamaConfig
from transformers import BertForSequenceClassification as Bert
from transformers import GPT2LMHeadModel as Gpt2
from transformers import LlamaForCausalLM as Llama

from autolora.configs.errors import UserError
from autolora.engine.measure import cut
from autolora.engine.measure.bases import Basis, balanced_basis, plain_basis
from autolora.engine.measure.cut import adapter_of, cut_adapter, padded, save_adapter
from autolora.engine.measure.lora import Lora
from autolora.problems.models.attach import lora_layers
from tests.helpers.kinds import REFUSED
from tests.helpers.untouched import left_as_it_was

pytestmark = pytest.mark.trains
WIDE: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
IDS = torch.arange(24).view(2, 12)


class Names(nn.Module):
    """Two layers of which one's name ends in the other's."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.ModuleDict({"q": nn.Linear(8, 8)})])
        self.text = nn.ModuleDict(
            {"layers": nn.ModuleList([nn.ModuleDict({"q": nn.Linear(8, 8)})])}
        )

    def forward(self, ids: Tensor) -> Tensor:
        return self.text["layers"][0]["q"](self.layers[0]["q"](ids[:, :8] / 24).relu())


MODELS: dict[str, Callable[[], Any]] = {
    "llama": lambda: Llama(LlamaConfig(**WIDE, intermediate_size=64, num_key_value_heads=1)),
    "gpt2": lambda: Gpt2(GPT2Config(vocab_size=40, n_embd=32, n_layer=2, n_head=2)),
    "bert": lambda: Bert(BertConfig(**WIDE, intermediate_size=64, num_labels=3)),
    "names": Names,
}
ATTENTION = ["q_proj", "v_proj"]
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("llama", {"target_modules": ATTENTION}),
    "rslora": ("llama", {"target_modules": ATTENTION, "use_rslora": True}),
    "patterns": (
        "llama",
        {
            "target_modules": [*ATTENTION, "down_proj"],
            "rank_pattern": {r"layers.1.*\.q_proj": 3, "down_proj": 5},
            "alpha_pattern": {r"layers.1.*\.q_proj": 10, "v_proj": 1},
        },
    ),
    "all-linear": ("llama", {"target_modules": "all-linear", "exclude_modules": ["o_proj"]}),
    "one block": ("llama", {"target_modules": ATTENTION, "layers_to_transform": [1]}),
    "classifier": (
        "bert",
        {"target_modules": ["query", "dense"], "modules_to_save": ["classifier"]},
    ),
    "bf16": ("llama", {"target_modules": ATTENTION}),
    "gpt2": ("gpt2", {"target_modules": ["c_attn", "c_proj"], "fan_in_fan_out": True}),
    "head": ("llama", {"target_modules": [*ATTENTION, "lm_head"]}),
    "names": ("names", {"target_modules": ["q"]}),
}


def base(kind: str) -> Any:
    torch.manual_seed(0)
    return MODELS[kind]().eval()


def adapted(kind: str, **fields: Any) -> PeftModel:
    """A random model with a random LoRA of rank 6."""
    settings = {"r": 6, "lora_alpha": 16, "init_lora_weights": False} | fields
    model = get_peft_model(base(kind), LoraConfig(**settings))
    assert isinstance(model, PeftModel)
    for name, parameter in model.named_parameters():
        if "modules_to_save" in name:
            nn.init.normal_(parameter)
    return model.eval()


def logits(model: Any) -> Tensor:
    with torch.no_grad():
        found = model(IDS)
    return found if isinstance(found, Tensor) else found.logits


def bases_of(model: PeftModel, balanced: bool = True) -> dict[str, Basis]:
    bases = {}
    for name, layer in lora_layers(model, "default").items():
        a = layer.lora_A["default"].weight
        b = layer.lora_B["default"].weight
        h = torch.randn(30, len(a))
        u = torch.randn(30, len(a)) / 100
        bases[name] = balanced_basis(a, b, h.T @ h, u.T @ u) if balanced else plain_basis(a, b)
    return bases


def cut_to(
    model: PeftModel, bases: Mapping[str, Basis], ranks: Mapping[str, int]
) -> tuple[LoraConfig, dict[str, Tensor]]:
    lora = Lora(model)
    return cut_adapter(
        lora, [bases[name] for name in lora.names], [ranks[name] for name in lora.names]
    )


def keep_first(model: PeftModel, bases: Mapping[str, Basis], ranks: Mapping[str, int]) -> None:
    """Writes the bases into the model, with zeros beyond the ranks."""
    for name, layer in lora_layers(model, "default").items():
        a = bases[name].a.clone()
        b = bases[name].b.clone()
        a[ranks[name] :] = 0
        b[:, ranks[name] :] = 0
        layer.lora_A["default"].weight.data.copy_(a)
        layer.lora_B["default"].weight.data.copy_(b)


def in_dtype(model: PeftModel, dtype: torch.dtype) -> dict[str, LoraLayer]:
    """The LoRA layers, with A and B in this dtype: PEFT loads those of bf16 as fp32 unless the base
    is bf16, too."""
    layers = lora_layers(model, "default")
    for layer in layers.values():
        layer.lora_A.to(dtype)
        layer.lora_B.to(dtype)
    return layers


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("ranks", ["even", "uneven", "none in some"])
def test_plain_peft_loads_the_first_components(tmp_path: Path, case: str, ranks: str) -> None:
    kind, fields = CASES[case]
    model = adapted(kind, **fields)
    dtype = torch.bfloat16 if case == "bf16" else torch.float32
    layers = in_dtype(model, dtype)
    bases = bases_of(model, balanced=ranks != "even")
    choices = {"even": [2], "uneven": [1, 3], "none in some": [2, 0, 1]}[ranks]
    chosen = {name: choices[i % len(choices)] for i, name in enumerate(layers)}
    with left_as_it_was(model):
        config, state = cut_to(model, bases, chosen)

    save_adapter(config, state, tmp_path / "cut")
    save_adapter(*padded(config, state), tmp_path / "padded")
    keep_first(model, bases, chosen)
    assert {value.dtype for key, value in state.items() if ".lora_" in key} == {dtype}
    again = PeftModel.from_pretrained(base(kind), tmp_path / "cut").eval()
    found = in_dtype(again, dtype)
    assert {name: layer.r["default"] for name, layer in found.items()} == {
        n: r for n, r in chosen.items() if r
    }
    for name, layer in found.items():
        assert layer.scaling["default"] == pytest.approx(layers[name].scaling["default"], rel=1e-11)
    torch.testing.assert_close(logits(again), logits(model), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(logits(again), logits(base(kind)), atol=1e-3)
    one = PeftModel.from_pretrained(base(kind), tmp_path / "padded").eval()
    assert (
        len(
            {
                (layer.r["default"], layer.lora_alpha["default"])
                for layer in in_dtype(one, dtype).values()
            }
        )
        == 1
    )
    near = 3e-2 if case == "bf16" else 1e-5  # there B is multiplied by the scale, and rounded again
    torch.testing.assert_close(logits(one), logits(model), rtol=near, atol=near)


def test_a_cut_says_no_more_than_it_must(tmp_path: Path) -> None:
    """Short names, whole alphas, and patterns only where a layer differs, as other programs read no
    others."""
    model = adapted(
        "bert",
        target_modules=["query", "dense"],
        modules_to_save=["classifier"],
        init_lora_weights="eva",
    )
    bases = bases_of(model, balanced=False)
    config, state = cut_to(model, bases, dict.fromkeys(bases, 3))
    save_adapter(config, state, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    written = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (written["r"], written["lora_alpha"], written["target_modules"]) == (
        3,
        8,
        ["dense", "query"],
    )
    assert written["rank_pattern"] == written["alpha_pattern"] == {}
    assert written["modules_to_save"] == ["classifier"]
    weights = load_file(tmp_path / "adapter_model.safetensors")
    assert torch.equal(
        weights["base_model.model.classifier.weight"],
        model.state_dict()["base_model.model.classifier.modules_to_save.default.weight"],
    )
    few = dict(zip(bases, [1, 3, 0, *[3] * len(bases)], strict=False))
    config, _ = cut_to(model, bases, few)
    assert config.r == 3
    assert list(config.rank_pattern) == list(config.alpha_pattern) == [next(iter(bases))]
    assert sorted(config.target_modules or []) == sorted(name for name in bases if few[name])


def test_a_write_that_stops_leaves_no_adapter_and_a_cut_to_nothing_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = adapted("llama", target_modules=ATTENTION)
    bases = bases_of(model)
    save_adapter(*cut_to(model, bases, dict.fromkeys(bases, 3)), tmp_path)
    monkeypatch.setattr(cut, "write_json", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save_adapter(*cut_to(model, bases, dict.fromkeys(bases, 1)), tmp_path)
    assert not (tmp_path / "adapter_config.json").exists(), (
        "or the old ranks would stand beside the new weights"
    )
    with pytest.raises(UserError, match="every layer would be cut to rank 0"):
        cut_to(model, bases, dict.fromkeys(bases, 0))


def with_start(start: str) -> PeftModel:
    """An adapter whose initial values PEFT took from the base."""
    model = adapted("llama", target_modules=ATTENTION)
    model.peft_config["default"].init_lora_weights = start  # type: ignore[attr-defined]
    return model


def two_active() -> PeftModel:
    model = adapted("llama", target_modules=ATTENTION)
    model.add_adapter("other", LoraConfig(target_modules=ATTENTION))
    assert adapter_of(model) == "default"
    model.base_model.set_adapter(["default", "other"])  # type: ignore[operator]
    return model


def merged() -> PeftModel:
    model = adapted("llama", target_modules=ATTENTION)
    model.merge_adapter()
    return model


def disabled() -> PeftModel:
    model = adapted("llama", target_modules=ATTENTION)
    model.base_model.disable_adapter_layers()  # type: ignore[operator]
    return model


def on(module: nn.Module) -> Any:
    """LoRA on this module alone."""
    return get_peft_model(nn.Sequential(module), LoraConfig(target_modules=["0"]))  # type: ignore


def on_llama(config: Any) -> Any:
    return get_peft_model(base("llama"), config)


ALORA = LoraConfig(target_modules=ATTENTION, alora_invocation_tokens=[1], task_type="CAUSAL_LM")
MAKERS: dict[str, list[Callable[[], Any]]] = {
    "starts": [partial(with_start, x) for x in ("pissa", "corda", "olora", "lora_ga", "loftq")],
    "adalora": [lambda: on_llama(AdaLoraConfig(target_modules=ATTENTION, total_step=10))],
    "alora": [lambda: on_llama(ALORA)],
    "convolution": [lambda: on(nn.Conv1d(3, 3, 1)), lambda: on(nn.Conv2d(3, 3, 1))],
    "attention": [lambda: on(nn.MultiheadAttention(4, 2))],
    "several": [two_active],
    "merged": [merged],
    "disabled": [disabled],
}


@pytest.mark.parametrize("case", MAKERS)
def test_what_is_not_cut_is_refused_by_name(case: str) -> None:
    for make in MAKERS[case]:
        with pytest.raises(UserError, match=REFUSED[case].reason):
            adapter_of(make())


def test_every_refusal_has_a_case() -> None:
    """The one by the task type is in tests/contract/test_held_out.py."""
    assert {*MAKERS, "translation"} == set(REFUSED)
