"""Refuse what is wrong with a study's settings before torch is loaded, which takes seconds."""

import dataclasses
import logging
from collections.abc import Sequence

from autolora.configs.errors import UserError
from autolora.configs.facts import read_by_comparison
from autolora.configs.keys import SPELLED
from autolora.configs.requests import Request
from autolora.configs.schema import RunConfig
from autolora.configs.tell_unread import tell_unread
from autolora.engine.run.asked import AskedOf
from autolora.engine.run.replacing import workplace
from autolora.engine.study.cells import Cell, expand, own_settings, tell_unknown_values
from autolora.engine.study.equal import tell_equal
from autolora.engine.study.folder import AskedOfStudy, StudyFolder
from autolora.engine.study.own_hypergradients import own_hypergradients
from autolora.engine.study.sources import refuse_missing_sources

log = logging.getLogger("autolora")


def refuse_early(request: Request) -> None:
    """Raises UserError for a stage that a study does not have, for axes or variants that make no valid cells, for a
    reference that is no row, for keys that no cell reads or takes over, and for cells that read from no cell."""
    asked = AskedOf(request.config, StudyFolder.of(request.config), request.stage, request.overwrite)
    refuse_stage(asked)
    folder = workplace(asked)
    cells = expand(request.config, folder)
    tell_unknown_values(request.config.study)
    if request.config.study.reference is not None:
        from autolora.engine.study.reference import (
            refuse_unknown_reference,  # loads pandas and scipy, which take a second
        )

        refuse_unknown_reference(request.config.study, cells)
    if request.stage != "report":
        _tell_overruled(request, cells)
        _tell_unread(request, cells)
        refuse_missing_sources(folder, cells)
        _refuse_wrong_classes(request.config, cells)
        tell_equal(request.config.study, cells)


def _tell_unread(request: Request, cells: Sequence[Cell]) -> None:
    """Reports each key that the user gave and that no cell reads; raises UserError for one that is refused."""
    study = request.config.study  # cells have none of their own
    tell_unread(request.given, request.config, [dataclasses.replace(cell.config, study=study) for cell in cells])


def _tell_overruled(request: Request, cells: Sequence[Cell]) -> None:
    """Raises UserError for a key of the command line that study.variants and study.where set in every cell; warns of
    one that they set in some cells. A key that is an axis is refused elsewhere."""
    study = request.config.study
    own = [{SPELLED.get(key, key) for key in own_settings(study, cell.values)} for cell in cells]
    for key in sorted(request.given.command - set(study.axes)):
        count = sum(key in keys for keys in own)
        if count == len(cells) and read_by_comparison(key, request.config):
            log.info("--%s: holds for the comparison of hypergradients alone; the study sets it in every cell", key)
        elif count == len(cells):
            raise UserError(
                f"--{key}: does nothing, as the study sets it in every cell; change it there (study.variants, "
                f"study.where), or leave it out"
            )
        elif count:
            log.warning(
                "--%s: holds for %d of the study's %d cells; in the others study.variants or study.where sets it",
                key, len(cells) - count, len(cells),
            )  # fmt: skip


def _refuse_wrong_classes(config: RunConfig, cells: Sequence[Cell]) -> None:
    """Raises UserError if a cell, or the comparison's own search, searches with a hypergradient of the user's own that
    cannot be made."""
    searches = [cell.config for cell in cells] + ([config] if config.study.probe.steps else [])
    for chosen in own_hypergradients(searches).values():
        from autolora.problems.hypergradients import approximation  # loads torch, but so does the user's file

        approximation(chosen.type, chosen.options)


def refuse_stage(asked: AskedOfStudy) -> None:
    """Refuses the stages that a study does not have."""
    if asked.stage not in ("all", "report"):
        raise UserError(f"--stage: {asked.stage!r} is not allowed for a study; allowed: all, report")
