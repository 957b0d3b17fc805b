"""Plain PEFT LoRA at given ranks: learned by a search, chosen by trials, the same everywhere, shuffled, or random."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peft import PeftModel
from transformers import PreTrainedModel

from autolora.engine import ranks
from autolora.engine.export.lora_config import adapter_config, attach_ranks
from autolora.engine.export.outputs import save_all
from autolora.engine.ranks import RankRecord, controls
from autolora.engine.retrain.common_numbers import start_in_common
from autolora.engine.retrain.components import adapter_to_start_from, components_of
from autolora.engine.retrain.from_search import start_from_adapter, start_from_search
from autolora.engine.retrain.methods.base import Method, Prepared, budget_of, layer_sizes
from autolora.engine.retrain.same_ranks import refuse_changed_ranks
from autolora.engine.retrain.sources import ranks_from
from autolora.engine.run.context import Context
from autolora.problems.models.attach import ADAPTER
from autolora.problems.models.layers import layer_shapes, lora_layers_of
from autolora.problems.models.load import BaseModel
from autolora.problems.models.parts import layer_ranks

K_BLAME = Path("--lora.k")
"""The option that an error names if rank k does not fit the model."""

Source = Callable[[PreTrainedModel, Context], tuple[RankRecord, Path]]
"""Gives the ranks for a model, and the file or option that an error names if they do not fit the model."""


class RankedLora(Method):
    """LoRA at the ranks that `source` gives; `chosen`: whether `prepare` writes these ranks to ranks.json."""

    def __init__(self, source: Source, *, chosen: bool = True) -> None:
        self.source = source
        self.chosen = chosen

    def prepare(self, base: BaseModel, run: Context, rows: int) -> Prepared:
        """Attaches LoRA. Raises UserError for ranks that do not fit the model or differ from those of half-done work
        in the run folder."""
        record, blame = self.source(base.model, run)
        return recorded_lora(record, blame, base, run, new=self.chosen)

    def save(self, prepared: Prepared, run: Context) -> RankRecord | None:
        """Writes adapter/ and the other exports that the run asks for."""
        assert isinstance(prepared.model, PeftModel)
        save_all(prepared.model, run.tokenizer, run.folder, run.adapted, run.ends)
        return prepared.record


def recorded_lora(record: RankRecord, blame: Path, base: BaseModel, run: Context, *, new: bool = True) -> Prepared:
    """`lora_at` for the ranks of the run itself.

    Before it, ranks that differ from those of half-done work in the run folder are refused. `new`: when the training
    begins, the ranks are written to ranks.json."""
    if run.processes.first:
        refuse_changed_ranks(record, blame, run.folder)
    prepared = lora_at(record, blame, base, run)
    return dataclasses.replace(prepared, new_ranks=new)


def lora_at(record: RankRecord, blame: Path, base: BaseModel, run: Context) -> Prepared:
    """`base` with LoRA at the ranks of a record, at the scale that `retrain.scale` names.

    Raises UserError that names `blame` when the ranks do not fit the model.
    """
    config = run.adapted
    ranks.check_against(record, layer_shapes(base.model), blame)
    sizes = layer_sizes(base.model)
    count = ranks.count_parameters(record.kept, sizes)
    stored = ranks.count_parameters(layer_ranks(record.kept), sizes)
    record = ranks.of_run(dataclasses.replace(record, lora_parameters=count), config)
    model = attach_ranks(base.model, adapter_config(config, record, run.task, base.trained_whole), record)
    start_in_common(model, record, config.seed)
    if (adapter := adapter_to_start_from(config)) is not None:
        start_from_adapter(model, adapter)
    elif config.retrain.start != "scratch":
        start_from_search(model, config, record, components_of(config, run.folder, record))
    return Prepared(model, record, zeros=stored - count)


def as_plain_lora(trained: PeftModel, record: RankRecord, run: Context) -> tuple[PeftModel, RankRecord]:
    """Moves the base model of `trained`, with the modules that were trained whole, into a new model with fresh plain
    LoRA at the ranks of `record`, in evaluation mode. Also returns the record with its number of LoRA parameters and
    the run's scale. Afterwards only the LoRA layers of `trained` may be used."""
    settings: Any = trained.peft_config[ADAPTER]
    whole = list(settings.modules_to_save or [])
    base: Any = trained.unload()
    count = ranks.count_parameters(record.kept, layer_sizes(base))
    record = ranks.of_run(dataclasses.replace(record, lora_parameters=count), run.adapted)
    model = attach_ranks(base, adapter_config(run.adapted, record, run.task, whole), record)
    model.eval()
    return model, record


def of_the_run(model: PreTrainedModel, run: Context) -> tuple[RankRecord, Path]:
    """The ranks in the run's own ranks.json, which a search or trials chose, or someone wrote by hand."""
    return ranks.load(run.folder.ranks), run.folder.ranks


def uniform(model: PreTrainedModel, run: Context) -> tuple[RankRecord, Path]:
    """The usual LoRA: rank lora.r in every layer that the target modules match."""
    settings = run.adapted.lora
    return controls.uniform(lora_layers_of(model, settings), settings.r, settings.k), Path("--lora.r")


def of_another(model: PreTrainedModel, run: Context) -> tuple[RankRecord, Path]:
    """The ranks in lora.ranks_from, unchanged."""
    source = ranks_from(run.config)
    given = ranks.load(source)
    ranks.check_against(given, layer_shapes(model), source)
    return controls.given(given), source


def shuffled(model: PreTrainedModel, run: Context) -> tuple[RankRecord, Path]:
    """A control for whether it matters which layer has which rank: the ranks in lora.ranks_from, permuted by the seed
    among layers of one size or of one type."""
    source = ranks_from(run.config)
    given = ranks.load(source)
    ranks.check_against(given, layer_shapes(model), source)
    return controls.shuffled(given, layer_shapes(model), _draw(run), run.adapted.lora.shuffle), source


def random(model: PreTrainedModel, run: Context) -> tuple[RankRecord, Path]:
    """A control for whether learned ranks beat random ones: random ranks with as many parameters as lora.ranks_from
    has or, if that is null, as lora.budget gives; no rank above lora.cap."""
    lora, sizes = run.adapted.lora, layer_sizes(model)
    if lora.ranks_from is None:
        names, source = lora_layers_of(model, lora), Path("--lora.budget")
        own = [sizes[name] for name in names]
        budget = budget_of(lora, own, least=min(own))
    else:
        source = ranks_from(run.config)
        like = ranks.load(source)
        ranks.check_against(like, layer_shapes(model), source)
        budget = ranks.count_parameters(like.kept, sizes)
        names = [layer.name for layer in like.layers]
    return controls.random_ranks(names, layer_shapes(model), budget, like.k, _draw(run), lora.cap), source


def _draw(run: Context) -> controls.Draw:
    """The seed and the number of a run's random draw."""
    lora, seed = run.adapted.lora, run.config.seed
    return (seed if lora.draw_seed is None else lora.draw_seed), lora.draw
