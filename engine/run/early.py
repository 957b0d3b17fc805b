"""Refuse missing files, encoders that should write texts, and wrong module names before torch is loaded.

All of this is told as far as reading files can tell it."""

import json
import re
from contextlib import suppress
from pathlib import Path

from autolora.configs.endings import CHATS, OF_FILES, TABLES, TAGGED, ending, refuse_other_ending
from autolora.configs.errors import UserError
from autolora.configs.facts import WITHOUT_HEAD, WITHOUT_LORA
from autolora.configs.own_class import refuse_missing_file
from autolora.configs.places import from_home, is_local
from autolora.configs.ranges import ALL_LINEAR
from autolora.configs.recipe import evaluation_path, evaluation_split, own_data
from autolora.configs.schema import RunConfig
from autolora.engine.run.asked import Asked
from autolora.problems.columns import refuse_missing_columns
from autolora.problems.models.parts import split
from autolora.problems.models.places import locate

_ENDINGS = {"text": TABLES, "generation": TABLES, "tokens": TAGGED, "chat": CHATS}
"""The endings of the files that each type of task reads."""
_SAME_NAMES = {"bert", "distilbert", "electra", "gpt2", "gpt_neox", "llama", "mistral", "qwen2", "qwen3", "roberta"}
"""Model types whose weight files use the module names of the loaded model. For other types transformers may rename
modules while it loads them, so their files do not tell the names."""
_ENCODERS = {
    "albert", "bert", "camembert", "deberta", "deberta-v2", "distilbert", "electra", "modernbert", "mpnet", "roberta",
    "xlm-roberta",
}  # fmt: skip
"""Model types that read texts and write none, unless their config.json has is_decoder."""
_MADE_NEW = {"classifier", "score", "lm_head", "pooler", "pre_classifier"}
"""Modules that a loaded model may have although its file does not hold them."""
_LONGEST = 100_000_000
"""The most bytes of a weight file's header that are read, as a damaged file may claim any length."""


def refuse_missing_files(asked: Asked) -> None:
    """Refuses a run whose file of training rows, of evaluation rows, or of an approximation does not exist or has an
    ending that is not read, or whose table of texts and labels lacks a column."""
    config, task = asked.config, asked.config.task
    searches = config.method == "autolora" and config.answer.from_run is None
    if searches and asked.stage in ("all", "search") and not asked.folder.search_summary.exists():
        refuse_missing_file(config.hypergradient.type, "hypergradient.type")
    if _trains_nothing(asked) or not own_data(task):
        return
    evaluated = evaluation_split(task)
    files = ("--task.path", task.path), (f"--task.{evaluated}_path", evaluation_path(task, evaluated))
    for option, name in files:
        if name is None:
            continue
        path = Path(from_home(name))
        if ending(name) in OF_FILES and not path.exists():
            raise UserError(f"{option}: no file {name!r}")
        # Only task.path may name a folder or a data set of the hub, and only of these types.
        if path.is_file() or option != "--task.path" or task.type not in ("tokens", "chat"):
            refuse_other_ending(option, name, _ENDINGS[task.type])
    if task.type == "text":
        refuse_missing_columns(task)


def refuse_missing_model(asked: Asked) -> None:
    """Refuses a package or folder without a model, an encoder that should write texts, and target modules that a local
    model does not have."""
    config = asked.config
    if _trains_nothing(asked):
        return
    source = locate(config.model.name)
    if Path(source).is_dir() and not (Path(source) / "config.json").exists():  # transformers would blame the tokenizer
        name = config.model.name
        raise UserError(f"--model.name: cannot load {name!r} (the folder has no config.json, so it holds no model)")
    _refuse_encoder(config, Path(source))
    if config.method in WITHOUT_LORA or not is_local(config.model.name):
        return
    names = weights_in(Path(source))
    known = {part for name in names for part in name.split(".")} | _MADE_NEW
    missing = [t for t in config.lora.target_modules if t != ALL_LINEAR and split(t)[0].split(".")[-1] not in known]
    if names and missing:
        no_matrix = re.compile("embed|norm|ln_|wte|wpe", re.IGNORECASE)
        endings = {name.split(".")[-2] for name in names if name.endswith(".weight") and not no_matrix.search(name)}
        raise UserError(
            f"--lora.target_modules: {', '.join(missing)} matches no module of {source}; there are: "
            f"{', '.join(sorted(endings - _MADE_NEW))}"
        )


def _refuse_encoder(config: RunConfig, folder: Path) -> None:
    """Refuses a local encoder for a task that needs a causal model. The default model is one, so that whoever gives
    conversations and no --config gets here."""
    task, found = config.task.type, {}
    if task not in WITHOUT_HEAD:
        return
    with suppress(OSError, ValueError, RecursionError):
        found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if isinstance(found, dict) and found.get("model_type") in _ENCODERS and not found.get("is_decoder"):
        model = "--config chat_smollm2.yaml, or a chat model" if task == "chat" else "a causal model"
        raise UserError(
            f"--model.name: {config.model.name} is an encoder ({found['model_type']}), which writes no texts; for "
            f"--task.type {task} give {model} as --model.name"
        )


def _trains_nothing(asked: Asked) -> bool:
    """Whether the command reads neither rows nor a model: it only draws the report, or the run is finished."""
    return asked.stage == "report" or (asked.folder.metrics.exists() and not asked.overwrite)


def weights_in(folder: Path) -> list[str]:
    """The names of the weights in a model's files; empty if the files cannot be read or may use other names."""
    with suppress(OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        if json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"] not in _SAME_NAMES:
            return []
        index = folder / "model.safetensors.index.json"
        if index.exists():
            return list(json.loads(index.read_text(encoding="utf-8"))["weight_map"])
        with open(folder / "model.safetensors", "rb") as file:
            size = int.from_bytes(file.read(8), "little")  # the length of the JSON header that follows
            return [name for name in json.loads(file.read(min(size, _LONGEST))) if name != "__metadata__"]
    return []
