"""The search: learn alpha by Algorithm 1, then write search/."""

import logging

from transformers import set_seed

from autolora.engine.disk import newest
from autolora.engine.disk.files import write_json
from autolora.engine.export.lora_config import of_the_model
from autolora.engine.ranks.needs import refuse_unanswerable
from autolora.engine.run.program import commit
from autolora.engine.run.resources import peak_memory
from autolora.engine.run.same_data import refuse_changed_data
from autolora.engine.run.trial_batch import try_longest_batch
from autolora.engine.run.workbench import Workbench
from autolora.engine.search.components import to_singular_basis
from autolora.engine.search.engine import SearchEngine, build_engine
from autolora.engine.search.found import write_tensors
from autolora.engine.search.health import (
    warn_about,
    warn_about_missing_classes,
    warn_about_still_alpha,
)
from autolora.engine.search.hook import SearchHook
from autolora.engine.search.implicit_term import (
    warn_about_large_term,
    warn_about_rounded_difference,
    warn_about_short_unroll,
)
from autolora.engine.search.settings import FOUND, UNFINISHED
from autolora.engine.terminal.live_view import SearchProgress
from autolora.engine.tracking import NOWHERE, Tracker
from autolora.problems.hypergradients import approximation, register
from autolora.problems.models.attach import ADAPTER, attach_components
from autolora.problems.models.layers import refuse_large_k

log = logging.getLogger("autolora")


def search(run: Workbench, tracker: Tracker = NOWHERE) -> SearchEngine:
    """Learns alpha and writes search/; resumes from search/checkpoint if it exists.

    Returns the engine after its last step; in the first process its components are in the singular basis. Raises
    Interrupted if a signal asked to stop, UserError for what the user must change.
    """
    settings = run.searched.search
    hypergradient = run.searched.hypergradient
    # Made here, too, so that a class that cannot be made is refused before the data is read.
    second_order = approximation(hypergradient).second_order
    refuse_changed_data(run, run.processes.of_first(lambda: newest.peek(run.folder.search_checkpoint)).get("data", {}))
    engine = build_search(run, second_order=second_order)
    engine.train()
    try_longest_batch(run, engine.lora.module, run.data.train, settings.batch_size, engine.lora.training_step)
    hook = SearchHook(engine, run, UNFINISHED.of(run.config), tracker)
    hook.resume()
    run.begin()
    gates = engine.lora.gates
    with SearchProgress(settings.steps, engine.global_step, gates.names, gates.k) as hook.progress:
        engine.after_step = hook.after_step
        engine.run()
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
    if names := run.kind.head().get("id2label"):
        seed = "--seed" if config.task.seed is None else "--task.seed"
        warn_about_missing_classes(data.train["labels"], d_tr, d_val, names, seed)
    base = run.base(second_order=second_order)
    if second_order and config.model.attention == "auto":
        log.info("attention: eager, as second derivatives are needed")
    refuse_large_k(base.model, config.lora)
    warn_about_rounded_difference(base.model, config)
    warn_about_short_unroll(config)
    model = attach_components(base.model, config.lora, run.kind.peft_type, base.trained_whole)
    register(approximation(config.hypergradient))
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
    if not warn_about_still_alpha(engine, config):
        warn_about(hook.trajectory, config)
        warn_about_large_term(engine, config)
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
            "passes": vars(engine.lora.passes),
            "peak_memory_mib": peak_memory(run.compute),
            "peft": of_the_model(engine.lora.module.peft_config[ADAPTER]),
            "commit": commit(),
            "settings": FOUND.of(config),
            **({"data": run.fingerprint} if run.fingerprint else {}),
        },
    )
    newest.clear(folder.search_checkpoint)
