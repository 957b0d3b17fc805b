"""adapter/README.md of a language model: the form of its prompt, and lines that load it and write an answer again."""

import json
import re
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from configs.recipe import Decoding, decoding
from configs.schema import RunConfig
from engine.disk.files import read_json, write_text
from engine.export.adapter import ADAPTER_CONFIG
from engine.run.folder import RunFolder
from problems.tasks.causal import Causal
from problems.tasks.templates import template_of

_CARD = """---
library_name: peft
---
A PEFT LoRA adapter of {base} (packages {packages}).

{form}

{shown}These lines write an answer as the run did (greedily or in its beams, with the base in {dtype}){which}:

```python
import torch
from peft import PeftConfig, PeftModel
from transformers import {imports}

adapter = "."  # this folder
settings = PeftConfig.from_pretrained(adapter)
base = AutoModelForCausalLM.from_pretrained(
    settings.base_model_name_or_path,
    revision=settings.revision or "main",
    {loading},
)
model = PeftModel.from_pretrained(base, adapter).eval()
tokenizer = AutoTokenizer.from_pretrained(adapter)

{prompt}
found = model.generate(
    input_ids=ids, attention_mask=torch.ones_like(ids), {settings}
)
answer = found[0, ids.shape[1] :]
print(tokenizer.decode(answer, skip_special_tokens=True))
```
{note}"""
_CHAT = """messages = {messages}
text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]"""
_PLAIN = """source = {source}
ids = tokenizer(source, add_special_tokens=False)["input_ids"]
ids = torch.tensor([[*ids, {separator}]])  # the source, then the beginning of text (its end where there is none)"""
_TEXT = """ids = tokenizer("...", return_tensors="pt")["input_ids"]"""
_N_GRAMS = """
The run also let no {count} tokens in a row come twice in an answer (`decode.no_repeat_ngram_size`). transformers' own
option of that name counts the prompt in, so that it is left out here: texts may differ.
"""
_LONGEST = 2000


def save_card(
    folder: RunFolder, task: Causal, tokenizer: PreTrainedTokenizerBase, config: RunConfig, dtype: torch.dtype
) -> None:
    """adapter/README.md, with a row of predictions.jsonl as its example; to be called when both are there. `dtype`:
    that of the frozen weights."""
    row = _example(folder, config.task.max_length)
    name = str(dtype).removeprefix("torch.")
    settings, file = decoding(config), read_json(folder.adapter / "config.json").get("gguf_file")
    base = read_json(folder.adapter / ADAPTER_CONFIG)["base_model_name_or_path"]
    loading = ["gguf_file=AutoConfig.from_pretrained(adapter).gguf_file"] if file else []
    text = _CARD.format(
        base=f"the GGUF file `{file}` in `{base}`, dequantised when loaded" if file else f"`{base}`",
        packages="peft, transformers, gguf" if file else "peft, transformers",
        imports=f"{'AutoConfig, ' if file else ''}AutoModelForCausalLM, AutoTokenizer",
        form=f"The form of the {task.form(tokenizer)}.",
        shown=f"The prompt of an example, as text:\n\n{_fenced(row['prompt'])}\n\n" if row else "",
        which=f"; of row {row['number']} of the run's predictions.jsonl" if row else "",
        dtype=name,
        loading=",\n    ".join([*loading, f'dtype="{name}"']),
        prompt=_prompt(row, tokenizer),
        settings=_generate(settings, task.ends(tokenizer), tokenizer),
        note=_N_GRAMS.format(count=settings.no_repeat_ngram_size) if settings.no_repeat_ngram_size else "",
    )
    write_text(folder.adapter / "README.md", text)


def _example(folder: RunFolder, most: int) -> dict[str, Any]:
    """The first row of predictions.jsonl that is short enough to be read and was not cut, with its number; else the
    shortest; empty where there is none."""
    if not folder.written.exists():
        return {}
    lines = folder.written.read_text(encoding="utf-8").split("\n")[:-1]
    rows = [json.loads(line) | {"number": number} for number, line in enumerate(lines, 1)]
    short = (row for row in rows if len(row["prompt"]) <= _LONGEST and len(row["prompt_ids"]) < most)
    found: dict[str, Any] = next(short, min(rows, key=lambda row: len(row["prompt_ids"])))
    return found


def _fenced(text: str) -> str:
    """The text as a block of Markdown, whose fence is longer than any in the text."""
    fence = "`" * max(3, 1 + max((len(found) for found in re.findall("`+", text)), default=0))
    return f"{fence}text\n{text}\n{fence}"


def _prompt(row: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> str:
    """The lines that make the prompt of the example."""
    if "source" in row:
        begin = tokenizer.bos_token_id
        separator = "tokenizer.eos_token_id" if begin is None else "tokenizer.bos_token_id"
        return _PLAIN.format(source=repr(row["source"]), separator=separator)
    if not row and template_of(tokenizer) is None:
        return _TEXT
    messages = row.get("messages", [{"role": "user", "content": "..."}])
    return _CHAT.format(messages=repr(messages))


def _generate(settings: Decoding, ends: list[int], tokenizer: PreTrainedTokenizerBase) -> str:
    pad = ends[0] if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    penalty = f", length_penalty={settings.length_penalty:g}" if settings.num_beams > 1 else ""
    return (
        f"do_sample=False, num_beams={settings.num_beams}{penalty}, max_new_tokens={settings.max_new_tokens},\n"
        f"    eos_token_id={ends}, pad_token_id={pad},"
    )
