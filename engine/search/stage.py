"""The search: learn alpha by Algorithm 1, then write search/."""

import logging

import numpy as np
from transformers import set_seed

from autolora.configs.search import Difference
from autolora.engine.disk import checkpoint
from autolora.engine.disk.files import remove, write_json
from autolora.engine.export.lora_config import of_the_model
from autolora.engine.ranks.rules import refuse_unanswerable
from autolora.engine.run.program import commit
from autolora.engine.run.resources import peak_memory
from autolora.engine.run.same_data import refuse_changed_data
from autolora.engine.run.trial_batch import try_longest_batch
from autolora.engine.run.workbench import Workbench
from autolora.engine.search.engine import SearchEngine, build_engine
from autolora.engine.search.found import to_singular_basis, write_tensors
from autolora.engine.search.hook import SearchHook
from autolora.engine.search.settings import FOUND, UNFINISHED
from autolora.engine.terminal.live_view import SearchProgress
from autolora.engine.tracking import NOWHERE, Tracker
from autolora.problems.hypergradients import approximation
from autolora.problems.machine.compute import holds_bf16
from autolora.problems.models.attach import ADAPTER, attach_components
from autolora.problems.models.layers import refuse_large_k

log = logging.getLogger("autolora")

COLLAPSED = 0.99
"""alpha of a layer has collapsed if one of its components has a larger alpha than this."""


def search(run: Workbench, tracker: Tracker = NOWHERE) -> SearchEngine:
    """Learns alpha and writes search/; resumes from its checkpoint if there is one.

    Returns the engine after its last step; in the first process its components are in the singular basis. Raises
    Interrupted if a signal asked to stop, UserError for what the user must change.
    """
    config = run.searched
    approximation(config.hypergradient)  # one that cannot be made fails here, before the data is read
    begun = run.processes.of_first(lambda: checkpoint.peek(run.folder.search_checkpoint))
    refuse_changed_data(run, begun.get("data", {}))
    engine = build_search(run, second_order=config.second_order)
    engine.train()
    try_longest_batch(run, engine.lora.module, run.data.train, config.search.batch_size, engine.lora.training_step)
    hook = SearchHook(engine, run, UNFINISHED.of(run.config), tracker)
    hook.resume()
    run.begin()
    gates = engine.lora.gates
    with SearchProgress(config.search.steps, engine.global_step, gates.names, gates.k) as hook.progress:
        engine.run(hook.after_step)
    if run.processes.first:
        _record(run, engine, hook)
    return engine


def build_search(run: Workbench, *, second_order: bool) -> SearchEngine:
    """An engine on the run's data, before any training; `second_order`: attention must have second derivatives.

    Raises UserError if the search, or the answer after it, could not work with this model, data and settings.
    """
    config, data = run.searched, run.data
    set_seed(config.seed)
    d_tr, d_val = run.halves()
    base = run.base(second_order=second_order)
    if second_order and config.model.attention == "auto":
        log.info("attention: eager, as second derivatives are needed")
    refuse_large_k(base.model, config.lora)
    if isinstance(config.hypergradient, Difference) and holds_bf16(base.model):
        log.warning(
            "--hypergradient.type %s: with weights in bf16 or 4 bits a finite difference loses accuracy to rounding; "
            "take first_order or exact", config.hypergradient.type,
        )  # fmt: skip
    model = attach_components(base.model, config.lora, run.kind.peft_type, base.trained_whole)
    parts = data.train.select(d_tr), data.train.select(d_val)
    engine = build_engine(config, model, *parts, data.collate, run.compute, run.processes, run.kind.loss)
    refuse_unanswerable(config.answer, len(d_val), engine.lora.gates.parameters_per_rank().values())
    log.info(
        "search: %d layers x k = %d, D_tr %d rows, D_val %d rows, %s, %s",
        len(engine.lora.gates.names), config.lora.k, len(d_tr), len(d_val),
        run.compute.device, "bf16" if run.compute.bf16 else "fp32",
    )  # fmt: skip
    return engine


def _record(run: Workbench, engine: SearchEngine, hook: SearchHook) -> None:
    """Writes the files that the answer and the report read: summary.json last, as it marks the search as finished."""
    folder, config = run.folder, run.searched
    _warn(engine, config.search.max_bad_steps)
    hook.trajectory.write(folder.trajectory)
    hook.tracking.end(hook.trajectory)
    numbers = {"alpha": engine.alpha(), "contribution": engine.contribution()}
    numbers["singular_values"] = to_singular_basis(engine.lora.gates, engine.selection.module())
    names = {id(p): name for name, p in engine.lora.module.named_parameters()}
    write_tensors({names[id(p)]: p for p in engine.lora.trained}, folder.search_weights)
    write_tensors(numbers, folder.search_numbers)
    write_json(
        folder.search_summary,
        {
            "steps": engine.global_step,
            "seconds": hook.seconds,
            "parameters_per_rank": engine.lora.gates.parameters_per_rank(),
            "stopped": "ranks settled" if engine.global_step < config.search.steps else "steps used up",
            "passes": vars(engine.lora.shared.passes),
            "peak_memory_mib": peak_memory(run.compute),
            "peft": of_the_model(engine.lora.module.peft_config[ADAPTER]),
            "commit": commit(),
            "settings": FOUND.of(config),
            **({"data": run.fingerprint} if run.fingerprint else {}),
        },
    )
    remove(folder.search_checkpoint)


def _warn(engine: SearchEngine, most: int) -> None:
    """Warns of steps that were skipped, and of an alpha that collapsed in more than half of the layers."""
    if skipped := engine.skipped_steps():
        log.warning(
            "%d steps were skipped, as their loss or gradient was not finite (search.max_bad_steps %d)", skipped, most
        )
    largest = engine.alpha().numpy().max(axis=1)
    collapsed = int(np.sum(largest > COLLAPSED))
    if engine.selection.module.constraint == "softmax" and engine.lora.gates.k > 1 and 2 * collapsed > len(largest):
        log.warning(
            "alpha has collapsed: one component is above %s in %d of %d layers; lower "
            "--search.selection_learning_rate or --search.steps", COLLAPSED, collapsed, len(largest),
        )  # fmt: skip
