"""The names of the metrics that each type of task has; problems/tasks and problems/scoring compute them."""

from collections.abc import Iterator

from autolora.configs.errors import refusal
from autolora.configs.glue import OF_NUMBERS
from autolora.configs.recipe import TOKEN_METRICS, is_benchmark, plain_name
from autolora.configs.schema import TaskConfig

OF_CLASSES = ("accuracy", "matthews", "f1_macro")
OF_VALUES = ("spearman", "pearson", "mse")
OF_TAGS = ("f1", "precision", "recall")
OFFICIAL = {
    "e2e": ("BLEU", "NIST", "METEOR", "ROUGE_L", "CIDEr"),
    "webnlg": ("BLEU", "METEOR", "TER"),
}
"""The metrics of the official scripts, in the order in which they are shown."""
OF_OWN_TEXTS = ("exact_match",)
"""Metrics that a user's own table of generation has beside those of E2E."""
ERRORS = {"mse", "ter", "perplexity"}
"""Metrics of which less is better."""


def metrics_of(task: TaskConfig) -> tuple[str, ...]:
    """The metrics that `task.metrics` may name."""
    if task.type == "generation":
        official = map(plain_name, OFFICIAL["webnlg" if task.name == "webnlg" else "e2e"])
        return (*official, *(() if is_benchmark(task) else OF_OWN_TEXTS), *TOKEN_METRICS)
    if task.type in ("tokens", "chat"):
        return OF_TAGS if task.type == "tokens" else TOKEN_METRICS
    numbers = task.name == OF_NUMBERS if task.type == "glue" else task.type == "text" and task.kind == "regression"
    return OF_VALUES if numbers else OF_CLASSES


def refused_metrics(task: TaskConfig) -> Iterator[str]:
    """Messages about metrics that the task does not have. Of generation, "ROUGE-L" means rouge_l."""
    known = metrics_of(task)
    for name in task.metrics or ():
        if (plain_name(name) if task.type == "generation" else name) not in known:
            yield refusal("task.metrics", repr(name), f"for {_in_words(task)}", ", ".join(known))


def _in_words(task: TaskConfig) -> str:
    """The settings on which the metrics of a task depend."""
    kind = f" with --task.kind {task.kind}" if task.type == "text" else ""
    name = f" with --task.name {task.name}" if task.type == "glue" or is_benchmark(task) else ""
    return f"--task.type {task.type}{kind}{name}"
