"""The answer, after the search: measure the searched model on D_val, and write ranks.json by the configured rule."""

import dataclasses
import logging
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from datasets import Dataset
from peft import LoraConfig
from torch import Tensor
from transformers import set_seed

from autolora.configs.errors import UserError
from autolora.configs.facts import evaluation_batch, needs_evidence
from autolora.engine import ranks
from autolora.engine.answer.cuts import Searched
from autolora.engine.answer.decide import decided
from autolora.engine.answer.head import train_head
from autolora.engine.answer.heads import heads_of
from autolora.engine.answer.likelihood import likelihood_of
from autolora.engine.answer.measure import AT_DOUBLED_NODES, measure, passes
from autolora.engine.answer.sample import Sample, sources_of
from autolora.engine.answer.settings import ANSWERED
from autolora.engine.answer.shares import Shares
from autolora.engine.answer.tracking import track
from autolora.engine.answer.trust import trust_of
from autolora.engine.disk.files import write_json
from autolora.engine.export.lora_config import adapter_config, save_lora_config
from autolora.engine.ranks.evidence import LEAST_ROWS, Evidence, too_few
from autolora.engine.ranks.record import LayerRank, RankRecord
from autolora.engine.run.contents import read_answer, read_searched
from autolora.engine.run.program import commit
from autolora.engine.run.same_data import refuse_changed_data
from autolora.engine.run.trial_batch import try_longest_batch
from autolora.engine.run.workbench import Workbench
from autolora.engine.search import trajectory
from autolora.engine.search.found import NUMBERS, read_numbers, searched_model, trains_head
from autolora.engine.terminal.bar import Bar
from autolora.engine.tracking import NOWHERE, Tracker

log = logging.getLogger("autolora")


def answer(run: Workbench, tracker: Tracker = NOWHERE) -> None:
    """Measures a finished search on D_val, writes search/answer.json and ranks.json, and tells the `tracker`.

    An answer that was interrupted starts again from the finished search. All processes must call this. Raises
    Interrupted if a signal asked to stop, UserError for what the user must change.
    """
    began, folder, settings = time.perf_counter(), run.folder, run.config.answer
    measured = 0.0  # seconds of the measurement that another run's search brought along
    searched = read_searched(folder.search_summary)
    # If the data has changed since the search, rows of D_tr could now be in D_val.
    refuse_changed_data(run, searched.get("data", {}), evaluated=False)
    sizes = searched["parameters_per_rank"]
    if settings.from_run is None:
        numbers = read_numbers(folder)
        found = _measured(run, numbers["singular_values"], list(sizes.values())) if settings.rows else None
        if not run.processes.first:
            return
        record = _record(run, list(sizes), numbers, found)
    else:
        if not run.processes.first:
            return
        record = ranks.load(folder.source_ranks)
        measured = read_answer(folder.source_answer).get("seconds", 0.0)
    record = ranks.of_run(decided(_trusted(run, record), settings, sizes), run.config)
    seconds = measured + time.perf_counter() - began
    content = {"settings": ANSWERED.of(run.config), "seconds": seconds, "commit": commit()}
    run.begin()  # the search may have been made by an earlier command, with other settings of the answer
    write_json(folder.answer, content)
    save_lora_config(_for_trainers(run, record, searched.get("peft", {})), record, folder.lora_config, run.config)
    ranks.save(record, folder.ranks)
    track(record, tracker)


def _measured(run: Workbench, singular: Tensor, sizes: list[int]) -> tuple[Evidence, Shares] | None:
    """Measures evidence and shares on D_val; None, after a warning, if D_val has too few rows or losses are not
    finite."""
    d_tr, d_val = run.halves()
    if len(d_val) < LEAST_ROWS:
        log.warning(
            "answer: D_val has %d rows; shares and the curve need %d and are not measured", len(d_val), LEAST_ROWS
        )
        return None
    sample = sample_of(run, d_val)
    if few := too_few(len(sample.rows), sample.source_count):
        log.warning("answer: %s", few)
    evidence, shares = _measured_on(run, sample, run.data.train.select(d_tr), singular, sizes)
    run.compute.let_go()
    if not evidence.finite or not bool(shares.sums.isfinite().all()):
        if needs_evidence(run.config.answer):
            raise UserError(
                "--search.learning_rate: the searched model has losses on D_val that are not finite, so that no ranks "
                "can be derived; search again with a lower one (--overwrite)"
            )
        log.warning("answer: losses of the searched model are not finite, so shares and the curve are left out")
        return None
    return evidence, shares


def _measured_on(
    run: Workbench, sample: Sample, d_tr: Dataset, singular: Tensor, sizes: list[int]
) -> tuple[Evidence, Shares]:
    """Trains the head alone on D_tr, and measures evidence and shares on the sample; logs how long this takes."""
    head, weights, steps = head_on(run, d_tr, sample)
    run.compute.let_go()
    set_seed(run.config.seed)
    model, gates = searched_model(run)
    searched = Searched(model, gates, singular, sizes, heads_of(model, weights))
    model.eval()
    size = run.config.search.batch_size * run.processes.size  # here each process measures whole batches
    try_longest_batch(run, model, sample.rows, size, partial(sample.loss, model))
    most, each = passes(run.config, head is not None), len(sample.rows) * _seconds_a_row(searched, sample)
    log.info(
        "answer: measuring shares and curve on %d rows of D_val takes about %.0f s, or %.0f s if the shares need more "
        "points%s",
        len(sample.rows), *((count * each / run.processes.size) for count in (most - AT_DOUBLED_NODES, most)),
        f"; the head alone was trained for {steps} steps" if steps else "",
    )  # fmt: skip
    with Bar("answer", most * len(sample.rows)) as bar:
        done = 0

        def advance(rows: int) -> None:
            nonlocal done
            done += rows * run.processes.size
            bar.step(min(done, bar.total))

        told = dataclasses.replace(sample, advance=advance, extend=bar.grow)
        return measure(searched, told, head, run.config)


def sample_of(run: Workbench, rows: Sequence[int] | np.ndarray) -> Sample:
    """Up to `answer.rows` of the training rows with these numbers, drawn by seed, on which models are measured.

    Rows are drawn, not sources, so that a source has no more weight than its rows give it; drawn rows of one source
    follow each other."""
    drawn = np.random.default_rng(run.config.seed).permutation(rows)[: run.config.answer.rows]
    together = np.argsort(sources_of(run.data.train, drawn), kind="stable")
    return Sample(
        run.data.train.select(drawn[together]), run.data.collate, likelihood_of(run.kind),
        run.compute, run.stop, run.processes, evaluation_batch(run.config),
    )  # fmt: skip


def head_on(run: Workbench, d_tr: Dataset, sample: Sample) -> tuple[Tensor | None, dict[str, Tensor], int]:
    """The statistics of the head alone on the sample, its weights, and for how many steps it was trained; None, no
    weights and 0 if the search trained nothing but LoRA."""
    if not trains_head(run.folder):
        return None, {}, 0
    model, steps = train_head(run, d_tr, sample)
    # Copies, as a script's own model is then put back and searched again.
    weights = {name: weight.detach().clone() for name, weight in model.named_parameters() if weight.requires_grad}
    return sample.statistics(model)[0][0], weights, steps


def _seconds_a_row(searched: Searched, sample: Sample) -> float:
    """Seconds per row of a pass without a gradient, timed on one batch, to log how long the answer will take."""
    some = sample.typical()
    some.some(1).statistics(searched.model)  # a first pass also sets things up
    began = time.perf_counter()
    some.statistics(searched.model)
    return (time.perf_counter() - began) / len(some.rows)


def _record(
    run: Workbench, names: list[str], numbers: dict[str, Tensor], found: tuple[Evidence, Shares] | None
) -> RankRecord:
    """The record of the search and its answer, still without ranks."""
    columns = {name: numbers[name].double() for name in NUMBERS} | ({} if found is None else _columns(found[1]))
    layers = []
    for i, name in enumerate(names):
        fields: dict[str, Any] = {
            key: tuple(values[i].tolist()) if values.dim() > 1 else float(values[i]) for key, values in columns.items()
        }
        layers.append(LayerRank(name, 0, **fields))
    evidence = None if found is None else found[0]
    return RankRecord(numbers["alpha"].shape[1], tuple(layers), run.config.search.constraint, evidence=evidence)


def _trusted(run: Workbench, record: RankRecord) -> RankRecord:
    """The record with the field `decided` of each layer, which only rule threshold reads: whether its rank was steady.

    This is computed for --answer.from, too: the source's record lacks it if another rule made the source's ranks."""
    if run.config.answer.rule != "threshold":
        return record
    history = trajectory.read(run.folder.trajectory)
    trust = trust_of(history, run.config.search.constraint)
    log.info("ranks: %s", trust.words())
    sure = dict(zip(history.names, trust.decided, strict=True))
    layers = tuple(dataclasses.replace(layer, decided=sure[layer.name]) for layer in record.layers)
    return dataclasses.replace(record, layers=layers)


def _for_trainers(run: Workbench, record: RankRecord, of_model: dict[str, Any]) -> LoraConfig:
    """PEFT's configuration with the ranks; `of_model`: the parts that depend on the model, as the search recorded."""
    found = adapter_config(run.config, record, run.kind, of_model.get("modules_to_save", []))
    found.fan_in_fan_out = of_model.get("fan_in_fan_out", False)
    return found


def _columns(shares: Shares) -> dict[str, Tensor]:
    """The values of the LayerRank fields that hold shares, a row for each layer."""
    of_layers = shares.by_layer()
    found = {
        "share": shares.mean(),
        "share_standard_error": shares.standard_error(),
        "layer_share": of_layers.mean().flatten(),
        "layer_share_standard_error": of_layers.standard_error().flatten(),
    }
    if float(shares.sums.sum()) > 0:
        found["layer_part_standard_error"] = of_layers.part_error().flatten()
    return found
