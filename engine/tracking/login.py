"""Whether wandb is online, offline or disabled; without a key wandb would ask for one and wait."""

import os
from typing import Any, Literal

from autolora.configs.errors import UserError
from autolora.configs.schema import RunConfig

Mode = Literal["online", "offline", "disabled"]


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
        known = wandb.login(prompt=False, verify=False)
    except wandb.errors.AuthenticationError:  # a malformed key
        known = False
    if not known and wanted == "online":
        raise UserError("--tracking.wandb: online needs an API key; run `wandb login`, or set WANDB_API_KEY")
    return "online" if known else "offline"
