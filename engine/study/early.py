"""Refuse what is wrong with a study's settings before torch is loaded, which takes seconds."""

from configs.errors import UserError
from configs.requests import Request
from engine.run.opening import AskedOf
from engine.study.cells import expand
from engine.study.folder import AskedOfStudy, StudyFolder


def refuse_early(request: Request) -> None:
    """Raises UserError for a stage that a study does not have, and for axes or variants that make no valid cells."""
    folder = StudyFolder.of(request.config)
    refuse_stage(AskedOf(request.config, folder, request.stage, request.overwrite))
    expand(request.config, folder)


def refuse_stage(asked: AskedOfStudy) -> None:
    """Refuses the stages that a study does not have."""
    if asked.stage not in ("all", "report"):
        raise UserError(f"--stage: {asked.stage!r} is not allowed for a study; allowed: all, report")
