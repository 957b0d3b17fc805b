"""Chat templates, real and of our own, and a byte-level tokenizer that knows their tokens."""

import contextlib
import importlib.util
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from autolora.problems.tasks.losses import IGNORED
from tests.helpers.generation_toys import make_tokenizer
from tests.helpers.markdown import blocks, text_of

SPECIAL = [
    "<|im_start|>",
    "<|im_end|>",
    "<|begin_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<bos>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<think>",
    "</think>",
]
TURNS = [
    {"role": "user", "content": "Is The Mill a pub?"},
    {"role": "assistant", "content": "Yes, in the city centre."},
    {"role": "user", "content": "And Aromi?"},
    {"role": "assistant", "content": "Aromi is by the riverside."},
]
SYSTEM = {"role": "system", "content": "Be short."}

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
OURS = {
    "no system turn": "{% if messages[0]['role'] == 'system' %}{{ raise_exception('No "
    "system turn here') }}{% endif %}" + CHATML,
    "stripped spaces": CHATML.replace("m['content']", "m['content'].strip()"),
    "no prompt of its own": "{% for m in messages %}{% if m['role'] == 'user' %}Q: {{ "
    "m['content'] }} A:{% else %} {{ m['content'] }}<|im_end|>{% "
    "endif %}{% endfor %}",
    "marked": "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] "
    "}}<|im_end|>{% endgeneration %}{% else %}{{ m['content'] }}<|im_end|>{% endif "
    "%}{{ '\\n' }}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% endif %}",
    "marked without its end": "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['role'] == 'assistant' %}{% generation %}{{ "
    "m['content'] }}{% endgeneration %}{% else %}{{ m['content'] "
    "}}{% endif %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt "
    "%}<|im_start|>assistant\n"
    "{% endif %}",
}
"""Name -> a template that shows which tokens belong to an answer."""
SILENT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['role'] == 'assistant' and m['content'] != 'silence' %}{% generation %}{{ "
    "m['content'] }}<|im_end|>{% endgeneration %}{% else %}{{ m['content'] }}<|im_end|>{% "
    "endif %}\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% endif %}"
)
"""A template that marks every answer but one that is just the word silence."""
FORGETFUL = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['role'] == 'assistant' and not loop.last %}{{ m['content'].split('</think>')[-1] }}"
    "{% else %}{{ m['content'] }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Takes the thoughts out of all answers but the last."""
PARTS = CHATML.replace(
    "{{ m['content'] }}",
    "{% for part in m['content'] if part['type'] == 'text' %}{{ part['text'] }}{% endfor %}",
)
"""Reads a content as a list of parts, and writes nothing of one that is a text."""
DATED = "{{ 'Today: ' + strftime_now('%d %b %Y') }}\n" + CHATML
"""Prints the day's date."""


def chat_tokenizer(template: str | None = CHATML, bos: str = "<bos>") -> PreTrainedTokenizerFast:
    """Bytes and a few merges, with the special tokens of these templates; its end of text is
    <|endoftext|>."""
    tokenizer = make_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": SPECIAL})
    tokenizer.bos_token = bos
    tokenizer.pad_token = "<|endoftext|>"
    tokenizer.chat_template = template
    return tokenizer


def learned_texts(tokenizer: Any, ids: list[int], labels: list[int]) -> list[str]:
    """The text of each run of labels."""
    runs: list[list[int]] = []
    for before, token, label in zip([IGNORED, *labels], ids, labels, strict=False):
        if label == IGNORED:
            continue
        assert label == token
        if before == IGNORED:
            runs.append([])
        runs[-1].append(token)
    return [tokenizer.decode(run) for run in runs]


def shipped(name: str) -> str | None:
    """A template of trl's; None where trl is not installed."""
    found = importlib.util.find_spec("trl")
    if found is None or not found.submodule_search_locations:
        return None
    path = Path(found.submodule_search_locations[0]) / "chat_templates" / f"{name}.jinja"
    return path.read_text(encoding="utf-8") if path.exists() else None


def run_card(folder: Path) -> dict[str, Any]:
    """The variables after the Python code in folder/README.md has run, unchanged, in that
    folder."""
    (code,) = blocks(text_of(folder / "README.md"), "python")
    names: dict[str, Any] = {}
    with contextlib.chdir(folder):
        exec(code, names)
    return names
