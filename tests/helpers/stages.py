"""The stages of a run one by one, as the recipe calls them, for tests of what lies between."""

from functools import cached_property
from typing import Any

from peft import PeftModel
from transformers import PreTrainedModel

from autolora.configs.schema import RunConfig
from autolora.engine.choose import choose
from autolora.engine.inputs import Inputs, base_of, read_inputs, split_of
from autolora.engine.interrupt import StopRequest
from autolora.engine.measure.passes import Passes
from autolora.engine.measure_search import (
    MeasuredSearch,
    measure_search,
    train_head,
)
from autolora.engine.methods import method_of
from autolora.engine.recipe import algorithm_of, training_of
from autolora.engine.retrain.prepared import Prepared, Training
from autolora.engine.search.engine import SearchEngine
from autolora.engine.search.search import prepare_search, search
from autolora.engine.search.searched import Algorithm, Searched
from autolora.engine.store.folder import RunFolder
from autolora.engine.world import World
from autolora.problems.machine.compute import choose_compute
from autolora.problems.models.base import BaseOnDisk
from autolora.problems.models.load import BaseModel
from autolora.problems.rows import Rows, Splits


class Stages:
    """What the stages of a run are given. What a stage leaves is saved in the run's folder."""

    def __init__(self, config: RunConfig, stop: StopRequest | None = None) -> None:
        self.config: Any = config
        self.folder = RunFolder.of(config)
        compute = choose_compute(config.device, config.precision)
        self.world = World(compute, stop=stop or StopRequest())

    @cached_property
    def inputs(self) -> Inputs:
        return read_inputs(self.config)

    @cached_property
    def lent(self) -> BaseOnDisk:
        """The base, which is loaded anew each time."""
        named = self.config.of_lora("ranks_from") is not None or self.folder.ranks.exists()
        return base_of(self.config, self.inputs, self.world.compute, named=named)

    @property
    def rows(self) -> Splits[Rows]:
        return self.inputs.rows

    @property
    def algorithm(self) -> Algorithm:
        return algorithm_of(self.config)

    @property
    def training(self) -> Training:
        """That on all rows."""
        return training_of(self.config, self.inputs, self.rows.train)

    def split(self) -> tuple[Rows, Rows]:
        return split_of(self.config, self.rows.train)

    def base(self) -> BaseModel:
        return self.lent.lend()

    def at(self, stage: str) -> World:
        """The world of a stage that keeps its work in the run's folder."""
        world = self.world
        return World(world.compute, work=self.folder.root / stage, stop=world.stop)

    def engine(self) -> SearchEngine:
        """The engine of the search before its first step."""
        d_tr, d_val = self.split()
        scoring = self.inputs.scoring
        return prepare_search(self.lent, d_tr, d_val, scoring, self.algorithm, self.world)

    def search(self) -> Searched:
        d_tr, d_val = self.split()
        world = self.at("search")
        searched = search(self.lent, d_tr, d_val, self.inputs.scoring, self.algorithm, world)
        searched.save(self.folder.root)
        self.folder.clear_leftovers()
        return searched

    def find_ranks(self) -> Searched:
        """Searches, measures and chooses."""
        searched = self.search()
        d_tr, d_val = self.split()
        config = self.config
        measured = measure_search(
            self.lent,
            Searched.load(self.folder.root),
            d_tr,
            d_val,
            self.inputs.scoring,
            self.algorithm,
            config.measure,
            self.at("measure"),
            batch=config.evaluation_batch,
        )
        measured.save(self.folder.root)
        choose(
            searched,
            MeasuredSearch.load(self.folder.root),
            config.choose,
            self.inputs.scoring,
            config.lora,
            config.retrain.scale,
            config.model,
            self.world,
        ).save(self.folder.root)
        return searched

    def searched_model(self) -> PeftModel:
        """The searched model, from its files."""
        searched = Searched.load(self.folder.root)
        return searched.model(self.base(), self.config.lora, self.inputs.scoring)

    def passes(self, rows: Rows) -> Passes:
        batch = self.config.evaluation_batch
        return Passes.of(rows, self.inputs.scoring, self.world, batch)

    def train_head(self, d_tr: Rows, judged_on: Rows) -> tuple[PreTrainedModel, int]:
        passes = self.passes(judged_on)
        scoring = self.inputs.scoring
        return train_head(self.lent, d_tr, passes, scoring, self.algorithm, self.world)

    def prepared(self) -> Prepared:
        """What the run's method prepares."""
        method = method_of(self.config, self.folder)
        return method.prepare(self.base(), self.training, self.world)
