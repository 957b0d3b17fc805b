"""What a command reads before anything is trained: its task, its tokenizer, its rows, its base."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from autolora.configs.errors import UserError
from autolora.configs.schema import RunConfig, Sources
from autolora.configs.training import LoraSettings
from autolora.problems.machine.compute import Compute
from autolora.problems.machine.processes import ALONE, Processes
from autolora.problems.models.base import BaseOnDisk
from autolora.problems.models.load import load_tokenizer
from autolora.problems.models.precision import weights_dtype
from autolora.problems.rows import Rows, Splits
from autolora.problems.tasks import Task, make_task
from autolora.problems.tasks.base import Trained
from autolora.problems.tasks.chat import Conversations
from autolora.problems.tasks.preparation import prepare
from autolora.problems.tasks.scoring import Scoring, scoring_of


@dataclass(frozen=True)
class Inputs:
    """A task with its tokenizer and its encoded rows."""

    task: Task
    tokenizer: PreTrainedTokenizerBase
    rows: Splits[Rows]
    scoring: Scoring

    @property
    def ends(self) -> list[int]:
        """The tokens that end an answer of a language model; empty for other tasks."""
        return self.task.ends(self.tokenizer) if isinstance(self.task, Conversations) else []

    @property
    def facts(self) -> dict[str, Any]:
        """Class names, and the number and the digest of the training rows, of each evaluation split
        and of the unused rows, as JSON values: they tell whether rows encoded later are the
        same."""
        rows = self.rows
        unused = {} if rows.unused is None else {"unused": _facts(rows.unused)}
        return {
            "classes": list(self.task.classes),
            "training": _facts(rows.train),
            "evaluation": {name: _facts(split) for name, split in rows.evaluation.items()},
            **unused,
        }


def _facts(rows: Rows) -> dict[str, Any]:
    return {"rows": len(rows), "sha256": rows.digest}


def read_inputs(
    sources: Sources,
    processes: Processes = ALONE,
    tokenizer: PreTrainedTokenizerBase | None = None,
    trained: Trained | None = None,
) -> Inputs:
    """Reads and encodes the rows. The first process prepares them, the others find them in the
    cache.

    `tokenizer` None: the base model's. `trained`: the model, if its rows are measured and nothing
    is learned. Raises UserError for rows from which nothing can be learned."""
    task = make_task(sources.task, sources.data_seed, trained)
    if tokenizer is None:
        tokenizer = load_tokenizer(sources.model, **task.tokenizer_options)
    if sources.task.max_length > (most := tokenizer.model_max_length):
        raise UserError(
            f"--task.max_length: {sources.model.name} takes {most} tokens; allowed: a lower value"
        )
    with processes.first_goes_first():
        rows = prepare(task, tokenizer)
    return Inputs(task, tokenizer, rows, scoring_of(task))


def base_of(
    sources: Sources,
    inputs: Inputs,
    compute: Compute,
    *,
    named: bool = False,
    tell: Callable[[str | None], None] = lambda digest: None,
    check: Callable[[], None] = lambda: None,
) -> BaseOnDisk:
    """The base model, not loaded yet. `named`: whether ranks that are there name its layers;
    `tell` and `check`: as in BaseOnDisk."""
    lora: Any = getattr(sources, "lora", None)
    trains_all = isinstance(sources, RunConfig) and sources.trains == "all"
    return BaseOnDisk(
        sources.model,
        inputs.task,
        inputs.tokenizer,
        inputs.rows.train,
        weights_dtype(sources.model, inputs.task.auto_class, compute, trains_all=trains_all),
        compute,
        getattr(lora, "target_modules", None) or [],
        getattr(lora, "modules_to_save", None),
        lora if isinstance(lora, LoraSettings) and not named else None,
        tell,
        check,
    )


def split_of(sources: Sources, rows: Rows) -> tuple[Rows, Rows]:
    """D_tr and D_val, drawn by seed; by `task.split_by`, rows of one input stay together."""
    task = sources.task
    by_input = task.split_by == "source"
    return rows.split(task.validation_share, sources.data_seed, by_input=by_input)


def known_rows(inputs: Inputs) -> Mapping[str, tuple[Any, str]]:
    """The inputs of stages that are known once rows are encoded: name -> value and where it comes
    from."""
    facts = inputs.facts
    rows = inputs.rows
    held_out = {key: facts[key] for key in ("evaluation", "unused") if key in facts}
    names = ", ".join(dict.fromkeys(split.name for split in rows.evaluation.values()))
    return {
        "classes": (facts["classes"], rows.train.name),
        "training rows": (facts["training"], rows.train.name),
        "evaluation rows": (held_out, names),
    }
