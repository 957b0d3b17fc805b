"""The Python lines of adapter/README.md: they load base and adapter, on another machine too, and use them once."""

from collections.abc import Mapping
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from autolora.configs.places import PACKAGE, is_local
from autolora.configs.recipe import decoding
from autolora.configs.schema import RunConfig
from autolora.engine.export.packaged import package_lines
from autolora.problems.models.load import NOT_IN_4BIT
from autolora.problems.models.places import GGUF
from autolora.problems.tasks import Task
from autolora.problems.tasks.causal import Causal
from autolora.problems.tasks.split_words import before_words
from autolora.problems.tasks.tagging import Tagging
from autolora.problems.tasks.templates import Template

_LINES = """import torch
{imports}
adapter = "."  # this folder
{where}
base = {auto}.from_pretrained(
    {options},
)
model = PeftModel.from_pretrained(base, adapter).eval()
tokenizer = AutoTokenizer.from_pretrained(adapter{code})

{use}"""
_FOUR_BITS = """quantization_config=BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
        llm_int8_skip_modules={whole},
        # As in the run: bf16 only on a card that multiplies it natively.
        bnb_4bit_compute_dtype=(
            torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
        ),
    )"""
_ON_HUB = "settings = PeftConfig.from_pretrained(adapter)"
_LOCAL = f"{_ON_HUB}  # the base is a local folder; on another machine, give the path that it has there"
_TEXTS = """batch = tokenizer({texts}, truncation=True, max_length={most}, return_tensors="pt")
with torch.no_grad():
    logits = model(**batch).logits
print({answer})"""
_WORDS = """batch = tokenizer(
    [[{words}]], is_split_into_words=True, truncation=True, max_length={most}, return_tensors="pt"
)
with torch.no_grad():
    logits = model(**batch).logits[0]
words = batch.word_ids(0)  # the tag of a word is that of its first token
firsts = [i for i, word in enumerate(words) if word is not None and word not in words[:i]]
print([model.config.id2label[int(logits[i].argmax())] for i in firsts])"""
_GENERATE = """{prompt}
found = model.generate(
    input_ids=ids, attention_mask=torch.ones_like(ids), {settings}
)
answer = found[0, ids.shape[1] :]
print(tokenizer.decode(answer, skip_special_tokens=True))"""
_CHAT = """messages = {messages}
text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]"""
_PLAIN = """source = {source}
ids = tokenizer(source, add_special_tokens=False)["input_ids"]
ids = torch.tensor([[*ids, {separator}]])  # the source, then the token that separates it from the answer"""
_TEXT = """ids = tokenizer("...", return_tensors="pt")["input_ids"]"""


def loading_lines(
    task: Task, tokenizer: PreTrainedTokenizerBase, config: RunConfig, dtype: torch.dtype, row: Mapping[str, Any]
) -> str:
    """The lines, which load the base in `dtype`; `row`: the example from predictions.jsonl, empty if there is none.

    The lines need no path of this machine, unless the base is a local folder.
    """
    packaged, file = config.model.name.startswith(PACKAGE), config.model.name.endswith(GGUF)
    options = ["folder"] if packaged else ["settings.base_model_name_or_path", 'revision=settings.revision or "main"']
    options += ["gguf_file=AutoConfig.from_pretrained(adapter).gguf_file"] if file else []
    if not isinstance(task, Causal):  # its head was made for these classes
        options += ["config=AutoConfig.from_pretrained(adapter)", "ignore_mismatched_sizes=True"]
    options.append(f'dtype="{str(dtype).removeprefix("torch.")}"')
    options += [_FOUR_BITS.format(whole=NOT_IN_4BIT)] if config.model.load_in_4bit else []
    code = ", trust_remote_code=True" if config.model.trust_remote_code else ""
    options = [option.replace("from_pretrained(adapter)", f"from_pretrained(adapter{code})") for option in options]
    options += [code.removeprefix(", ")] if code else []
    auto = task.auto_class.__name__
    classes = [name for name in ("AutoConfig", "BitsAndBytesConfig") if any(name in option for option in options)]
    imports = ["from importlib.util import find_spec", "from pathlib import Path", ""] if packaged else []
    imports.append(f"from peft import {'PeftModel' if packaged else 'PeftConfig, PeftModel'}")
    imports.append(f"from transformers import {', '.join(sorted([*classes, auto, 'AutoTokenizer']))}\n")
    where = package_lines(config.model.name) if packaged else _LOCAL if is_local(config.model.name) else _ON_HUB
    return _LINES.format(
        imports="\n".join(imports),
        where=where,
        auto=auto,
        options=",\n    ".join(options),
        code=code,
        use=_use(task, tokenizer, config, row),
    )


def _use(task: Task, tokenizer: PreTrainedTokenizerBase, config: RunConfig, row: Mapping[str, Any]) -> str:
    """The lines that put one input through the model."""
    if isinstance(task, Causal):
        settings = _generate(task, tokenizer, config)
        return _GENERATE.format(prompt=_prompt(task, row, tokenizer), settings=settings)
    if isinstance(task, Tagging):
        words = ", ".join(f'"{before_words(tokenizer)}{word}"' for word in ("A", "few", "words"))
        return _WORDS.format(words=words, most=config.task.max_length)
    classes = "[model.config.id2label[number] for number in logits.argmax(-1).tolist()]"
    answer = classes if "id2label" in task.head() else "logits.flatten().tolist()"
    texts = ", ".join(['"..."'] * len(task.inputs))
    return _TEXTS.format(texts=texts, most=config.task.max_length, answer=answer)


def _prompt(task: Causal, row: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase) -> str:
    """The lines that make the prompt of the example, or of an unnamed text if there is none."""
    kind = task.kind_of_prompt(tokenizer)
    if kind == "text":
        return _TEXT
    if kind == "separator":
        begin = tokenizer.bos_token_id
        separator = "tokenizer.eos_token_id" if begin is None else "tokenizer.bos_token_id"
        return _PLAIN.format(source=repr(row.get("source", "...")), separator=separator)
    messages = Template(tokenizer).given(row.get("messages", [{"role": "user", "content": "..."}]))
    return _CHAT.format(messages=repr(messages))


def _generate(task: Causal, tokenizer: PreTrainedTokenizerBase, config: RunConfig) -> str:
    """The arguments of `generate` with which the run wrote its answers."""
    settings, ends = decoding(config), task.ends(tokenizer)
    pad = ends[0] if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    penalty = f", length_penalty={settings.length_penalty:g}" if settings.num_beams > 1 else ""
    return (
        f"do_sample=False, num_beams={settings.num_beams}{penalty}, max_new_tokens={settings.max_new_tokens},\n"
        f"    repetition_penalty=1.0, eos_token_id={ends}, pad_token_id={pad},"
    )
