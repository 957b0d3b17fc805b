"""What each stage is given and leaves: the sections of its settings, its other inputs, its files.

Read without torch, so that a command knows before anything slow what it may reuse.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autolora.configs.layers import flat, marks
from autolora.configs.locations import from_home, portable_name
from autolora.configs.schema import RunConfig
from autolora.configs.section import EVALUATE, Mark
from autolora.problems.machine.content import base_digest, digest_of

OF_ROWS = (
    "task.path",
    "task.validation_path",
    "task.test_path",
    "task.data_files",
    "task.revision",
    "task.chat_template",
)
OF_BASE = ("model.name", "model.revision")
_NAMES = (*OF_ROWS, *OF_BASE, "task.name", "lora.ranks_from", "measure.from")
"""Keys that name something whose content is compared instead, by its digest; and the name of the
results."""
BASE_MODEL = "base model"
"""The input whose value is the digest of the base model's files."""
ROWS = ("classes", "training rows")
EVALUATED = ("evaluation rows",)


@dataclass(frozen=True)
class StagePlan:
    """What a stage is given, and what it leaves.

    `sections`: of their keys it is given those with one of `marks` (None: without a mark), and the
    keys in `also`. `inputs`: what else it reads. `last`: the file that it writes last. `files`: the
    other files and folders that later stages, pages and loaders read. All files are named as
    RunFolder names them. `grows`: the last file is written again after each trial or pair, so that
    it marks no end.
    """

    sections: Sequence[str]
    inputs: Sequence[str]
    last: str
    marks: Sequence[Mark | None] = (None,)
    also: Sequence[str] = ()
    files: Sequence[str] = ()
    grows: bool = False


_SEARCHED = ("method", "seed", "precision", "model", "task", "lora", "search", "hypergradient")
_TRAINED = ("method", "seed", "precision", "model", "task", "lora", "adapter", "retrain")
_TRAINING_INPUTS = (*ROWS, BASE_MODEL, "ranks", "components")

STAGES: Mapping[str, StagePlan] = {
    "search": StagePlan(
        _SEARCHED,
        (*ROWS, "seed of the rows", BASE_MODEL, "own hypergradient"),
        last="search_summary",
        files=("trajectory", "search_metrics", "search_weights", "search_numbers"),
    ),
    "measure": StagePlan(
        ("measure",),
        (*ROWS, BASE_MODEL, "search"),
        last="measured",
        files=("measurement",),
    ),
    "choose": StagePlan(
        ("choose",),
        ("measurement",),
        last="ranks",
        files=("lora_config",),
    ),
    "grid": StagePlan(
        _TRAINED,
        (*ROWS, BASE_MODEL),
        last="ranks",
        also=("task.metrics",),
        files=("grid_trials", "lora_config"),
    ),
    "sweep": StagePlan(
        _TRAINED,
        _TRAINING_INPUTS,
        last="sweep_trials",
        also=("task.metrics",),
        grows=True,
    ),
    "retrain": StagePlan(
        _TRAINED,
        _TRAINING_INPUTS,
        last="trained",
        files=("ranks", "adapter", "merged", "padded", "retrain_metrics"),
    ),
    "evaluate": StagePlan(
        ("task", "retrain"),
        (*EVALUATED, BASE_MODEL),
        last="metrics",
        marks=(EVALUATE,),
        files=(
            "predictions",
            "predicted_rows",
            "references",
            "written",
            "samples",
            "row_losses",
        ),
    ),
    "probe": StagePlan(
        (*_SEARCHED, "probe"),
        (*ROWS, BASE_MODEL, "own hypergradient"),
        last="probe_result",
    ),
    "verdict": StagePlan(
        ("seed", "precision", "model", "task", "lora", "retrain", "verdict"),
        (*ROWS, *EVALUATED, "ranks"),
        last="verdict_summary",
        grows=True,
    ),
}
"""The stages in their order."""
TRAINING = ("sweep", "retrain", "evaluate")


def settings_of(config: RunConfig, name: str) -> dict[str, Any]:
    """Key -> value of what a stage is given, as JSON values."""
    plan = STAGES[name]
    values = flat(config.model_dump(mode="json"))
    marked = marks(config)
    settings = {}
    for key, value in values.items():
        in_section = key.partition(".")[0] in plan.sections and marked.get(key) in plan.marks
        if key in plan.also or (in_section and key not in _NAMES):
            settings[key] = value
    if name == "measure":  # the budgets of its curve are placed by size, or by shares
        settings["measure.budgets_by"] = "size" if values["choose.rule"] == "size" else "shares"
    if settings.get("retrain.init") not in (None, "scratch", "search"):
        settings["retrain.init"] = "components of another run"
    if ".py:" in str(settings.get("hypergradient.type")):
        settings["hypergradient.type"] = str(settings["hypergradient.type"]).rpartition("/")[2]
    return settings


def names_of(config: RunConfig) -> dict[str, str]:
    """Where rows and base model come from: the digests of what lies on this machine, the names of
    what does not.

    What is finished may be reused without a look at its encoded rows if these are equal. A model of
    the hub has its name, and its digest as soon as it was loaded once.
    """
    values = flat(config.model_dump(mode="json"))
    names = {key: _content(values[key]) for key in OF_ROWS if values.get(key) is not None}
    digest = base_digest(config.model.name, config.model.revision)
    if digest is not None:
        names[BASE_MODEL] = digest
    if digest is None or portable_name(config.model.name):
        names |= {key: str(values[key]) for key in OF_BASE if values.get(key) is not None}
    return names


def _content(value: Any) -> str:
    """The digests of the files to which a key leads; the value itself if it leads to none."""
    path = Path(from_home(str(value)))
    if not path.exists():
        return str(value)
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    return " ".join(digest_of(file) for file in files)
