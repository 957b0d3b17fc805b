"""Whether wandb is online, offline or disabled; without a key wandb would ask for one and wait."""

import logging
import os
from typing import Any, Literal

from autolora.configs.errors import UserError
from autolora.configs.schema import RunConfig
from autolora.engine.run.asked import Asked

Mode = Literal["online", "offline", "disabled"]

log = logging.getLogger("autolora")


def wandb_settings() -> Any:
    """wandb's own settings: those of the environment and of its files."""
    os.environ.setdefault("WANDB_SILENT", "true")
    import wandb

    return wandb.setup().settings


def wandb_mode(config: RunConfig) -> Mode:
    """Whether wandb is online, offline or disabled in this run.

    With --tracking.wandb auto, wandb's settings decide (WANDB_MODE, `wandb offline`); if they do not, wandb is online
    if it finds an API key. Raises UserError if online is asked for and there is no key.
    """
    wanted = config.tracking.wandb
    if wanted in ("disabled", "offline"):
        return wanted
    settings = wandb_settings()
    if wanted == "auto" and (settings._noop or settings._offline):
        return "disabled" if settings._noop else "offline"
    import wandb

    try:
        if wandb.login(prompt=False, verify=False):
            return "online"
        why = "wandb finds no API key here, or is set to offline"
    except wandb.errors.AuthenticationError as error:
        why = str(error)
        log.warning("wandb: %s", why)
    if wanted == "online":
        raise UserError(f"--tracking.wandb: online is not possible, as {why}; run `wandb login`, or set WANDB_API_KEY")
    return "offline"


def refuse_online_without_key(asked: Asked) -> None:
    """Refuses, before anything is trained, a run that must send its curves online but has no API key."""
    if asked.stage != "report" and asked.config.tracking.wandb == "online":
        wandb_mode(asked.config)
