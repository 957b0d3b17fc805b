"""One walk over the settings makes --help, docs/configuration.md and the JSON Schema.

`python -m autolora.configs.pages > docs/configuration.md`; a test fails if the file differs.
"""

import json
from collections.abc import Iterator, Sequence
from textwrap import fill
from typing import Any, NamedTuple

import yaml
from pydantic_core import PydanticUndefined

from autolora.configs.layers import TAGS, Key, keys
from autolora.configs.schema import RUN
from autolora.configs.words import takes

USAGE = """usage: run.py [--config FILE] [--KEY VALUE ...]         search, retrain, report
       run.py --config FILE --stage verdict             do the places of the ranks matter?
       run.py measure ADAPTER --data FILE               what an adapter is worth on held-out rows
       run.py cut ADAPTER OUT --data FILE --keep 0.99   a smaller one
       run.py --show RUN [--for TRAINER]                a finished or running run, or a study

Learn the LoRA rank of each layer (search), retrain at those ranks, export a plain PEFT adapter.

  --config FILE      file of settings; a bare name is looked up in configs/. Unset: quickstart.yaml
  --stage STAGE      all: search, retrain and report; search (ends with ranks.json), retrain or
                     report: one of them alone; verdict: do the places of the ranks matter?
  --overwrite        run the chosen stages anew; then earlier results become NAME.old-1
                     (search also the retraining). After a stop, the same command resumes.
  --list             of a study: print the commands of the cells that can run now, and run none
  --show RUN         print a run's result and ranks (or its progress so far), or a study's table
  --for TRAINER      with --show: the lines with which peft, trl, axolotl, llama-factory or unsloth
                     trains at the ranks
  --workspace RUN    save a wandb view for the project of a run
  --print_config     print all settings of this command, as a file that --config reads
  --print_schema     print the JSON Schema of the settings, for editors

The keys, section by section, first those that people change most. Behind a key: its default, what
is allowed, and in brackets the choices that have it; on the command line it is refused with others,
and from a file it is then left out. In a file, --lora.k 4 is `lora: {k: 4}`. --task text is short
for --task.type text. The command line wins over files, and files over the defaults."""
_FIRST = """
    method name seed device model.name model.dtype task.type task.path task.glue task.format
    task.validation_path task.test_path task.text_columns task.label_column task.kind task.metrics task.max_length
    task.train_rows lora.target_modules lora.k lora.r lora.budget lora.ranks_from search.steps search.learning_rate
    search.selection_learning_rate search.batch_size answer.rule answer.budget answer.from retrain.epochs
    retrain.max_steps retrain.learning_rate retrain.batch_size retrain.init hypergradient.type export.merged
    study.axes tracking.wandb
"""
"""The keys that people change most, and so the order of the sections."""


class Entry(NamedTuple):
    """One key as a page shows it. `choices`: those that have it; "" if all have it. `meaning` may have more lines."""

    key: str
    choices: str
    allowed: str
    default: str
    meaning: str


def _place(key: str) -> tuple[int, str, int]:
    """Where a key stands: by its section, the section within it, and the key, as in _FIRST."""
    first, section = _FIRST.split(), key.rpartition(".")[0]
    sections = [known.rpartition(".")[0] for known in first]
    top = section.partition(".")[0]
    place = sections.index(top) if top in sections else len(sections)
    return place, section, first.index(key) if key in first else len(first)


def entries() -> Iterator[Entry]:
    """Every key, section by section; a key whose meaning differs between choices more than once."""
    for key, found in sorted(keys().items(), key=lambda pair: _place(pair[0])):
        if key.rpartition(".")[2] in TAGS and len(found) > 1:
            told = {_values(one.choice)[0]: one.owner.__doc__ or "" for one in found}
            default = next(one.field.default for one in found if not one.field.is_required())
            meaning = "\n".join(f"{value}: {' '.join(text.split())}" for value, text in told.items())
            yield Entry(key, "", "one of these", str(default), meaning)
            continue
        variants: dict[tuple[str, str, str], list[Key]] = {}
        for one in found:
            given = one.field.get_default(call_default_factory=True)
            default = "required" if given is PydanticUndefined else _as_yaml(given)
            meaning = " ".join((one.field.description or "").split())
            allowed = takes(one.field.annotation, one.field.metadata)
            variants.setdefault((allowed, default, meaning), []).append(one)
        for (allowed, default, meaning), those in variants.items():
            yield Entry(key, _which([one.choice for one in those if one.choice]), allowed, default, meaning)


def _values(choice: str) -> list[str]:
    """The values in a choice such as "task.type text|chat"."""
    return choice.partition(" ")[2].split("|")


def _which(choices: Sequence[str]) -> str:
    """The choices that have a key, in words; "" if all have it."""
    tag = choices[0].partition(" ")[0] if choices else ""
    values = list(dict.fromkeys(value for choice in choices for value in _values(choice)))
    lacking = {value: None for one in keys().get(tag, ()) for value in _values(one.choice) if value not in values}
    if len(lacking) < len(values) / 2:
        return f"{tag}: all but {', '.join(lacking)}" if lacking else ""
    return f"{tag} {', '.join(values)}"


def _as_yaml(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("...\n").strip()


def help_text() -> str:
    """The text of --help."""
    lines, section = [USAGE], None
    for key, choices, allowed, default, meaning in entries():
        if (now := key.rpartition(".")[0]) != section:
            section = now
            lines.append(f"\n{section or 'a run'}:")
        head = f"--{key} ({default}; {allowed}){f' [{choices}]' if choices else ''}"
        lines += [_wrapped(head, 2, 4), *(_wrapped(line, 6, 6) for line in meaning.split("\n"))]
    return "\n".join(lines)


def _wrapped(text: str, first: int, later: int) -> str:
    """The text in lines of at most 100 letters, indented by so many."""
    return fill(text, 100, initial_indent=" " * first, subsequent_indent=" " * later, break_on_hyphens=False)


def markdown() -> str:
    """The text of docs/configuration.md."""
    lines = ["# Configuration", "", "Every key of a YAML file and of the command line (`--section.key value`). "
             "Defaults < files < command line < a study's cell; `--print_config` shows the result, `--print_schema` "
             "the JSON Schema of a file. A key exists only for the choices that the second column names: on the "
             "command line it is refused with others, from a file it is then left out, and the program says so. "
             "`--task text` is short for `--task.type text`, `--method` chooses a method. Without `--config` the file "
             "is [quickstart.yaml](../configs/quickstart.yaml), whose values stand in place of these defaults.", "",
             "This page is made from the classes in `configs/`: `python -m autolora.configs.pages > "
             "docs/configuration.md`. `--help` also lists what the command line takes beside the keys."]  # fmt: skip
    section = None
    for key, choices, allowed, default, meaning in entries():
        if (now := key.rpartition(".")[0]) != section:
            section = now
            lines += ["", f"## {f'`{section}`' if section else 'A run'}", "",
                      "| key | with | takes | default | meaning |", "|---|---|---|---|---|"]  # fmt: skip
        cells = (f"`{key}`", choices, allowed, f"`{default}`", meaning.replace("\n", "<br>"))
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def json_schema() -> str:
    """The JSON Schema of a file of settings, for editors."""
    return json.dumps(RUN.json_schema(), indent=1)


if __name__ == "__main__":
    print(markdown(), end="")
