"""Whether wandb runs online, offline or not at all: settled before it is called, as without a key it would ask for
one and wait.

Keys are looked for where wandb looks: environment, netrc, its settings files. What is done with them is wandb's own.
"""

from __future__ import annotations

import configparser
import netrc
import os
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from configs.errors import UserError
from configs.schema import RunConfig

Mode = Literal["online", "offline", "disabled"]

_SERVER = "https://api.wandb.ai"
# run and dryrun are wandb's older words.
_MODES: dict[str, Mode] = {
    "online": "online", "run": "online", "offline": "offline", "dryrun": "offline", "disabled": "disabled",
}  # fmt: skip


def wandb_mode(config: RunConfig) -> Mode:
    """online, offline or disabled. auto: as WANDB_DISABLED, WANDB_MODE or `wandb offline` say, else online with an API
    key, else offline.

    Raises UserError when online is asked for and there is no key.
    """
    wanted, told = config.tracking.wandb, os.environ.get("WANDB_MODE", "")
    if wanted == "online":
        return _online("--tracking.wandb: 'online'")
    if wanted != "auto":
        return wanted
    if os.environ.get("WANDB_DISABLED", "").lower() in ("true", "1", "yes", "on"):
        return "disabled"
    mode = _MODES.get(told.lower())
    if mode == "online":
        return _online(f"WANDB_MODE: {told!r}")
    # In the files `online` is only what holds where nothing else was said.
    mode = mode or _MODES.get(_settings().get("mode", ""))
    if mode in ("offline", "disabled"):
        return mode
    return "online" if has_key() else "offline"


def _online(asked: str) -> Mode:
    if has_key():
        return "online"
    raise UserError(
        f"{asked} needs an API key of {_server()}; run `wandb login` or set WANDB_API_KEY; allowed without: auto, "
        "offline, disabled (--tracking.wandb)"
    )


def has_key() -> bool:
    """Whether this user has a wandb API key, or another credential, at hand for the server in use."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    return _in_netrc() or bool(_settings().get("api_key"))


def _in_netrc() -> bool:
    home = Path.home()
    given = os.environ.get("NETRC")
    paths = [Path(given).expanduser()] if given else [home / ".netrc", home / "_netrc"]
    path = next((path for path in paths if path.exists()), None)
    if path is None:
        return False
    try:
        found = netrc.netrc(str(path)).hosts.get(urlsplit(_server()).netloc)
    except (OSError, ValueError, netrc.NetrcParseError):  # wandb cannot read it either
        return False
    return found is not None and bool(found[2])


def _server() -> str:
    return os.environ.get("WANDB_BASE_URL") or _settings().get("base_url") or _SERVER


def _settings() -> dict[str, str]:
    """wandb's settings files: the user's, and over it that of the folder in which the program was started."""
    everywhere = os.environ.get("WANDB_CONFIG_DIR") or "~/.config/wandb"
    found: dict[str, str] = {}
    here = Path(".wandb" if Path(".wandb").exists() else "wandb")
    for path in (Path(everywhere).expanduser() / "settings", here / "settings"):
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read(path, encoding="utf-8")
        except (OSError, UnicodeDecodeError, configparser.Error):  # wandb goes on without it, too
            continue
        if parser.has_section("default"):
            found |= dict(parser.items("default"))
    return found
