"""adapter/README.md: the data, the result, the ranks, how to load the adapter, and which file each program takes."""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peft import TaskType
from torch import nn
from transformers import PreTrainedTokenizerBase

from autolora.configs.places import portable_name
from autolora.configs.plain import plain
from autolora.configs.recipe import decoding
from autolora.configs.schema import RunConfig
from autolora.engine.disk.files import write_text
from autolora.engine.export.loading import loading_lines
from autolora.engine.export.lora_config import hub_name
from autolora.engine.export.servers import servers
from autolora.engine.ranks import RankRecord
from autolora.engine.ranks.grid import grid_of
from autolora.engine.run.contents import read_predictions
from autolora.engine.run.context import Context
from autolora.engine.run.folder import RunFolder
from autolora.problems.models.places import GGUF
from autolora.problems.models.positions import padding_shifts
from autolora.problems.tasks.causal import Causal
from autolora.problems.tasks.label_scale import LabelScale
from autolora.problems.tasks.padding import for_batches

_CARD = """---
library_name: peft
{metadata}---
# {name}

A PEFT LoRA adapter of {base} (packages {packages}).

{facts}
{form}{shown}These lines {purpose}:

```python
{lines}
```
{note}{padding}{servers}
## Ranks

{ranks}
"""
_N_GRAMS = """
In the run, no sequence of {count} tokens could occur twice in an answer (`decode.no_repeat_ngram_size`). transformers'
option of that name also counts the prompt, so it is not set here, and texts may differ.
"""
_PADDING = """
Pad batches on the right, as the run did (`tokenizer.padding_side = "right"`): the tokenizer pads on the left, where
this model would compute something else for the shorter rows of a batch.
"""
_PIPELINES = {
    TaskType.CAUSAL_LM: "text-generation", TaskType.SEQ_CLS: "text-classification",
    TaskType.TOKEN_CLS: "token-classification",
}  # fmt: skip
"""The hub's names for what a model does."""
_LARGEST_FP16 = 65_504
_LONGEST = 2000
"""A prompt with more letters than this is too long to be the example."""


def save_card(run: Context, result: Mapping[str, Any], record: RankRecord, model: nn.Module) -> None:
    """Writes adapter/README.md, after all other files of the result. `result`: the content of metrics.json; `model`:
    the trained one.

    Its example is a row of predictions.jsonl, if that file exists.
    """
    folder, task, config = run.folder, run.task, run.config
    causal = task if isinstance(task, Causal) else None
    row = _example(folder, config.task.max_length) if causal else {}
    hub, file = hub_name(config.model), config.model.name.endswith(GGUF)
    purpose = "load it and answer once"
    if causal:
        precision = "4 bits" if config.model.load_in_4bit else str(run.weights_dtype).removeprefix("torch.")
        purpose = f"load it, the base in {precision} as in the run, and write a text"
        if row:
            which = f"an answer to line {row['number']} of the run's predictions.jsonl"
            purpose = f"write {which} as the run did (greedily or with its beams, the base in {precision})"
    repeats = decoding(config).no_repeat_ngram_size if causal else 0
    text = _CARD.format(
        metadata=_metadata(hub, task.peft_type),
        name=config.name,
        base=_base(config),
        packages="peft, transformers, gguf" if file else "peft, transformers",
        facts=_facts(run, result, record),
        form=f"The form of the {causal.form(run.tokenizer)}.\n\n" if causal else "",
        shown=f"The prompt of an example, as text:\n\n{_fenced(row['prompt'])}\n\n" if row else "",
        purpose=purpose,
        lines=loading_lines(task, run.tokenizer, config, run.weights_dtype, row),
        note=_N_GRAMS.format(count=repeats) if repeats else "",
        padding="" if causal else padding_words(task.peft_type, run.tokenizer, model),
        servers=servers(run) if causal else "",
        ranks=_ranks(record),
    )
    write_text(folder.adapter / "README.md", text)


def padding_words(kind: TaskType, tokenizer: PreTrainedTokenizerBase, model: nn.Module) -> str:
    """That batches must be padded on the right, where the tokenizer pads on the left and this changes what the model
    computes: it counts positions with the padding, or its head reads the class token, which comes first.

    A model that writes texts needs no such words: its prompts are padded on the left, and transformers then counts
    their positions without the padding."""
    reads_first = kind == TaskType.SEQ_CLS and tokenizer.cls_token_id is not None
    if for_batches(tokenizer) is tokenizer or not (reads_first or padding_shifts(model)):
        return ""
    return _PADDING


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


def _example(folder: RunFolder, most: int) -> dict[str, Any]:
    """A row of predictions.jsonl, with its number counted from 1; empty if there is none.

    It is the first row whose prompt is short enough to read and has fewer than `most` tokens, so that it was not cut
    off; if there is none, the row with the shortest prompt.
    """
    rows = [row | {"number": number} for number, row in enumerate(read_predictions(folder.written), 1)]
    if not rows:
        return {}
    short = (row for row in rows if len(row["prompt"]) <= _LONGEST and len(row["prompt_ids"]) < most)
    found: dict[str, Any] = next(short, min(rows, key=lambda row: len(row["prompt_ids"])))
    return found


def _fenced(text: str) -> str:
    """The text as a block of Markdown, whose fence is longer than any in the text."""
    fence = "`" * max(3, 1 + max((len(found) for found in re.findall("`+", text)), default=0))
    return f"{fence}text\n{text}\n{fence}"
