"""adapter/README.md, the model card: the task, the result, the ranks, and how to load the
adapter."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import ModelCard, ModelCardData

from autolora.configs.locations import GGUF, portable_name
from autolora.configs.schema import RunConfig
from autolora.engine.export.lora_config import hub_name
from autolora.engine.inputs import Inputs
from autolora.engine.ranks import RankRecord
from autolora.problems.tasks.chat import Conversations

_CARD = """---
{{ card_data }}
---
# {{ name }}

A PEFT LoRA adapter of `{{ base }}`{{ revision }}.

| | |
|---|---|
{% for key, value in facts.items() -%}
| {{ key }} | {{ value }} |
{% endfor %}
{{ form }}

```python
import torch
from peft import PeftConfig, PeftModel
from transformers import AutoConfig, AutoTokenizer, {{ auto }}

adapter = "."  # this folder
settings = PeftConfig.from_pretrained(adapter)
base = {{ auto }}.from_pretrained(
    settings.base_model_name_or_path, revision=settings.revision or "main", \
config=AutoConfig.from_pretrained(adapter),
    {{ options }},
)
model = PeftModel.from_pretrained(base, adapter).eval()
tokenizer = AutoTokenizer.from_pretrained(adapter)

batch = tokenizer({{ texts }}, return_tensors="pt")
with torch.no_grad():
    print({{ answer }})
```

## Ranks

| layer | rank |
|---|---|
{% for layer, rank in ranks.items() -%}
| {{ layer }} | {{ rank }} |
{% endfor %}"""
_TEXT = "tokenizer.decode(model.generate(input_ids=batch.input_ids, max_new_tokens=64)[0])"


def card_of(
    config: RunConfig,
    inputs: Inputs,
    dtype: torch.dtype,
    result: Mapping[str, Any],
    record: RankRecord,
) -> str:
    """The text of adapter/README.md. `dtype`: of the frozen weights; `result`: the content of
    metrics.json."""
    task = inputs.task
    model = config.model
    hub = hub_name(model)
    causal = task if isinstance(task, Conversations) else None
    options = [f'dtype="{str(dtype).removeprefix("torch.")}"']
    if model.name.endswith(GGUF):
        options.append("gguf_file=AutoConfig.from_pretrained(adapter).gguf_file")
    if causal is None:
        options.append("ignore_mismatched_sizes=True")  # the head was made for these classes
    tags = ["lora", "transformers"]
    if hub:
        tags.insert(0, f"base_model:adapter:{hub}")
    data = ModelCardData(base_model=hub, library_name="peft", tags=tags)
    card = ModelCard.from_template(
        data,
        template_str=_CARD,
        name=config.name,
        facts=_facts(config, result, record),
        ranks=record.ranks,
        # no path of this machine
        base=model.name if portable_name(model.name) else Path(model.name).name,
        revision=f", revision `{model.revision}`" if model.revision and hub else "",
        form=f"The form of the {causal.form(inputs.tokenizer)}." if causal else "",
        auto=task.auto_class.__name__,
        options=", ".join(options),
        texts=", ".join(['"..."'] * max(1, len(task.inputs_of(task.raw.train)))),
        answer=_TEXT if causal else "model(**batch).logits",
    )
    return str(card)


def _facts(config: RunConfig, result: Mapping[str, Any], record: RankRecord) -> dict[str, str]:
    scale = result.get("label_scale")
    metrics = ", ".join(
        f"{name} {value:.4f}" for name, value in result["metrics"].items() if "." not in name
    )
    facts = {
        "task": f"{config.task.result_name} ({config.task.type})",
        "result": f"{metrics} on {result['split']}; loss {result['loss'] or 0:z.4f}",
        "method": f"{config.method}, seed {config.seed}",
        "ranks": f"mean {record.mean_in_words} over {len(record.layers)} layers; scale "
        f"{record.scale}",
        "size": f"{result['lora_parameters']:,} LoRA parameters",
    }
    if scale is not None and scale["in_head"]:
        facts["predicts"] = (
            "the label; load the model in fp32, as half precision may be too coarse for its numbers"
        )
    elif scale is not None:
        facts["predicts"] = f"(label - {scale['mean']:.9g}) / {scale['deviation']:.9g}"
    return facts
