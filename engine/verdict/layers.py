"""The layers that a verdict is about: their ranks, the parameters of a component, and the largest rank of each."""

import dataclasses

from autolora.configs.errors import UserError
from autolora.configs.schema import Searching
from autolora.engine import ranks
from autolora.engine.ranks import RankRecord
from autolora.engine.run.contents import parameters_per_rank, read_searched
from autolora.engine.run.context import Context
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import StopRequest
from autolora.engine.verdict.arms import Arms, rate_of
from autolora.engine.verdict.folder import VerdictFolder
from autolora.problems.models.layers import layer_shapes, lora_layers_of


def arms_of(config: Searching, folder: RunFolder, stop: StopRequest) -> Arms:
    """The arms that are compared. Raises UserError for ranks that cannot be trained."""
    record = ranks.load(folder.ranks)
    if not record.kept:
        raise UserError(f"{folder.ranks}: every rank is 0; at least one layer needs a rank of 1 or more")
    sizes, largest = _sizes(config, folder, record, stop)
    listed = {layer.name for layer in record.layers}
    dropped = tuple(ranks.LayerRank(name, 0) for name in sizes if name not in listed)
    record = dataclasses.replace(record, layers=record.layers + dropped)
    return Arms(config, VerdictFolder(folder.verdict), record, sizes, rate_of(config, folder), largest)


def _sizes(
    config: Searching, folder: RunFolder, record: RankRecord, stop: StopRequest
) -> tuple[dict[str, int], dict[str, int] | None]:
    """Name -> LoRA parameters of one component, of every layer that may have LoRA, as the search wrote them or as the
    base model has them; and name -> the largest rank of each, None if each can have every rank of the record.

    They are the layers of the search, or those of the record and of lora.target_modules: a record that someone wrote
    by hand may list only those with LoRA. Raises UserError for ranks that the model cannot have.
    """
    names, known = [layer.name for layer in record.layers], parameters_per_rank(folder)
    searched = set(names) <= set(known)
    if searched and max(record.kept.values()) <= _searched_rank(folder):
        return known, None
    model = Context(config, stop, folder=folder).base().model
    shapes = layer_shapes(model)
    ranks.check_against(record, shapes, folder.ranks)
    layers = list(known) if searched else [*names, *lora_layers_of(model, config.lora)]
    return {name: sum(shapes[name]) for name in layers}, {name: min(shapes[name]) for name in layers}


def _searched_rank(folder: RunFolder) -> int:
    """The rank that the run's search gave every layer, so that every layer can have it; 0 if it did not search."""
    rank = read_searched(folder.search_summary).get("settings", {}).get("lora.k")
    return rank if isinstance(rank, int) else 0
