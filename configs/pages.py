"""One walk over the settings makes --help, docs/configuration.md and the JSON Schema.

`python -m autolora.configs.pages > docs/configuration.md`; a test fails if the file differs.
"""

import json
from collections.abc import Iterator, Sequence
from itertools import groupby
from textwrap import fill, indent
from typing import NamedTuple

from pydantic_core import PydanticUndefined

from autolora.configs.layers import CHOICES, DEFAULTS, Key, keys
from autolora.configs.schema import RUN
from autolora.configs.study import word
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
_ABOVE = """# Configuration

Every key of a YAML file and of the command line (`--section.key value`). Defaults < files < command
line < a study's cell; `--print_config` shows the result, `--print_schema` the JSON Schema of a
file. A key exists only for the choices that the second column names: on the command line it is
refused with others, from a file it is then left out, and the program says so. `--task text` is
short for `--task.type text`, `--method` chooses a method. Without `--config` the file is
[quickstart.yaml](../configs/quickstart.yaml), whose values stand in place of these defaults.

This page is made from the classes in `configs/`:
`python -m autolora.configs.pages > docs/configuration.md`. `--help` also lists what the command
line takes beside the keys."""
_FIRST = """
    method name seed device model.name model.dtype
    task.type task.path task.format task.validation_path task.test_path task.text_columns
    task.label_column task.kind task.metrics task.max_length task.train_rows
    lora.target_modules lora.k lora.r lora.budget lora.ranks_from
    search.steps search.learning_rate search.selection_learning_rate search.batch_size
    choose.rule choose.budget measure.from
    retrain.epochs retrain.max_steps retrain.learning_rate retrain.batch_size retrain.init
    hypergradient.type export.merged study.axes tracking.wandb
"""
"""The keys that people change most, and so the order of the sections."""


class Entry(NamedTuple):
    """One key as a page shows it. `choices`: those that have it; "" if all have it. `meaning` may
    have more lines."""

    key: str
    choices: str
    allowed: str
    default: str
    meaning: str


def _place(key: str) -> tuple[int, str, int]:
    """Where a key stands: by its section, the section within it, and the key, as in _FIRST."""
    first = _FIRST.split()
    section = key.rpartition(".")[0]
    sections = [known.rpartition(".")[0] for known in first]
    top = section.partition(".")[0]
    place = sections.index(top) if top in sections else len(sections)
    return place, section, first.index(key) if key in first else len(first)


def entries() -> Iterator[Entry]:
    """Every key, section by section; a key whose meaning differs between choices more than once."""
    for key, found in sorted(keys().items(), key=lambda pair: _place(pair[0])):
        if key in CHOICES:
            told = (
                f"{value}: {' '.join(str(kind.__doc__).split())}"
                for value, kind in CHOICES[key].items()
            )
            yield Entry(key, "", "one of these", DEFAULTS[key], "\n".join(told))
            continue
        variants: dict[tuple[str, str, str], list[Key]] = {}
        for one in found:
            default = one.field.get_default(call_default_factory=True)
            variant = (
                takes(one.field.annotation, one.field.metadata),
                "required" if default is PydanticUndefined else word(default),
                " ".join(str(one.field.description or found[0].field.description).split()),
            )
            variants.setdefault(variant, []).append(one)
        for variant, those in variants.items():
            yield Entry(key, _which(those), *variant)


def _which(those: Sequence[Key]) -> str:
    """The choices that have a key, in words; "" if all have it."""
    for choice, values in reversed(CHOICES.items()):
        having = [one.value for one in those if one.choice == choice]
        lacking = [value for value in values if value not in having]
        if having and lacking:
            few = len(lacking) < len(having) / 2
            return (
                f"{choice}: all but {', '.join(lacking)}"
                if few
                else f"{choice} {', '.join(having)}"
            )
    return ""


def _by_section() -> Iterator[tuple[str, Iterator[Entry]]]:
    return groupby(entries(), lambda entry: entry.key.rpartition(".")[0])


def help_text() -> str:
    """The text of --help."""
    lines = [USAGE]
    for section, found in _by_section():
        lines.append(f"\n{section or 'a run'}:")
        for key, choices, allowed, default, meaning in found:
            head = f"--{key} ({default}; {allowed}){f' [{choices}]' if choices else ''}"
            lines.append(
                fill(
                    head, 100, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False
                )
            )
            lines += [
                indent(fill(line, 94, break_on_hyphens=False), "      ")
                for line in meaning.split("\n")
            ]
    return "\n".join(lines)


def markdown() -> str:
    """The text of docs/configuration.md."""
    lines = [_ABOVE]
    for section, found in _by_section():
        lines += [
            f"\n## {f'`{section}`' if section else 'A run'}\n",
            "| key | with | takes | default | meaning |\n|---|---|---|---|---|",
        ]
        for key, choices, allowed, default, meaning in found:
            row = f"`{key}`", choices, allowed, f"`{default}`", meaning.replace("\n", "<br>")
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |")
    return "\n".join(lines) + "\n"


def json_schema() -> str:
    """The JSON Schema of a file of settings, for editors."""
    return json.dumps(RUN.json_schema(), indent=1)


if __name__ == "__main__":
    print(markdown(), end="")
