"""The settings of LoRA's GPT-2 recipe for E2E and WebNLG, and the defaults of all other tasks.

A null in `task.label_smoothing` or `decode.*` is replaced here, not by a default of the schema: the recipe's values
must never be the defaults for a user's own table. Source: microsoft/LoRA, examples/NLG.
"""

from dataclasses import dataclass

from autolora.configs.places import short_name
from autolora.configs.schema import DecodeSettings, RunConfig, TaskConfig

BENCHMARKS = ("e2e", "webnlg")


@dataclass(frozen=True)
class Decoding:
    """The settings by which a model writes texts, with every value filled in. The defaults are greedy decoding."""

    num_beams: int = 1
    length_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    max_new_tokens: int = 64
    batch_size: int = 8


_RECIPE = Decoding(num_beams=10, length_penalty=0.8, no_repeat_ngram_size=4)
_SMOOTHING = 0.1
_CHAT_TOKENS = 128


TOKEN_METRICS = ("perplexity", "token_accuracy")
"""Metrics of a language model that are computed without writing texts."""


def plain_name(metric: str) -> str:
    """A metric's name in small letters, with an underscore for a hyphen."""
    return metric.lower().replace("-", "_")


def writes_texts(task: TaskConfig) -> bool:
    """Whether the model writes texts after the training: for metrics of generation, or as samples of chat."""
    if task.type == "generation":
        return task.metrics is None or any(plain_name(name) not in TOKEN_METRICS for name in task.metrics)
    return task.type == "chat" and task.samples > 0


def is_benchmark(task: TaskConfig) -> bool:
    """Whether the task is E2E or WebNLG, to which the recipe belongs."""
    return task.type == "generation" and task.name in BENCHMARKS


def evaluation_split(task: TaskConfig) -> str:
    """The split that metrics.json reports: as configured, else test if there is a file of it, else validation."""
    return task.evaluation_split or ("test" if task.test_path else "validation")


def evaluation_path(task: TaskConfig, split: str) -> str | None:
    """The user's own file with the rows of a split; None if the rows come from elsewhere."""
    return {"validation": task.validation_path, "test": task.test_path}.get(split)


def own_data(task: TaskConfig) -> bool:
    """Whether the rows are the user's own, in task.path: not those of the sample, of GLUE or of a benchmark."""
    return task.type not in ("sample", "glue") and not is_benchmark(task)


def task_name(task: TaskConfig) -> str:
    """What a task is called in results: task.name, else the name of its file without the ending."""
    if task.type == "sample":
        return "sample"
    return task.name or short_name(str(task.path))


def label_smoothing(task: TaskConfig) -> float:
    """The share of label smoothing that training uses: `task.label_smoothing`, or its default if it is null."""
    if task.type == "chat":
        return 0.0
    if task.label_smoothing is not None:
        return task.label_smoothing
    return _SMOOTHING if is_benchmark(task) else 0.0


def decoding(config: RunConfig) -> Decoding:
    """The section `decode` with each null replaced by its default.

    chat decodes greedily, one text at a time, so that anyone can reproduce its samples.
    """
    task, given = config.task, config.decode
    if task.type == "chat":
        return Decoding(max_new_tokens=given.max_new_tokens or _CHAT_TOKENS, batch_size=1)
    return _filled(given, _RECIPE if is_benchmark(task) else Decoding())


def _filled(given: DecodeSettings, other: Decoding) -> Decoding:
    return Decoding(
        other.num_beams if given.num_beams is None else given.num_beams,
        other.length_penalty if given.length_penalty is None else given.length_penalty,
        other.no_repeat_ngram_size if given.no_repeat_ngram_size is None else given.no_repeat_ngram_size,
        given.max_new_tokens or other.max_new_tokens,
        given.batch_size,
    )
