"""What one command line can ask for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from configs.schema import RunConfig, Stage

ScoreKind = Literal["e2e", "webnlg", "ner"]
Trainer = Literal["peft", "trl", "axolotl", "llama-factory", "unsloth"]


@dataclass(frozen=True)
class Given:
    """Keys on the command line, and keys in the user's own files -> the file.

    A key of a file that has the value of its default is left out: a run's own config.yaml holds every key. A key of
    a shipped configuration is nothing that the user gave.
    """

    command: frozenset[str] = frozenset()
    files: Mapping[str, str] = field(default_factory=dict)

    def where(self, key: str) -> str | None:
        """How a message names the place of a key: "" for the command line; None for a key that was not given."""
        return "" if key in self.command else f"{self.files[key]}: " if key in self.files else None


@dataclass(frozen=True)
class Request:
    """Run stages under a configuration from the file `source`, as the user named it; `overwrite` replaces results.

    `given`: the keys that the user gave, the others being defaults or those of a shipped configuration.
    """

    config: RunConfig
    stage: Stage
    overwrite: bool
    source: str
    given: Given = field(default_factory=Given)


@dataclass(frozen=True)
class ScoreRequest:
    """Compute the official metrics of the files `hyp` (a system's output) and `ref`; run nothing."""

    kind: ScoreKind
    hyp: str
    ref: str
    json: str | None
    metrics: list[str] | None


@dataclass(frozen=True)
class ShowRequest:
    """Print the result and ranks of a run folder as tables, or the lines by which `trainer` trains at its ranks; run
    nothing."""

    folder: str
    trainer: Trainer | None = None


@dataclass(frozen=True)
class WorkspaceRequest:
    """Save a wandb view for the project of a run folder; run nothing."""

    folder: str


Command = Request | ScoreRequest | ShowRequest | WorkspaceRequest
