"""Architectures x tasks x kinds of LoRA, as tiny random models: each is measured, cut, and loaded
again by plain PEFT.

Every architecture meets every task it has, every kind of LoRA meets every task, and kinds rotate
over the architectures: all pairs of architecture and kind would be six times as many.
"""

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from torch import Tensor, nn

from autolora.engine.api.adapter import measure_model
from autolora.engine.measure.curve import Folded
from autolora.engine.measure.cut import cut_adapter, save_adapter
from autolora.engine.measure.likelihood import Categorical, Gaussian, Likelihood
from autolora.engine.measure.lora import Cut, Lora, call_with
from autolora.engine.measure.passes import Passes
from autolora.engine.world import World
from autolora.problems.machine.compute import Compute
from autolora.problems.rows import Rows
from tests.helpers.kinds import KINDS
from tests.helpers.untouched import left_as_it_was

pytestmark = pytest.mark.slow
ROWS = 30
TOKENS = 9
VOCABULARY = 64
SMALL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "pad_token_id": 0,
}
DECODER = SMALL | {"num_key_value_heads": 2, "max_position_embeddings": 64}
GPT = {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4, "pad_token_id": 0}
ROPE = DECODER | {"head_dim": 8}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "Llama": DECODER,
    "Mistral": DECODER,
    "Qwen2": DECODER,
    "Qwen3": ROPE,
    "Gemma2": ROPE,
    "Gemma3Text": ROPE,
    "Phi3": DECODER,
    "GPT2": GPT | {"n_positions": 64},
    "GPTJ": GPT | {"rotary_dim": 4, "n_positions": 64},
    "GPTNeoX": SMALL,
    "OPT": SMALL | {"ffn_dim": 48, "word_embed_proj_dim": 32, "max_position_embeddings": 64},
    "Bloom": {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "n_layer": 2,
        "n_head": 4,
        "pad_token_id": 0,
    },
    "Falcon": SMALL,
    "Starcoder2": DECODER,
    "Olmo2": DECODER,
    "Cohere": DECODER,
    "Granite": DECODER,
    "SmolLM3": DECODER,
    "StableLm": DECODER,
    "Glm4": ROPE,
    "Mixtral": DECODER | {"num_local_experts": 3},
    "Qwen3Moe": ROPE | {"num_experts": 3, "num_experts_per_tok": 2, "moe_intermediate_size": 24},
    "Bert": SMALL,
    "Roberta": SMALL | {"max_position_embeddings": 64},
    "DistilBert": {
        "vocab_size": VOCABULARY,
        "dim": 32,
        "hidden_dim": 48,
        "n_layers": 2,
        "n_heads": 4,
    },
    "Electra": SMALL | {"embedding_size": 32},
    "DebertaV2": SMALL,
    "ModernBert": SMALL
    | {"cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1, "eos_token_id": 2},
    "MPNet": SMALL,
    "XLMRoberta": SMALL | {"max_position_embeddings": 64},
    "Albert": SMALL | {"embedding_size": 32},
}
HEADS = {
    "language model": ("ForCausalLM", "LMHeadModel"),
    "classes": ("ForSequenceClassification",),
    "numbers": ("ForSequenceClassification",),
    "tags": ("ForTokenClassification",),
}
TYPES = {
    "language model": TaskType.CAUSAL_LM,
    "classes": TaskType.SEQ_CLS,
    "numbers": TaskType.SEQ_CLS,
    "tags": TaskType.TOKEN_CLS,
}
EXPERTS = ("Mixtral", "Qwen3Moe")


def class_of(architecture: str, task: str) -> Any:
    """The class of transformers, or None."""
    names = (f"{architecture}{end}" for end in HEADS[task])
    return next((getattr(transformers, n) for n in names if hasattr(transformers, n)), None)


def cases() -> Iterator[tuple[str, str, str]]:
    """Architecture, task, kind."""
    kinds = [kind for kind in KINDS if kind != "experts"]
    turn = 0
    for architecture in ARCHITECTURES:
        for task in HEADS:
            own = class_of(architecture, task)
            decoder = class_of(architecture, "language model") is not None
            encoder = architecture in list(ARCHITECTURES)[22:]
            if (
                own is None
                or (task == "language model" and encoder)
                or (task == "numbers" and decoder and not encoder)
            ):
                continue
            if architecture in EXPERTS:
                yield architecture, task, "experts"
            yield architecture, task, kinds[turn % len(kinds)]
            turn += 1


CASES = list(cases())


def model_of(architecture: str, task: str) -> Any:
    """A tiny random model with biases that are not zero."""
    torch.manual_seed(0)
    config_class: Any = getattr(transformers, f"{architecture}Config")
    config = config_class(**ARCHITECTURES[architecture], num_labels=1 if task == "numbers" else 3)
    config.problem_type = "regression" if task == "numbers" else None
    model = class_of(architecture, task)(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("bias"):
                weight.normal_(std=0.1)
    return model


def adapted(base: Any, task: str, kind: str) -> PeftModel:
    """The model with a random adapter of this kind, rank 4."""
    fields = dict(KINDS[kind].fields)
    linear = [
        n
        for n, m in base.named_modules()
        if isinstance(m, nn.Linear | transformers.pytorch_utils.Conv1D)
    ]
    inside = [
        n
        for n in linear
        if any(part.isdigit() for part in n.split(".")) and "gate" not in n.split(".")[-1:]
    ]
    targets = inside[1::2] or inside or linear
    if fields.pop("embedding", False):
        (embedding, *_) = (n for n, m in base.named_modules() if m is base.get_input_embeddings())
        targets = [embedding, *targets[:1]]
    settings = {
        "r": 4,
        "lora_alpha": 8,
        "target_modules": targets,
        "task_type": TYPES[task],
    } | fields
    model: Any = get_peft_model(base, LoraConfig(**settings))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "magnitude" in name:
                weight.mul_(1 + 0.3 * torch.rand_like(weight))
            elif weight.requires_grad and "modules_to_save" not in name:
                weight.add_(0.2 * torch.randn_like(weight))
    return model.to(torch.bfloat16).eval() if kind == "bf16" else model.eval()


def batches_of(task: str) -> list[dict[str, Tensor]]:
    """Rows of unequal lengths with random labels, padded behind."""
    torch.manual_seed(1)
    lengths = torch.randint(3, TOKENS + 1, (ROWS, 1))
    mask = (torch.arange(TOKENS) < lengths).long()
    ids = torch.randint(3, VOCABULARY, (ROWS, TOKENS)) * mask
    labels = {
        "language model": ids.masked_fill(mask == 0, -100),
        "classes": torch.randint(3, (ROWS,)),
        "numbers": torch.randn(ROWS),
        "tags": torch.randint(3, (ROWS, TOKENS)).masked_fill(mask == 0, -100),
    }[task]
    rows = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    return [{name: v[i : i + 8] for name, v in rows.items()} for i in range(0, ROWS, 8)]


def passes_over(batches: list[dict[str, Tensor]], task: str) -> Passes:
    rows = [
        {name: value[row] for name, value in batch.items()}
        for batch in batches
        for row in range(len(batch["labels"]))
    ]

    def collate(some: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        return {name: torch.stack([row[name] for row in some]) for name in some[0]}

    likelihood: Likelihood = (
        Gaussian() if task == "numbers" else Categorical(shifted=task == "language model")
    )
    compute = Compute(torch.device("cpu"), bf16=False)
    return Passes(Rows.of_script(rows, collate, by_text=True), likelihood, compute, batch=8)


def logits(model: Any, batch: dict[str, Tensor]) -> Tensor:
    """Those that tell a label: padding is not compared."""
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    with torch.no_grad():
        found: Tensor = model(**inputs).logits.float()
    return found if found.dim() == 2 else found[inputs["attention_mask"].bool()]


def again(base: Any, folder: Path) -> Any:
    """A fresh base with the cut adapter, by plain PEFT."""
    return PeftModel.from_pretrained(base, folder).eval()


@pytest.mark.parametrize(
    ("architecture", "task", "kind"), CASES, ids=["-".join(c).replace(" ", "_") for c in CASES]
)
def test_any_lora_is_measured_and_cut(
    architecture: str, task: str, kind: str, tmp_path: Path
) -> None:
    fresh = model_of(architecture, task)
    fresh = fresh.to(torch.bfloat16) if kind == "bf16" else fresh
    biases = {name: v.clone() for name, v in fresh.named_parameters() if name.endswith("bias")}
    model = adapted(deepcopy(fresh), task, kind)
    batches = batches_of(task)
    passes = passes_over(batches, task)
    off: dict[str, Tensor] = {}
    if kind == "biases":
        named = (
            (n, n.removeprefix("base_model.model.").replace(".base_layer", ""))
            for n, _ in model.named_parameters()
        )
        off = {name: biases[plain] for name, plain in named if plain in biases}
    torch.manual_seed(7)
    random = torch.get_rng_state()
    with left_as_it_was(model):
        found = measure_model(model, passes, 8, World(passes.compute), off=off)
    assert torch.equal(torch.get_rng_state(), random)

    near: dict[str, Any] = (
        {"rtol": 5e-2, "atol": 5e-2} if kind == "bf16" else {"rtol": 1e-4, "atol": 1e-4}
    )
    lora = Lora(model, "default", off)
    first = batches[0]

    def of_cut(cut: Cut) -> Tensor:
        result: Tensor = call_with(model, lora.overrides(cut), logits, model, first)
        return result

    whole = logits(model, first)
    torch.testing.assert_close(of_cut(lora.whole), whole, **near)
    torch.testing.assert_close(of_cut(lora.nothing), logits(fresh, first), **near)
    assert not torch.allclose(of_cut(lora.nothing), whole, atol=1e-3)

    found.save(tmp_path / "full", rank=lora.k)
    full = again(deepcopy(fresh), tmp_path / "full")
    torch.testing.assert_close(logits(full, first), whole, **near)
    if kind == "experts" and task == "language model":
        said = [
            each.generate(input_ids=first["input_ids"][:, :3], max_new_tokens=6, do_sample=False)
            for each in (full, model)
        ]
        assert torch.equal(*said)
    found.save(tmp_path / "cut", rank=2)
    bases = found.moments.bases(lora)
    cut = again(deepcopy(fresh), tmp_path / "cut")
    torch.testing.assert_close(logits(cut, first), of_cut(Cut(lora.even(2), bases)), **near)

    # by one basis, which no rows choose, the curve says exactly what the written adapter does
    save_adapter(*cut_adapter(lora, lora.plain_bases(), [2] * len(lora.layers)), tmp_path / "plain")
    plain = again(deepcopy(fresh), tmp_path / "plain")
    folded = Folded(lora, passes, passes.rows.folds(5))
    judged = folded.judge([passes.statistics(plain)[0]], passes.statistics(plain)[1])
    point = next(point for point in found.evidence.plain_curve if point.at == 2)
    assert judged.loss == pytest.approx(point.loss, rel=2e-2 if kind == "bf16" else 1e-3)
    counted = sum(
        v.numel()
        for n, v in plain.named_parameters()
        if "lora_A" in n or "lora_B.default.weight" in n or "lora_embedding" in n
    )
    assert counted == point.parameters
