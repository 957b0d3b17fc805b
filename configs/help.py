"""The first screen of --help: the ways to call the program, and the keys that most runs need."""

from argparse import Action, RawDescriptionHelpFormatter

from jsonargparse import DefaultHelpFormatter

from autolora.configs.files import DEFAULT_CONFIG
from autolora.configs.keys import SWITCHES, known_keys, split_range, words

USAGE = """run.py [--config FILE] [--KEY VALUE ...]         search, retrain, report
       run.py --config FILE --stage verdict             do the places of the ranks matter?
       run.py --show RUN [--for TRAINER]                a finished or running run, or a study
       run.py --score KIND --hyp FILE --ref FILE        official metrics of two files"""

COMMON = {
    "config": "file of settings; a bare name is looked up in configs/ (quickstart.yaml)",
    "name": "the run's folder under runs/; the same command resumes a stopped run",
    "model.name": "base model: hub name, folder, .gguf file, or package:NAME/FOLDER",
    "task.type": "sample, glue, text (a table), tokens, generation or chat",
    "task.path": "your data: a file, a folder or a hub name",
    "lora.target_modules": 'layers with LoRA, such as "[q_proj,v_proj]", or all-linear',
    "answer.budget": "average rank allowed by --answer.rule shares or size",
    "search.steps": "largest number of search steps",
    "retrain.max_steps": "steps of the retraining",
    "method": "autolora, or a control such as lora, lora_shuffled, lora_ranks",
    "seed": "seed of all random draws",
    "stage": "all, search, retrain, report or verdict",
    "overwrite": "replace the results that are in the run's folder",
    "device": "auto, cpu, cuda or mps",
}
"""The keys that a first run may need -> what they are for, in less than a line."""


def description() -> str:
    """What the program does, and its common keys."""
    wide = max(map(len, COMMON))
    keys = "\n".join(f"  --{key:<{wide}}  {text}" for key, text in COMMON.items())
    return (
        "Learn the LoRA rank of each layer (search), retrain at those ranks, export a plain PEFT adapter.\n"
        f"Without --config the values of {DEFAULT_CONFIG} stand in place of the defaults that are shown here.\n\n"
        f"common keys:\n{keys}\n\nAll keys, section by section (docs/configuration.md has them as a table):"
    )


class Formatter(DefaultHelpFormatter, RawDescriptionHelpFormatter):
    """Keeps the line breaks of the description, and says in words for the user what a key allows."""

    def _get_help_string(self, action: Action) -> str:
        said = super()._get_help_string(action).replace("(type: ", "(allowed: ")
        return said.replace("Path to a configuration file.", "YAML file with the keys of this section.")

    def _get_type_str(self, action: Action) -> str | None:
        annotation = {name: kind for name, (kind, _) in SWITCHES.items()} | dict(known_keys())
        if action.dest not in annotation:
            return super()._get_type_str(action)
        kind, limits = split_range(annotation[action.dest])
        if limits and limits.words.startswith("a path"):
            return "a path"
        return limits.words if limits else words(kind)
