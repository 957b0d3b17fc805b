"""What one command line can ask for."""

from dataclasses import dataclass
from typing import Literal

from configs.schema import RunConfig, Stage

ScoreKind = Literal["e2e", "webnlg", "ner"]


@dataclass(frozen=True)
class Request:
    """Run stages under a configuration from the file `source`, as the user named it; `overwrite` replaces results."""

    config: RunConfig
    stage: Stage
    overwrite: bool
    source: str


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
    """Print the result and ranks of a run folder as tables; run nothing."""

    folder: str


@dataclass(frozen=True)
class WorkspaceRequest:
    """Save a wandb view for the project of a run folder; run nothing."""

    folder: str


Command = Request | ScoreRequest | ShowRequest | WorkspaceRequest
