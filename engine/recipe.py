"""A run from its first stage to its last: search, measure, choose, retrain, evaluate.

Each stage is a function of values. `Store.stage` calls it and keeps what it gives; a stage that
reads an earlier one reads it from the folder, so that it makes no difference when that was made.
"""

from dataclasses import replace
from typing import Any

from autolora.configs.schema import Autolora, RunConfig, WithLora
from autolora.engine.choose import choose
from autolora.engine.disk.files import read_json
from autolora.engine.export.adapter import Export
from autolora.engine.inputs import Inputs, base_of, known_rows, read_inputs, split_of
from autolora.engine.measure_search import MeasuredSearch, measure_search
from autolora.engine.methods import form_of, method_of
from autolora.engine.result import evaluate_run
from autolora.engine.retrain.prepared import Method, Training
from autolora.engine.retrain.retrain import retrain
from autolora.engine.retrain.trials import of_a_trial, try_ranks, try_rates
from autolora.engine.search.searched import Algorithm, Searched
from autolora.engine.store.copied import copy_search
from autolora.engine.store.sources import source_of
from autolora.engine.store.store import Store
from autolora.problems.models.base import BaseOnDisk
from autolora.problems.rows import Rows


def run_recipe(config: RunConfig, store: Store) -> None:
    """Runs the stages that the store asks for and that are not done.

    Raises Changed if what is done was made from other rows or another base model, UserError for
    what the user must change, Interrupted if a signal asked to stop.
    """
    inputs, base = read(config, store)
    todo = store.todo()
    if not todo:  # the rows are the same, under another name; the base model may be another one
        base.lend()
    with base.loaded_once():  # one base model serves all stages that end in ranks.json
        if isinstance(config, Autolora):
            find_ranks(config, store, inputs, base, todo)
        elif "grid" in todo:
            choose_by_trials(config, store, inputs, base)
    store.world.compute.let_go()  # first: the training loads another one
    if "retrain" in todo:
        train(config, store, inputs, base)
    if todo & {"retrain", "evaluate"}:
        store.stage("evaluate", evaluate_run, config, store.folder, inputs, base)


def read(config: RunConfig, store: Store) -> tuple[Inputs, BaseOnDisk]:
    """The rows, compared with those from which the stages in the folder were made, and the base
    model, which is compared when it is loaded."""
    store.world.check()
    inputs = read_inputs(config, store.world.processes)
    for name, (value, where) in known_rows(inputs).items():
        store.know(name, value, where)
    if config.sweeps or config.searches:
        store.know("seed of the rows", config.data_seed, "--task.seed")
    base = base_of(
        config,
        inputs,
        store.world.compute,
        named=config.of_lora("ranks_from") is not None or store.folder.ranks.exists(),
        tell=store.know_base,
        check=store.world.check,
    )
    return inputs, base


def find_ranks(
    config: Autolora, store: Store, inputs: Inputs, base: BaseOnDisk, todo: set[str]
) -> None:
    """Searches, measures and chooses; each if it is not done."""
    root = store.folder.root
    scoring = inputs.scoring
    algorithm = algorithm_of(config)
    source = source_of(config)
    if "search" in todo and source is not None:
        store.stage("search", copy_search, source)
    elif "search" in todo:
        # only here: the other stages need no Betty
        from autolora.engine.search.search import search

        d_tr, d_val = split_of(config, inputs.rows.train)
        store.stage("search", search, base, d_tr, d_val, scoring, algorithm)
    if "measure" in todo:
        d_tr, d_val = split_of(config, inputs.rows.train)
        store.stage(
            "measure",
            measure_search,
            base,
            Searched.load(root),
            d_tr,
            d_val,
            scoring,
            algorithm,
            config.measure,
            batch=config.evaluation_batch,
        )
    if "choose" in todo:
        store.stage(
            "choose",
            choose,
            Searched.load(root),
            MeasuredSearch.load(root),
            config.choose,
            scoring,
            config.lora,
            config.retrain.scale,
            config.model,
        )


def choose_by_trials(config: Any, store: Store, inputs: Inputs, base: BaseOnDisk) -> None:
    """Ranks by trials on D_tr, judged on D_val."""
    trial, d_val = trial_of(config, inputs)
    form = form_of(config, store.folder)
    batch = config.evaluation_batch
    store.stage("grid", try_ranks, base, config.lora, form, trial, d_val, batch=batch)


def train(config: RunConfig, store: Store, inputs: Inputs, base: BaseOnDisk) -> None:
    """The training on all rows, at a learning rate that trials choose if there are several."""
    method: Method = method_of(config, store.folder)
    rate = config.retrain.rates[0]
    if config.sweeps:
        trial, d_val = trial_of(config, inputs)
        rates = config.retrain.rates
        batch = config.evaluation_batch
        store.stage("sweep", try_rates, base, method, trial, d_val, rates, batch=batch)
        rate = read_json(store.folder.sweep_trials)["chosen"]["learning_rate"]
    training = training_of(config, inputs, inputs.rows.train)
    at_rate = replace(training, settings=settings_at(config, rate))
    store.stage("retrain", retrain, base, method, at_rate, export_of(config, inputs))


def algorithm_of(config: Autolora) -> Algorithm:
    """How a run searches."""
    return Algorithm(
        config.lora,
        config.search,
        config.hypergradient,
        config.choose,
        config.seed,
        config.model.gradient_checkpointing,
    )


def training_of(config: RunConfig, inputs: Inputs, rows: Rows) -> Training:
    """A training of a run on these rows, at the first of its learning rates."""
    return Training(
        rows,
        inputs.scoring,
        settings_at(config, config.retrain.rates[0]),
        config.seed,
        config.model.gradient_checkpointing and config.trains_blocks,
    )


def settings_at(config: RunConfig, rate: float) -> Any:
    """The settings of a training, at one learning rate."""
    return config.retrain.model_copy(update={"learning_rate": rate})


def trial_of(config: RunConfig, inputs: Inputs) -> tuple[Training, Rows]:
    """A training on D_tr, and D_val."""
    d_tr, d_val = split_of(config, inputs.rows.train)
    training = training_of(config, inputs, d_tr)
    settings = of_a_trial(training.settings, d_tr, inputs.rows.train)
    return replace(training, settings=settings), d_val


def export_of(config: RunConfig, inputs: Inputs) -> Export:
    """In which forms a run writes its trained model."""
    plain = Export(config.model, inputs.tokenizer, inputs.ends)
    if not isinstance(config, WithLora):
        return plain
    return replace(
        plain,
        padded=config.writes_padded,
        merged=config.export.merged,
        for_trainers=config.searches is not None,
    )
