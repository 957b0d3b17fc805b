"""A stage is a function of its recorded inputs: `<stage>/manifest.json`, written before its first
step, says which.

It holds the settings that the stage is given, digests of what it read, and with what it was made.
Equal manifests give equal results, so that finished work is reused and half-done work goes on;
other work is refused by its first difference. Settings are compared before torch is loaded, rows
once they are encoded, the base model once it is loaded.
"""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from autolora.configs.errors import UserError
from autolora.configs.layers import OF_THRESHOLD, flat, marks
from autolora.configs.locations import from_home
from autolora.configs.schema import RunConfig
from autolora.configs.section import CHOOSE, EVALUATE, MEASURE, Mark
from autolora.configs.study import word
from autolora.engine import ranks
from autolora.engine.disk.files import read_json, write_text
from autolora.engine.ranks.record import BY_HAND
from autolora.engine.run.folder import RunFolder

log = logging.getLogger("autolora")

VERSION = 4
"""Raised when the same settings come to mean another result."""
OF_ROWS = (
    "task.path",
    "task.validation_path",
    "task.test_path",
    "task.data_files",
    "task.revision",
    "task.chat_template",
)
OF_BASE = ("model.name", "model.revision")
_NAMES = (*OF_ROWS, *OF_BASE, "task.name", "lora.ranks_from", "answer.from")
"""Keys that name something whose content is compared instead, by its digest; and the name of the
results."""


class Changed(UserError):
    """What lies in the folder was made from something else. `stage`: the name of the first such
    stage."""

    def __init__(self, stage: str, message: str) -> None:
        super().__init__(stage, message)  # of both: it is sent to other processes
        self.stage = stage
        self.message = message

    def __str__(self) -> str:
        return self.message


class Manifest(BaseModel):
    """manifest.json. `names`: the keys that name rows and base model, with their value, or the
    digest of their file: if these are equal, their content need not be read again to reuse what is
    finished."""

    version: int = VERSION
    settings: dict[str, Any]
    names: dict[str, str] = {}
    inputs: dict[str, Any] = {}
    made: dict[str, Any] = {}


@dataclass(frozen=True)
class Reads:
    """What a stage is given: of these sections and keys those with one of its `marks` (None:
    without a mark), and `also`, without `but`; `inputs`: what else it reads. `last`: the file that
    it writes last; `writes`: all that it writes beside its own folder, as RunFolder names it."""

    keys: Sequence[str]
    inputs: Sequence[str]
    last: str
    marks: Sequence[Mark | None] = (None,)
    also: Sequence[str] = ()
    writes: Sequence[str] = ()


ROWS = ("classes", "training rows")
EVALUATED = ("evaluation rows",)
_TRAINED = ("method", "seed", "precision", "model", "task", "lora", "adapter", "retrain")

STAGES: Mapping[str, Reads] = {
    "search": Reads(
        ("method", "seed", "precision", "model", "task", "lora", "search", "hypergradient"),
        (*ROWS, "seed of the rows", "base model", "own hypergradient"),
        "search_summary",
    ),
    "measure": Reads(("answer",), (*ROWS, "base model", "search"), "measured", (MEASURE,)),
    "choose": Reads(
        ("answer",), ("measurement",), "ranks", (None, CHOOSE), writes=("lora_config", "ranks")
    ),
    "grid": Reads(
        _TRAINED,
        (*ROWS, "base model"),
        "ranks",
        also=("task.metrics",),
        writes=("lora_config", "ranks"),
    ),
    "sweep": Reads(
        _TRAINED,
        (*ROWS, "base model", "ranks", "components"),
        "sweep_trials",
        also=("task.metrics",),
    ),
    "retrain": Reads(
        _TRAINED,
        (*ROWS, "base model", "ranks", "components"),
        "trained",
        writes=("adapter", "merged", "padded", "retrain_metrics"),
    ),
    "evaluate": Reads(
        ("task", "retrain"),
        (*EVALUATED, "base model"),
        "metrics",
        (EVALUATE,),
        writes=(
            "predictions",
            "predicted_rows",
            "references",
            "written",
            "samples",
            "row_losses",
            "metrics",
        ),
    ),
    "probe": Reads(
        (
            "method",
            "seed",
            "precision",
            "model",
            "task",
            "lora",
            "search",
            "hypergradient",
            "probe",
        ),
        (*ROWS, "base model", "own hypergradient"),
        "probe_result",
    ),
    "verdict": Reads(
        ("seed", "precision", "model", "task", "lora", "retrain", "verdict"),
        (*ROWS, *EVALUATED, "ranks"),
        "verdict_summary",
    ),
}
"""The stages in their order."""
TRAINING = ("sweep", "retrain", "evaluate")


def settings_of(config: RunConfig, name: str) -> dict[str, Any]:
    """Key -> value of what a stage is given, as JSON values."""
    reads = STAGES[name]
    values = flat(config.model_dump(mode="json"))
    marked = marks(config)
    found = {
        key: value
        for key, value in values.items()
        if key in reads.also
        or (
            key.partition(".")[0] in reads.keys
            and marked.get(key) in reads.marks
            and key not in _NAMES
        )
    }
    if name == "measure":  # the budgets of its curve are placed by size, or by shares
        found["answer.budgets_by"] = "size" if values["answer.rule"] == "size" else "shares"
    if found.get("retrain.init") not in (None, "scratch", "search"):
        found["retrain.init"] = "components of another run"
    if ".py:" in str(found.get("hypergradient.type")):
        found["hypergradient.type"] = str(found["hypergradient.type"]).rpartition("/")[2]
    return found


def names_of(config: RunConfig) -> dict[str, str]:
    """The keys that name rows and base model: their value, or the digest of the files to which it
    leads."""
    values = flat(config.model_dump(mode="json"))
    return {
        key: _token(key, values[key]) for key in (*OF_ROWS, *OF_BASE) if values.get(key) is not None
    }


def _token(key: str, value: Any) -> str:
    path = Path(from_home(str(value)))
    if key in OF_BASE:  # what it would take to read the weights, their size and time tell
        stats = [file.stat() for file in path.iterdir()] if path.is_dir() else []
        return " ".join([str(value), *sorted(f"{one.st_size}:{one.st_mtime_ns}" for one in stats)])
    if not path.exists():
        return str(value)
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    return " ".join(digest_of(file) for file in files)


def digest_of(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class Stage:
    """A stage of this command, beside what its folder holds of it: `recorded` (None: it has not
    begun).

    `foreign`: the stage of another run, which this one only reads; of its settings only those in
    `settings` count.
    """

    name: str
    folder: RunFolder
    settings: Mapping[str, Any]
    recorded: Manifest | None
    foreign: str = ""

    @classmethod
    def of(cls, name: str, config: RunConfig, folder: RunFolder) -> "Stage":
        """The stage `name` of a run in `folder`."""
        found = read_json(folder.root / name / "manifest.json")
        return cls(
            name,
            folder,
            settings_of(config, name),
            Manifest.model_validate(found) if found else None,
        )

    @property
    def done(self) -> bool:
        """Whether its last file exists and is its own: ranks may also be written by hand."""
        return self.ended and (self.recorded is not None or self.by_hand)

    @property
    def ended(self) -> bool:
        """Whether its last file exists."""
        last: Path = getattr(self.folder, STAGES[self.name].last)
        return last.exists()

    @property
    def by_hand(self) -> bool:
        """Whether the stage would write ranks.json, and a user has written it."""
        return STAGES[self.name].last == "ranks" and ranks.load(self.folder.ranks).rule == BY_HAND

    @property
    def outputs(self) -> list[Path]:
        """What it has written."""
        found = (
            self.folder.root / self.name,
            *(getattr(self.folder, key) for key in STAGES[self.name].writes),
        )
        return [path for path in found if path.exists()]

    def check_settings(self) -> None:
        """Raises Changed if what the folder holds was made with other settings, or by another
        version."""
        if self.recorded is None:
            if self.ended and not self.by_hand and not self.foreign:
                self._refuse("by another method, or by an older version of the program")
            return
        if self.recorded.version != VERSION:
            self._refuse(f"by version {self.recorded.version} of the program, now it is {VERSION}")
        # A search that is done has ended, early or not: another rule may read it.
        left = OF_THRESHOLD if self.name == "search" and self.done else ()
        keys = self.settings if self.foreign else {**self.settings, **self.recorded.settings}
        for key in keys:
            then = self.recorded.settings.get(key)
            now = self.settings.get(key)
            if then != now and key not in left:
                self._refuse(f"with --{key} {word(then)}, now it is {word(now)}")

    def check_input(self, name: str, value: Any, where: str) -> None:
        """Raises Changed if it was made from another input. `where`: the key and the file that hold
        the input."""
        then = self.recorded.inputs if self.recorded and name in STAGES[self.name].inputs else {}
        if then.get(name, value) != value:
            self._refuse(f"from other {name} ({where})")

    def _refuse(self, why: str) -> None:
        how = "was made" if self.ended else "is half done"
        place = f"{self.folder.root / self.name} {how} {why}"
        if self.foreign:
            raise UserError(
                f"--{self.foreign}: {place}; give the old value, or another --{self.foreign}"
            )
        raise Changed(
            self.name,
            f"{place}; give the old value, another --name, or --overwrite, which keeps the old "
            "results",
        )

    def begin(
        self, known: Mapping[str, Any], names: Mapping[str, str], made: Mapping[str, Any]
    ) -> None:
        """Writes the manifest before the first step. Of half-done work it stays, and what it was
        made with is told if it differs now."""
        path = self.folder.root / self.name / "manifest.json"
        if not path.exists():  # a stage may begin several times, as trials do
            inputs = {name: known[name] for name in STAGES[self.name].inputs if name in known}
            found = Manifest(
                settings=dict(self.settings), names=dict(names), inputs=inputs, made=dict(made)
            )
            write_text(path, found.model_dump_json(indent=1) + "\n")
        then = self.recorded.made if self.recorded else {}
        if (
            others := {key: one for key, one in then.items() if made.get(key, one) != one}
        ) and not self.done:
            log.warning(
                "%s: began with %s, so that it ends at other numbers than without the stop",
                self.name,
                others,
            )
