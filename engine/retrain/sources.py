"""Refuse a run that would overwrite the files that it reads."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from autolora.configs.errors import UserError
from autolora.configs.schema import RunConfig
from autolora.engine.choose.reuse import source_of
from autolora.engine.retrain.components import components_from
from autolora.engine.run.asked import Asked
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.places import filled_in


def refuse_own_sources(asked: Asked) -> None:
    """Refuses a run whose settings name files that the run itself would write, even without --overwrite."""
    if asked.stage == "report":
        return
    # These methods read another run's ranks.json and write this run's own. They write it also with --stage retrain,
    # whose `outputs` do not list it.
    ranks = [asked.folder.ranks] if named_ranks(asked.config) else []
    refuse_sources_in([*asked.folder.outputs(asked.stage), *ranks], asked.config)


def refuse_missing_ranks(asked: Asked) -> None:
    """Refuses, before the model is loaded, a run that would read ranks from a file that does not exist."""
    config = asked.config
    reads = asked.stage != "report" and named_ranks(config) is not None
    done = asked.folder.metrics.exists() and not asked.replaces
    if reads and not done and not (path := ranks_from(config)).exists():
        raise UserError(
            f"--lora.ranks_from: {path} does not exist; allowed: a ranks.json, or the folder of a run that has one"
        )


def refuse_sources_in(outputs: Iterable[Path], config: RunConfig) -> None:
    """Raises UserError for the first key of `config` that names something in `outputs`."""
    places = [os.path.realpath(output) for output in outputs]
    for key, path in _sources(config):
        if any(Path(os.path.realpath(path)).is_relative_to(place) for place in places):
            raise UserError(
                f"--{key}: {path} is among the results that this command would overwrite; give the new run "
                f"another --name"
            )


def _sources(config: RunConfig) -> Iterator[tuple[str, Path]]:
    """Each key that may name a file or folder, with what it names."""
    task = config.task
    named: dict[str, str | None] = dict(task.files.items())
    named["chat_template"] = getattr(task, "chat_template", None)
    named = {f"task.{key}": path for key, path in named.items()} | {"model.name": config.model.name}
    yield from ((key, Path(name).expanduser()) for key, name in named.items() if name)
    source = source_of(config)
    if source is not None:
        yield "answer.from", source.ranks
    if named_ranks(config):
        yield "lora.ranks_from", ranks_from(config)
    components = components_from(config)
    if components is not None:
        yield "retrain.init", components.search


def named_ranks(config: RunConfig) -> str | None:
    """lora.ranks_from; None for a method without it."""
    found: str | None = getattr(getattr(config, "lora", None), "ranks_from", None)
    return found


def ranks_from(config: RunConfig) -> Path:
    """The ranks.json that lora.ranks_from names, itself or by its folder; {seed}, {task} and {runs} are filled in."""
    path = filled_in(str(named_ranks(config)), config)
    return RunFolder(path).ranks if path.is_dir() else path
