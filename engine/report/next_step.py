"""Propose one or two commands to run after a run, and say why."""

import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from autolora.configs.count_words import counted
from autolora.configs.facts import SEARCHING, only_alpha_is_1
from autolora.configs.requests import Request
from autolora.configs.schema import RunConfig
from autolora.engine import ranks
from autolora.engine.answer.words import longer_may_help
from autolora.engine.ranks.controls import can_be_shuffled
from autolora.engine.report.advice import DOES_NOTHING, FURTHER_PAIRS, about_other_ranks, advice_of, told_and_command
from autolora.engine.report.controls import SHUFFLED_METHOD, controls_of
from autolora.engine.run.contents import data_of_ranks, parameters_per_rank, read_result, read_verdict
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.places import command_of, is_cell, sibling_name
from autolora.engine.terminal.console import console

Step = Callable[[Request, RunFolder], tuple[str, str] | None]
"""Makes a command to propose, with why; None if it makes no sense for the run."""
_PAIRS, _HEADS = 8, 2
"""The fewest pairs of a verdict, and the trainings of the head alone."""
_LONG = 60
"""If a verdict would take more minutes than this, one shuffled run is proposed instead."""
_LONGER = "longer"
"""What the name of a longer run ends with."""
_MANY = 10
"""After so many passes of the search over D_tr, no longer search is proposed."""


def print_next(request: Request) -> None:
    """Prints the next commands to try, if any, each in one line that can be pasted into a shell; none for a cell of a
    study, beside which no other run may lie."""
    if is_cell(RunFolder.of(request.config)):
        return
    for word, (command, why) in zip(("next", "or"), next_steps(request), strict=False):
        console.print(f"{word:>17}  {command}   # {why}", highlight=False, soft_wrap=True, style="bold")


def next_steps(request: Request) -> list[tuple[str, str]]:
    """The commands to propose, at most two, and why. After a search, they are the retraining and, if LoRA learned
    nothing or next to nothing, what `_after_doubt` proposes, or else the verdict, if one on these ranks can say
    anything; after a retraining or a verdict, the command of `next_step`. A verdict needs one learning rate, which a
    sweep has yet to choose.
    """
    folder, first = RunFolder.of(request.config), next_step(request)
    if first is None:
        return []
    asks = request.stage == "search" and not request.config.retrain.learning_rates and folder.ranks.exists()
    if folder.verdict_summary.exists() or not asks or _solved(folder):
        return [first]
    if why := _doubt(request.config, folder):
        other = _after_doubt(why, request.config, folder)
        return [first] if other is None else [first, other]
    if not _can_be_shuffled(request.config, folder):
        return [first]
    minutes = counted(request.config.verdict.minutes, "minute")
    why = f"tests whether the places of the ranks matter; stops after {minutes}, and the same command resumes"
    return [first, (f"{command_of(folder)} --stage verdict", why)]


def next_step(request: Request) -> tuple[str, str] | None:
    """The command to propose, and why; None if none makes sense, as where the task is solved without LoRA.

    If the run has a verdict, it is what the verdict recommends. Else it is the first of these that makes sense for the
    run: the retraining, a longer search or a run without LoRA (if LoRA learned nothing or next to nothing), the
    verdict (if that would take long, one shuffled run), another budget, another search. The command reads the run's
    config.yaml, which also holds the options that the run's command line gave.
    """
    config, folder = request.config, RunFolder.of(request.config)
    if found := read_verdict(folder.verdict_summary):
        return _recommended(found, request, folder)
    if request.stage == "search":
        again = " --overwrite" if folder.metrics.exists() else ""
        return f"{command_of(folder)} --stage retrain{again}", "trains at these ranks"
    if config.method not in SEARCHING:
        return f"{_further(folder, 'autolora')} --method autolora", "learns the ranks"
    if config.method == "autolora" and _solved(folder):
        return None
    if why := _doubt(config, folder):
        return _after_doubt(why, config, folder)
    return _first((_comparison, _budget, _search), request, folder)


def _first(steps: Sequence[Step], request: Request, folder: RunFolder) -> tuple[str, str] | None:
    """The command of the first of these steps that makes sense."""
    return next((found for step in steps if (found := step(request, folder)) is not None), None)


def _recommended(found: Mapping[str, Any], request: Request, folder: RunFolder) -> tuple[str, str] | None:
    """The command that follows a verdict's recommendation. If that has no command, or its run is there already, the
    command of a step that the ending leaves open: places that do not matter need no other search."""
    if about_other_ranks(folder):
        return f"{command_of(folder)} --stage verdict --overwrite", "judges the ranks that were edited since"
    advice = advice_of(found, folder)
    if advice.startswith(DOES_NOTHING):
        if _solved(folder) or _was_long(request.config, folder):
            return None
        options = f"{_longer_search(request.config)} {_longer_retraining(request.config)}".strip()
        return f"{_further(folder, _LONGER)} {options}", f"{DOES_NOTHING}; a longer training may change that"
    if advice.startswith(FURTHER_PAIRS):
        return f"{command_of(folder)} --stage verdict", "trains further pairs"
    told, command = told_and_command(advice)
    uniform = folder.at(folder.root.with_name(sibling_name(folder, "uniform")))
    if command and (found["ending"] == "matter" or not uniform.metrics.exists()):
        return command, told[0].lower() + told[1:].rstrip(":")
    return _first(_OPEN.get(found["ending"], ()), request, folder)


def _doubt(config: RunConfig, folder: RunFolder) -> str:
    """Says that LoRA learned nothing, or next to nothing, that shows on D_val, where a longer search may change that;
    "" elsewhere."""
    record = ranks.load(folder.ranks) if folder.ranks.exists() else None
    if config.method != "autolora" or record is None or record.evidence is None:
        return ""
    return longer_may_help(record.evidence)


def _after_doubt(why: str, config: RunConfig, folder: RunFolder) -> tuple[str, str] | None:
    """The command for a longer search; after a long one, the command for a run without LoRA, None if it is there."""
    if not _was_long(config, folder):
        longer = f"{_further(folder, _LONGER)} {_longer_search(config)}"
        return longer, f"{why}; a longer search may change that"
    if folder.at(folder.root.with_name(sibling_name(folder, "head"))).metrics.exists():
        return None
    doubt = "so this task may not gain from LoRA, or have too few rows to show it"
    told = f"{why}, although the search was long, {doubt}; this shows the result without it"
    return f"{_further(folder, 'head')} --method head", told


def _was_long(config: RunConfig, folder: RunFolder) -> bool:
    """Whether the search was the longer one that an earlier run proposed, or passed over D_tr many times."""
    rows = (data_of_ranks(folder).get("training") or {}).get("rows", 0) * (1 - config.task.validation_share)
    seen = config.search.steps * config.search.batch_size * config.search.gradient_accumulation
    return folder.root.name.endswith(f"-{_LONGER}") or seen >= _MANY * rows > 0


def _solved(folder: RunFolder) -> bool:
    """Whether the search found the task solved without LoRA, so that no further run is of use."""
    evidence = ranks.load(folder.ranks).evidence if folder.ranks.exists() else None
    return evidence is not None and bool(evidence.solved)


def _longer_search(config: RunConfig) -> str:
    """The options that double the search; "" for a method without one."""
    return f"--search.steps {2 * config.search.steps}{_own_search(config)}" if config.method == "autolora" else ""


def _longer_retraining(config: RunConfig) -> str:
    """The option that doubles the retraining."""
    steps = config.retrain.max_steps
    return f"--retrain.epochs {2 * config.retrain.epochs:g}" if steps is None else f"--retrain.max_steps {2 * steps}"


def _comparison(request: Request, folder: RunFolder) -> tuple[str, str] | None:
    """The command that tests whether the places of the ranks matter.

    None if a shuffle can change no rank, or if the verdict would take long and a shuffled run exists already."""
    if not folder.ranks.exists():
        return None
    if not _can_be_shuffled(request.config, folder):
        return None
    minutes = _verdict_minutes(request, folder)
    if minutes is None or minutes <= _LONG:
        longer = f" --verdict.minutes {minutes}" if minutes and minutes > request.config.verdict.minutes else ""
        time = "" if minutes is None else f"; 8 pairs take about {counted(minutes, 'minute')}"
        return f"{command_of(folder)} --stage verdict{longer}", f"tests whether the places of the ranks matter{time}"
    record, sizes = ranks.load(folder.ranks), parameters_per_rank(folder)
    controls = controls_of(folder.root, read_result(folder.metrics), record, sizes)
    if controls is None or all(one.method != SHUFFLED_METHOD for one in controls.missing):
        return None
    options = f"--method {SHUFFLED_METHOD} --lora.ranks_from {shlex.quote(str(folder.ranks))}"
    if request.config.retrain.init == "search":
        options += f" --retrain.init_from {shlex.quote(str(folder.root))}"
    why = f"trains at the same ranks in other layers; --stage verdict would take about {minutes} minutes for 8 pairs"
    return f"{_further(folder, 'shuffled')} {options}", why


def _can_be_shuffled(config: RunConfig, folder: RunFolder) -> bool:
    """Whether the verdict's shuffle could change a rank. Where the sizes of the layers are not known, whether any two
    ranks differ."""
    record, sizes = ranks.load(folder.ranks), parameters_per_rank(folder)
    if not {layer.name for layer in record.layers} <= set(sizes):
        return not record.all_equal
    return can_be_shuffled(record, sizes, config.verdict.shuffle)


def _verdict_minutes(request: Request, folder: RunFolder) -> int | None:
    """How many minutes eight pairs take at the speed of this run's retraining and evaluation; None if the retraining
    was not timed."""
    result = read_result(folder.metrics)
    training = (result.get("seconds") or {}).get("retrain")
    if training is None:
        return None
    evaluation = result.get("seconds_evaluation", 0.0) * _times_the_rows(request.config, result)
    trainings = _PAIRS * (2 + len(request.config.verdict.arms)) + _HEADS
    return math.ceil(trainings * (training + evaluation) / 60)


def _times_the_rows(config: RunConfig, result: Mapping[str, Any]) -> float:
    """How many times as many rows a verdict evaluates as this run did: it adds training rows that are unused."""
    data = result.get("data") or {}
    counts = {name: (data.get(name) or {}).get("rows", 0) for name in ("source", "training", "unused")}
    evaluated = result.get("evaluated_rows", 0)
    if not evaluated or config.task.train_rows is None:
        return 1.0
    unused = max(0, counts["source"] - counts["training"] - evaluated)
    return (evaluated + min(unused, config.verdict.rows)) / (evaluated + counts["unused"])


def _budget(request: Request, folder: RunFolder) -> tuple[str, str] | None:
    """The command for ranks with fewer parameters from the same search; None unless D_val shows that fewer are
    enough."""
    sizes = parameters_per_rank(folder)
    record = ranks.counted(ranks.load(folder.ranks), sizes) if folder.ranks.exists() else None
    if record is None or record.evidence is None or request.config.method != "autolora":
        return None
    enough, per_rank = record.evidence.sufficient_budget(record.tolerance), sum(sizes.values())
    if enough is None or not per_rank or enough.at * per_rank >= (record.lora_parameters or 0):
        return None
    rule = record.evidence.budget_rule
    options = f"--answer.from {shlex.quote(str(folder.root))} --answer.rule {rule} --answer.budget {enough.at:g}"
    saved = 1 - (enough.parameters or enough.at * per_rank) / (record.lora_parameters or 1)
    why = f"by D_val an average rank of {enough.at:g} is enough: {100 * saved:.0f} % fewer parameters, no new search"
    return f"{_further(folder, f'{enough.at:g}')} {options}", why


def _search(request: Request, folder: RunFolder) -> tuple[str, str] | None:
    """The command for a search by another approximation, or for a search if this run has none; None if no
    approximation can change alpha, or none a rank: by threshold, only sigmoid can drop the only component of a
    layer."""
    config = request.config
    if config.method != "autolora":
        return f"{_further(folder, 'autolora')} --method autolora", "learns the ranks"
    always_1 = config.answer.rule == "threshold" and config.lora.k == 1 and config.search.constraint != "sigmoid"
    if always_1 or only_alpha_is_1(config):
        return None
    # By threshold, a search without a hypergradient keeps all components: no alpha moves.
    control = "darts" if config.answer.rule == "threshold" else "none"
    other = control if config.hypergradient.type == "first_order" else "first_order"
    options = f"--hypergradient.type {other}{_own_search(config)}"
    return f"{_further(folder, other.replace('_', '-'))} {options}", "does another approximation find other ranks?"


_OPEN: dict[str, Sequence[Step]] = {
    "matter": (_budget, _search), "worse": (_search,), "equal": (_budget,), "undecided": (_budget,),
}  # fmt: skip
"""The steps that each ending of a verdict leaves open."""


def _own_search(config: RunConfig) -> str:
    """The option that makes a run search by itself if its configuration copies the search of another run."""
    return " --answer.from null" if config.answer.from_run is not None else ""


def _further(folder: RunFolder, more: str) -> str:
    """The beginning of the command of a further run beside this one."""
    return command_of(folder, sibling_name(folder, more))
