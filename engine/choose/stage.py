"""The answer to a search: measure the searched model on D_val, and write ranks.json by the configured rule."""

import dataclasses
import logging
import time
from functools import partial
from typing import Any

from datasets import Dataset
from peft import LoraConfig
from torch import Tensor
from transformers import set_seed

from autolora.configs.errors import UserError
from autolora.engine import ranks
from autolora.engine.choose.copied_search import take_over
from autolora.engine.choose.decide import decided
from autolora.engine.choose.head import train_head
from autolora.engine.choose.settings import ANSWERED
from autolora.engine.choose.stability import trust_of
from autolora.engine.choose.tracking import track
from autolora.engine.disk.files import write_json
from autolora.engine.export.lora_config import adapter_config, save_lora_config
from autolora.engine.measure.evidence import LEAST_ROWS, too_few
from autolora.engine.measure.gated import Gated, heads_of
from autolora.engine.measure.likelihood import likelihood_of
from autolora.engine.measure.measure import Measured, NotFinite, Plan, measure
from autolora.engine.measure.passes import Passes
from autolora.engine.measure.rows import Rows
from autolora.engine.ranks.record import LayerRank, RankRecord
from autolora.engine.run.contents import read_answer, read_searched
from autolora.engine.run.program import commit
from autolora.engine.run.same_data import refuse_changed_data
from autolora.engine.run.trial_batch import try_longest_batch
from autolora.engine.run.workbench import Workbench
from autolora.engine.search import trajectory
from autolora.engine.search.found import NUMBERS, read_numbers, searched_model, trains_head
from autolora.engine.search.stage import search
from autolora.engine.terminal.bar import Bar
from autolora.engine.tracking import NOWHERE, Tracker

log = logging.getLogger("autolora")


def find_ranks(run: Workbench, tracker: Tracker = NOWHERE) -> None:
    """Searches, or copies the search of `answer.from`, then measures the answer and writes ranks.json.

    A finished search is not repeated. All processes must call this. Raises Interrupted if a signal asked to stop,
    UserError for what the user must change.
    """
    if not run.processes.of_first(run.folder.search_summary.exists):
        if run.searched.answer.from_run is None:
            search(run, tracker)
        else:
            take_over(run)
        run.processes.wait()
    run.compute.let_go()
    answer(run, tracker)


def answer(run: Workbench, tracker: Tracker = NOWHERE) -> None:
    """Measures a finished search on D_val, writes search/answer.json and ranks.json, and tells the `tracker`.

    An answer that was interrupted starts again from the finished search. All processes must call this. Raises
    Interrupted if a signal asked to stop, UserError for what the user must change.
    """
    began, folder, settings = time.perf_counter(), run.folder, run.searched.answer
    measured = 0.0  # seconds of the measurement that another run's search brought along
    searched = read_searched(folder.search_summary)
    # If the data has changed since the search, rows of D_tr could now be in D_val.
    refuse_changed_data(run, searched.get("data", {}), evaluated=False)
    sizes = searched["parameters_per_rank"]
    if settings.from_run is None:
        numbers = read_numbers(folder)
        found = _measured(run, numbers["singular_values"]) if settings.rows else None
        if not run.processes.first:
            return
        record = _record(run, list(sizes), numbers, found)
    else:
        if not run.processes.first:
            return
        record = ranks.load(folder.source_ranks)
        measured = read_answer(folder.source_answer).get("seconds", 0.0)
    record = ranks.of_run(decided(_trusted(run, record), settings, sizes), run.searched)
    seconds = measured + time.perf_counter() - began
    content = {"settings": ANSWERED.of(run.config), "seconds": seconds, "commit": commit()}
    run.begin()  # the search may have been made by an earlier command, with other settings of the answer
    write_json(folder.answer, content)
    save_lora_config(_for_trainers(run, record, searched.get("peft", {})), record, folder.lora_config, run.searched)
    ranks.save(record, folder.ranks)
    track(record, tracker)


def _measured(run: Workbench, singular: Tensor) -> Measured | None:
    """Measures evidence and shares on D_val; None, after a warning, if D_val has too few rows or losses are not
    finite."""
    d_tr, d_val = run.halves()
    if len(d_val) < LEAST_ROWS:
        log.warning(
            "answer: D_val has %d rows; shares and the curve need %d and are not measured", len(d_val), LEAST_ROWS
        )
        return None
    rows = Rows.drawn(run.data.train, run.data.collate, d_val, run.searched.answer.rows, run.config.seed)
    if few := too_few(len(rows), rows.group_count):
        log.warning("answer: %s", few)
    try:
        return _measured_on(run, passes_over(run, rows), run.data.train.select(d_tr), singular)
    except NotFinite as error:
        if run.searched.answer.needs_evidence:
            raise UserError(
                "--search.learning_rate: the searched model has losses on D_val that are not finite, so that no ranks "
                "can be derived; search again with a lower one (--overwrite)"
            ) from error
        log.warning("answer: losses of the searched model are not finite, so shares and the curve are left out")
        return None
    finally:
        run.compute.let_go()


def passes_over(run: Workbench, rows: Rows) -> Passes:
    """How the run sends these rows through a model."""
    check = run.stop.check if run.processes.size == 1 else lambda: None  # several stop together, after the stage
    likelihood, batch = likelihood_of(run.kind), run.config.evaluation_batch
    return Passes(rows, likelihood, run.compute, run.processes, batch, check)


def _measured_on(run: Workbench, passes: Passes, d_tr: Dataset, singular: Tensor) -> Measured:
    """Trains the head alone on D_tr, and measures evidence and shares on the rows of the passes."""
    config, rows = run.searched, passes.rows
    alone, weights = head_on(run, d_tr, passes)
    run.compute.let_go()
    set_seed(config.seed)
    model, gates = searched_model(run)
    gated, size = Gated(model, gates, heads_of(model, weights)), config.search.batch_size
    model.eval()
    # Here each process measures whole batches.
    try_longest_batch(run, model, rows.data, size * run.processes.size, partial(passes.loss, model))
    plan = Plan(
        config.answer.curve_ranks, sorted(b for b in set(config.answer.curve_budgets) if b <= config.lora.k),
        "size" if config.answer.rule == "size" else "shares", batch=size,
    )  # fmt: skip
    with Bar("answer", plan.passes(gates.k, head=alone is not None) * len(rows)) as bar:
        return measure(gated, passes.telling(bar.step, bar.grow), plan, singular, alone)


def head_on(run: Workbench, d_tr: Dataset, passes: Passes) -> tuple[Tensor | None, dict[str, Tensor]]:
    """The statistics of the head alone on the rows, and its weights; None and no weights if the search trained nothing
    but LoRA."""
    if not trains_head(run.folder):
        return None, {}
    model, steps = train_head(run, d_tr, passes)
    log.info("answer: the head alone was trained for %d steps", steps)
    # Copies, as a script's own model is then put back and searched again.
    weights = {name: weight.detach().clone() for name, weight in model.named_parameters() if weight.requires_grad}
    return passes.statistics(model)[0], weights


def _record(run: Workbench, names: list[str], numbers: dict[str, Tensor], found: Measured | None) -> RankRecord:
    """The record of the search and its answer, still without ranks."""
    columns = {name: numbers[name].double() for name in NUMBERS} | ({} if found is None else found.shares.columns())
    layers = []
    for i, name in enumerate(names):
        fields: dict[str, Any] = {
            key: tuple(values[i].tolist()) if values.dim() > 1 else float(values[i]) for key, values in columns.items()
        }
        layers.append(LayerRank(name, 0, **fields))
    evidence = None if found is None else found.evidence
    return RankRecord(numbers["alpha"].shape[1], tuple(layers), run.searched.search.constraint, evidence=evidence)


def _trusted(run: Workbench, record: RankRecord) -> RankRecord:
    """The record with the field `decided` of each layer, which only rule threshold reads: whether its rank was steady.

    This is computed for --answer.from, too: the source's record lacks it if another rule made the source's ranks."""
    if run.searched.answer.rule != "threshold":
        return record
    history = trajectory.read(run.folder.trajectory)
    trust = trust_of(history, run.searched.search.constraint)
    log.info("ranks: %s", trust.words())
    sure = dict(zip(history.names, trust.decided, strict=True))
    layers = tuple(dataclasses.replace(layer, decided=sure[layer.name]) for layer in record.layers)
    return dataclasses.replace(record, layers=layers)


def _for_trainers(run: Workbench, record: RankRecord, of_model: dict[str, Any]) -> LoraConfig:
    """PEFT's configuration with the ranks; `of_model`: the parts that depend on the model, as the search recorded."""
    found = adapter_config(run.searched, record, run.kind, of_model.get("modules_to_save", []))
    found.fan_in_fan_out = of_model.get("fan_in_fan_out", False)
    return found
