"""adapter/README.md: the data, the result, the ranks, and how to load the adapter."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peft import TaskType

from autolora.configs.places import portable_name
from autolora.configs.plain import plain
from autolora.configs.schema import RunConfig
from autolora.engine.disk.files import write_text
from autolora.engine.export.lora_config import hub_name
from autolora.engine.ranks import RankRecord
from autolora.engine.ranks.grid import grid_of
from autolora.engine.run.context import Context
from autolora.problems.models.load import GGUF
from autolora.problems.tasks.causal import Causal
from autolora.problems.tasks.label_scale import LabelScale

_CARD = """---
library_name: peft
{metadata}---
# {name}

A PEFT LoRA adapter of {base} (packages {packages}).

{facts}
{form}These lines load it and use it once. A base that is no repository of the hub may lie elsewhere on your machine:

```python
import torch
from peft import PeftConfig, PeftModel
from transformers import AutoConfig, AutoTokenizer, {auto}

adapter = "."  # this folder
settings = PeftConfig.from_pretrained(adapter)
base = {auto}.from_pretrained(
    settings.base_model_name_or_path, revision=settings.revision or "main", config=AutoConfig.from_pretrained(adapter),
    {options},
)
model = PeftModel.from_pretrained(base, adapter).eval()
tokenizer = AutoTokenizer.from_pretrained(adapter)

batch = tokenizer({texts}, return_tensors="pt")
with torch.no_grad():
    print({answer})
```

## Ranks

{ranks}
"""
_TEXT = "tokenizer.decode(model.generate(input_ids=batch.input_ids, max_new_tokens=64)[0])"
_PIPELINES = {
    TaskType.CAUSAL_LM: "text-generation", TaskType.SEQ_CLS: "text-classification",
    TaskType.TOKEN_CLS: "token-classification",
}  # fmt: skip
"""The hub's names for what a model does."""
_LARGEST_FP16 = 65_504


def save_card(run: Context, result: Mapping[str, Any], record: RankRecord) -> None:
    """Writes adapter/README.md, after the other files of the result. `result`: the content of metrics.json."""
    task, config = run.task, run.config
    causal = task if isinstance(task, Causal) else None
    hub, file = hub_name(config.model), config.model.name.endswith(GGUF)
    options = [f'dtype="{str(run.weights_dtype).removeprefix("torch.")}"']
    options += ["gguf_file=AutoConfig.from_pretrained(adapter).gguf_file"] if file else []
    options += [] if causal else ["ignore_mismatched_sizes=True"]  # the head was made for these classes
    text = _CARD.format(
        metadata=_metadata(hub, task.peft_type),
        name=config.name,
        base=_base(config),
        packages="peft, transformers, gguf" if file else "peft, transformers",
        facts=_facts(run, result, record),
        form=f"The form of the {causal.form(run.tokenizer)}.\n\n" if causal else "",
        auto=task.auto_class.__name__,
        options=", ".join(options),
        texts=", ".join(['"..."'] * max(1, len(task.inputs))),
        answer=_TEXT if causal else "model(**batch).logits",
        ranks=_ranks(record),
    )
    write_text(run.folder.adapter / "README.md", text)


def _metadata(hub: str | None, kind: TaskType) -> str:
    """What the hub reads of a card: PEFT writes the tags into its own card, which this one replaces."""
    base = [f"base_model: {hub}"] if hub else []
    tags = [*([f"base_model:adapter:{hub}"] if hub else []), "lora", "transformers"]
    return "\n".join([*base, f"pipeline_tag: {_PIPELINES[kind]}", "tags:", *(f"- {tag}" for tag in tags), ""])


def _base(config: RunConfig) -> str:
    """The base model in words, without a path of this machine."""
    name, model = config.model.name, config.model
    if not name.endswith(GGUF):
        where = f"`{portable_name(name)}`" if portable_name(name) else f"the local folder `{Path(name).name}`"
        return f"{where}, revision `{model.revision}`" if model.revision and hub_name(model) else where
    folder, _, file = name.rpartition("/")
    where = folder if portable_name(name) else Path(folder).name
    return f"the GGUF file `{file}` in `{where or '.'}`, dequantised when loaded"


def _facts(run: Context, result: Mapping[str, Any], record: RankRecord) -> str:
    """Task, data, result and size as a table."""
    config, head = run.config, run.task.head()
    classes = ", ".join(_class_name(str(name)) for name in head.get("id2label", {}).values())
    metrics = ", ".join(f"{name} {value:.4f}" for name, value in result["metrics"].items() if "." not in name)
    loss = "" if result.get("loss") is None else f"; loss {result['loss']:z.4f}"
    dropped = len(record.layers) - len(record.kept)
    ranks = f"mean {record.mean_in_words} over {len(record.layers)} layers"
    ranks += f", {dropped} of them at rank 0" if dropped else ""
    if record.lora_alpha is not None:
        ranks += f"; scale {_scale(record, record.lora_alpha)}"
    rows = {
        "task": f"{run.task.name} ({config.task.type}{f': {classes}' if classes else ''})",
        "data": _data(config),
        "result": f"{metrics} on {result['evaluated_on']}{loss}",
        **_predicts(result.get("label_scale")),
        "method": f"{config.method}, seed {config.seed}",
        "ranks": ranks,
        "size": f"{result['lora_parameters']:,} LoRA parameters, {result['trainable_parameters']:,} trained in all",
        "made with": ", ".join(f"{name} {version}" for name, version in result["versions"].items()),
    }
    lines = [f"| {name} | {_cell(value)} |" for name, value in rows.items()]
    return "\n".join(["| | |", "|---|---|", *lines, ""])


def _class_name(name: str) -> str:
    """The name, in quotes if it has a comma; "<" is escaped, as a page would read a tag."""
    shown = plain(name).replace("<", "&lt;")
    return f'"{shown}"' if "," in shown else shown


def _scale(record: RankRecord, alpha: float) -> str:
    """The scale of the LoRA updates in words."""
    by_rank = {"fixed": "the layer's rank", "rslora": "the square root of the layer's rank"}.get(record.scale or "")
    if by_rank:
        return f"lora_alpha {alpha:g} / {by_rank}"
    divisor = math.sqrt(record.k * record.mean_kept_rank) if record.scale == "mean_rank" else record.k
    return f"{alpha / divisor:.4g} on each component"


def _predicts(scale: Mapping[str, Any] | None) -> dict[str, str]:
    """How to read a prediction that is a number on another scale than the labels, or a large one; empty if there is
    nothing to say."""
    if scale is None:
        return {}
    mean, deviation = scale["mean"], scale["deviation"]
    if scale["in_head"]:
        if abs(mean) + 4 * deviation > _LARGEST_FP16:
            return {"predicts": "the label; load the model in fp32, as fp16 ends at 65,504"}
        if LabelScale(mean, deviation).needs_fp32:
            return {"predicts": "the label; load the model in fp32, as bf16 is too coarse for these numbers"}
        return {}
    return {"predicts": f"(label - {mean:.9g}) / {deviation:.9g}: multiply by {deviation:.9g} and add {mean:.9g}"}


def _data(config: RunConfig) -> str:
    task = config.task
    if task.type == "sample":
        return "sentences that the program makes itself"
    given = task.path or {"glue": "nyu-mll/glue"}.get(task.type)
    if given is None:
        return f"{task.name}, from the hub"
    return given if portable_name(given) else Path(given).name


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _ranks(record: RankRecord) -> str:
    """The rank map as a table: blocks across, projections down; empty where a layer takes no LoRA."""
    grid = grid_of([layer.name for layer in record.layers])
    found = dict(zip(grid.cells, (layer.rank for layer in record.layers), strict=True))
    lines = [f"| | {' | '.join(map(_cell, grid.blocks))} |", f"|---{'|---' * len(grid.blocks)}|"]
    for number, projection in enumerate(grid.projections):
        cells = (str(found.get((block, number), "")) for block in range(len(grid.blocks)))
        lines.append(f"| {_cell(projection)} | {' | '.join(cells)} |")
    return "\n".join(lines)
