"""Refuse combinations of settings that cannot work, before a model is loaded; `ranges.py` limits single values."""

from collections.abc import Iterator

from autolora.configs.errors import UserError, refusal
from autolora.configs.facts import (
    ADALORA_LEAST_STEPS,
    FROM_COMPONENTS,
    PART,
    WITHOUT_LORA,
    moves_alpha,
    needs_evidence,
    second_derivatives,
    second_order,
)
from autolora.configs.keys import check_values
from autolora.configs.methods import FACTS
from autolora.configs.ranges import ALL_LINEAR
from autolora.configs.schema import RunConfig, StudyConfig
from autolora.configs.schema_answer import AnswerConfig
from autolora.configs.task_rules import task_refusals

MOST_GRID_RUNS = 100


def check(config: RunConfig) -> None:
    """Raises UserError for the first value that its key does not allow, or the first combination that cannot work.

    The combinations of a study are those of its cells, each of which is checked when the study expands them."""
    check_values(config)
    if _only_cells_run(config.study):
        return
    for refusals in (task_refusals, _search_refusals, _answer_refusals, _machine_refusals, _method_refusals):
        for message in refusals(config):
            raise UserError(message)


def _only_cells_run(study: StudyConfig) -> bool:
    """Whether nothing runs at the values that stand outside the cells: it is a study, and one that compares no
    hypergradients along a search of its own."""
    return bool(study.axes or study.variants) and not study.probe.steps


def _search_refusals(config: RunConfig) -> Iterator[str]:
    """Messages about settings with which the search, or the comparison of hypergradients, cannot work."""
    search, study = config.search, config.study
    probed = study.probe.steps
    if config.model.attention == "sdpa" and (reader := second_derivatives(config)):
        yield f"--model.attention: 'sdpa' has no second derivatives, which {reader} needs; allowed: auto, eager"
    if probed and not (study.axes or study.variants):
        yield refusal(
            "study.probe.steps", probed, "without a study", '[], or with --study.axes, such as "{seed: [0]}"'
        )
    if probed and config.method != "autolora":
        yield refusal("study.probe.steps", probed, f"for --method {config.method}, which has no hypergradient", "[]")
    if probed and not moves_alpha(config):
        where = "with --hypergradient.type none, which takes no outer step"
        yield refusal("study.probe.steps", probed, where, "[], or another type")
    if probed and max(probed) > search.steps:
        yield refusal("study.probe.steps", probed, f"with --search.steps {search.steps}", f"1 to {search.steps}")
    if config.method == "autolora" and moves_alpha(config):
        yield from _outer_step_refusals(config)
    if any(step % search.unroll_steps for step in probed):
        where = f"with --search.unroll_steps {search.unroll_steps}"
        yield refusal("study.probe.steps", probed, where, "multiples of it")


def _outer_step_refusals(config: RunConfig) -> Iterator[str]:
    """Messages about a search that would end before its first outer step, so that alpha would never change."""
    search = config.search
    if search.steps < search.unroll_steps:
        where = f"with --search.steps {search.steps}, as no outer step would be taken"
        yield refusal("search.unroll_steps", search.unroll_steps, where, f"1 to {search.steps}")
    settled = search.check_every * (search.patience + 1)
    if config.answer.rule == "threshold" and search.patience > 0 and settled < search.unroll_steps:
        where = (
            f"with --search.check_every {search.check_every} and --search.unroll_steps {search.unroll_steps}, as the "
            f"search would stop at step {settled}, before the first outer step"
        )
        least = -(-search.unroll_steps // search.check_every) - 1
        yield refusal("search.patience", search.patience, where, f"0, or {least} or more")


def _answer_refusals(config: RunConfig) -> Iterator[str]:
    """Messages about an answer whose ranks could not be derived from its measurements."""
    answer, k = config.answer, config.lora.k
    if config.method != "autolora":
        return
    if answer.budget != "auto" and answer.budget > k:
        yield refusal("answer.budget", f"{answer.budget:g}", f"with --lora.k {k}", "an average rank up to k, or auto")
    above = [rank for rank in answer.curve_ranks if rank > k]
    if above:
        yield refusal("answer.curve_ranks", answer.curve_ranks, f"with --lora.k {k}", "ranks up to k")
    too_large = [budget for budget in answer.curve_budgets if budget > k]
    if too_large and answer.curve_budgets != AnswerConfig().curve_budgets:
        yield refusal("answer.curve_budgets", answer.curve_budgets, f"with --lora.k {k}", "average ranks up to k")
    if not answer.curve_budgets and answer.rule != "threshold" and answer.budget == "auto" and answer.from_run is None:
        yield refusal(
            "answer.curve_budgets", answer.curve_budgets, "with --answer.budget auto", "one or more, or a budget"
        )
    if answer.rows == 0 and needs_evidence(answer) and answer.from_run is None:
        yield refusal("answer.rows", 0, f"for --answer.rule {answer.rule}, which measures on D_val", "8 or more")


def _machine_refusals(config: RunConfig) -> Iterator[str]:
    """Messages about settings that the memory of the machine, or a model with 4-bit weights, does not allow."""
    yield from _memory_refusals(config)
    if not config.model.load_in_4bit:
        return
    if config.method in WITHOUT_LORA:
        yield refusal("model.load_in_4bit", "true", f"for --method {config.method}", "false")
    if config.export.merged:
        yield refusal("export.merged", "true", "with --model.load_in_4bit true", "false")
    if config.model.name.endswith(".gguf"):
        yield refusal("model.load_in_4bit", "true", "for a .gguf file, which is dequantised", "false")
    if config.device not in ("auto", "cuda"):
        yield refusal("device", f"'{config.device}'", "with --model.load_in_4bit true", "auto, cuda")


def _memory_refusals(config: RunConfig) -> Iterator[str]:
    """Messages about settings that cannot be combined with model.dtype bf16 or gradient checkpointing."""
    model = config.model
    if model.dtype == "bf16" and FACTS[config.method].trains in ("part", "all"):
        where = f"for --method {config.method}, which trains weights of the base model in fp32"
        yield refusal("model.dtype", "'bf16'", where, "auto, fp32")
    if model.dtype == "bf16" and model.load_in_4bit:
        yield refusal("model.dtype", "'bf16'", "with --model.load_in_4bit true", "auto, fp32")
    if model.gradient_checkpointing and (reader := second_derivatives(config)):
        instead = "false, or another hypergradient" if second_order(config) else "false"
        where = f"with {reader}, which differentiates a gradient again"
        yield refusal("model.gradient_checkpointing", "true", where, instead)


def _method_refusals(config: RunConfig) -> Iterator[str]:
    """Messages about settings that the method does not allow."""
    method, lora, steps = config.method, config.lora, config.retrain.max_steps
    where = f"for --method {method}"
    if FACTS[method].at_given_ranks and lora.ranks_from is None:
        yield refusal("lora.ranks_from", "null", where, "a ranks.json, or the folder of its run")
    grid, targets = len(lora.grid), len(lora.target_modules)
    if method == "lora_grid" and grid**targets > MOST_GRID_RUNS:
        runs = f"{grid} ranks for each of {targets} target modules make {grid**targets} runs"
        yield f"--lora.grid: {runs}; allowed: up to {MOST_GRID_RUNS}"
    if config.retrain.init not in ("scratch", "search") and method != "lora_ranks":
        yield refusal("retrain.init", "a folder", where, "scratch, search (a folder: with --method lora_ranks)")
    if config.retrain.init == "search" and method != "autolora":
        if method not in FROM_COMPONENTS:
            yield refusal("retrain.init", "'search'", where, "scratch")
        elif config.retrain.init_from is None:
            started = f"{where} with --retrain.init search"
            yield refusal("retrain.init_from", "null", started, "the folder of a run whose search is finished")
    key, rank = ("lora.r", lora.r) if lora.budget is None else ("lora.budget", lora.budget)
    if method == "lora_random" and lora.ranks_from is None and lora.cap and rank > lora.cap:
        average = f"{where} with --{key} {rank:g}, the average rank"
        yield refusal("lora.cap", lora.cap, average, "as much as that average, or more")
    if method == "para" and rank > lora.k:
        trained = f"{where} with --lora.k {lora.k}, the rank that is trained"
        yield refusal(key, f"{rank:g}", trained, "an average rank up to k")
    if method == "adalora" and steps is not None and steps < ADALORA_LEAST_STEPS:
        yield refusal("retrain.max_steps", steps, where, f"{ADALORA_LEAST_STEPS} or more")
    if method == "lora_grid" and lora.target_modules == [ALL_LINEAR]:
        tried = f"{where}, which tries ranks for each target module"
        yield refusal("lora.target_modules", ALL_LINEAR, tried, "names of modules")
    parts = ", ".join(target for target in lora.target_modules if PART.fullmatch(target))
    if method == "adalora" and parts:
        yield refusal("lora.target_modules", parts, f"{where}, whose layers all start with one rank", "c_attn")
    if method == "eva" and parts:
        yield refusal(
            "lora.target_modules", parts, f"{where}, which computes ranks from the inputs of whole layers", "c_attn"
        )
    yield from _export_refusals(config)


def _export_refusals(config: RunConfig) -> Iterator[str]:
    """Messages about files that cannot be written of what the method trains."""
    where = f"for --method {config.method}"
    for key, wanted in vars(config.export).items():
        if wanted and config.method in WITHOUT_LORA and key != "merged":
            yield f"--export.{key}: true is not allowed {where}, which has no LoRA"
    if config.method == "adapter" and config.export.merged:
        yield f"--export.merged: true is not allowed {where}: bottlenecks cannot be merged"
