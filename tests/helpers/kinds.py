"""The kinds of LoRA that are measured and cut, and the adapters that are refused: the cases of the
tests, and the table of docs/adapters.md."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Kind:
    """`fields`: of a LoraConfig. `adapter` and `cut`: what docs/adapters.md says of it."""

    fields: dict[str, Any]
    adapter: str
    cut: str


@dataclass(frozen=True)
class Refused:
    """`reason`: a pattern of the line that refuses it. `adapter` and `instead`: what
    docs/adapters.md says of it."""

    reason: str
    adapter: str
    instead: str


KINDS = {
    "all linear": Kind(
        {"target_modules": "all-linear", "exclude_modules": ["classifier", "score"]},
        "LoRA on linear layers, also GPT-2's `Conv1D`",
        "cut in the balanced basis",
    ),
    "patterns": Kind(
        {"rank_pattern": {r".*\.1\..*": 3}, "alpha_pattern": {r".*\.1\..*": 5}},
        "`rank_pattern`, `alpha_pattern`",
        "every layer keeps its scale",
    ),
    "rslora": Kind(
        {"use_rslora": True}, "rsLoRA", "every layer keeps its scale, written as plain alphas"
    ),
    "dora": Kind(
        {"use_dora": True},
        "DoRA on linear layers",
        "magnitudes stay, and each layer keeps at least rank 1",
    ),
    "embedding": Kind(
        {"embedding": True}, "LoRA on embeddings", "cut in the balanced basis; not with `--padded`"
    ),
    "dora on embedding": Kind(
        {"embedding": True, "use_dora": True}, "DoRA on embeddings", "as DoRA on linear layers"
    ),
    "bias of lora": Kind(
        {"lora_bias": True}, "`lora_bias`", "biases stay, and each layer keeps at least rank 1"
    ),
    "biases": Kind(
        {"bias": "all"},
        "trained biases (`bias`)",
        'they stay; "LoRA off" is without them; in a script they count as a part of the base',
    ),
    "bf16": Kind(
        {},
        "a base in bf16, fp16, or 4 or 8 bits of bitsandbytes (nf4, int8; tried on a CPU alone)",
        "as in fp32, rounded; slopes are those of the dequantised base",
    ),
    "experts": Kind(
        {"target_parameters": ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]},
        "stacked experts (`target_parameters`)",
        "one rank for all experts of a parameter, in the plain basis of each expert",
    ),
}
REFUSED = {
    "starts": Refused(
        "changed the base model; convert it first",
        "PiSSA, CorDA, OLoRA, LoRA-GA, LoftQ as initial values",
        "refused: they changed the base; convert it (`save_pretrained` with "
        "`path_initial_model_for_weight_conversion`)",
    ),
    "adalora": Refused(
        "ADALORA; convert it first",
        "AdaLoRA and other types of PEFT",
        "refused; convert it (`peft.convert_to_lora`)",
    ),
    "alora": Refused("ALoraLinearVariant", "aLoRA and other variants", "refused"),
    "convolution": Refused(r"a convolution \(.*0\)", "LoRA on convolutions", "refused"),
    "attention": Refused("torch's own attention", "LoRA on `nn.MultiheadAttention`", "refused"),
    "several": Refused(
        "1 more are active", "several active adapters", "refused; `set_adapter` one"
    ),
    "merged": Refused("unmerge_adapter", "a merged adapter", "refused; `unmerge_adapter()`"),
    "disabled": Refused(
        "enable_adapter_layers", "a disabled one", "refused; `enable_adapter_layers()`"
    ),
    "translation": Refused(
        "SEQ_2_SEQ_LM", "task types but SEQ_CLS, TOKEN_CLS and CAUSAL_LM", "refused"
    ),
}


def table() -> str:
    """The table of docs/adapters.md."""
    measured = [(kind.adapter, kind.cut) for kind in KINDS.values()]
    refused = [(kind.adapter, kind.instead) for kind in REFUSED.values()]
    rows = [("adapter", "`measure` and `cut`"), ("---", "---"), *measured, *refused]
    return "\n".join(f"| {first} | {second} |" for first, second in rows)


if __name__ == "__main__":
    print(table())
