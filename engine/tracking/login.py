"""Decide whether wandb is online, offline or disabled, and in which project, before it starts: without a key it would
ask for one and wait.

Keys are looked for where wandb looks: in the environment, netrc and wandb's settings files. wandb's own functions for
this are not used: they are not public, move between releases, print warnings, and refuse a key of an unusual length.
"""

import configparser
import netrc
import os
from contextlib import suppress
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from autolora.configs.errors import UserError
from autolora.configs.schema import RunConfig
from autolora.engine.run.asked import Asked

Mode = Literal["online", "offline", "disabled"]

_CLOUD = ("api.forge.coreweave.com", "api.wandb.ai")
"""The hosts of wandb's own server. wandb 0.31 logs in at the first one and looks for keys of both, in this order;
older versions know the second one alone."""
_NEWER = ("api.forge.coreweave.com", "forge.coreweave.com")
"""The hosts in a URL that mean the first one of _CLOUD: itself, and the proxy before it."""
# wandb still accepts its older words run and dryrun.
_MODES: dict[str, Mode] = {
    "online": "online", "run": "online", "offline": "offline", "dryrun": "offline", "disabled": "disabled",
}  # fmt: skip


def wandb_mode(config: RunConfig) -> Mode:
    """Whether wandb is online, offline or disabled in this run.

    With --tracking.wandb auto, WANDB_DISABLED, WANDB_MODE and `wandb offline` decide, in this order; without them,
    wandb is online if there is an API key, and offline if not. Raises UserError if online is asked for and there is no
    key, and for a WANDB_MODE that wandb would refuse, with the loss of all curves, whatever the mode.
    """
    wanted, told = config.tracking.wandb, os.environ.get("WANDB_MODE")
    switched_off = os.environ.get("WANDB_DISABLED", "").lower() in ("true", "1", "yes", "on")
    if wanted == "disabled" or (wanted == "auto" and switched_off):
        return "disabled"
    if told is not None and told not in _MODES:
        allowed = ", ".join(dict.fromkeys(_MODES.values()))
        raise UserError(f"WANDB_MODE: {told!r} is not allowed; allowed: {allowed}, or unset this environment variable")
    if wanted == "online":
        return _online("--tracking.wandb: 'online'")
    if wanted == "offline":
        return wanted
    mode = _MODES.get(told or "")
    if mode == "online":
        return _online(f"WANDB_MODE: {told!r}")
    # `online` in a settings file only undoes an earlier `wandb offline`; it does not demand a key.
    mode = mode or _MODES.get(_settings().get("mode", ""))
    if mode in ("offline", "disabled"):
        return mode
    return "online" if has_key() else "offline"


def _online(asked: str) -> Mode:
    if has_key():
        return "online"
    raise UserError(
        f"{asked} needs an API key of {_server() or 'wandb'}; run `wandb login`, which stores one, or set "
        "WANDB_API_KEY; allowed without a key: auto, offline, disabled (--tracking.wandb)"
    )


def project_of(config: RunConfig) -> str:
    """The wandb project. wandb itself would overlook the environment beside a project that it is given."""
    return config.tracking.project or os.environ.get("WANDB_PROJECT") or _settings().get("project") or "autolora"


def entity_of(config: RunConfig) -> str | None:
    """The wandb team or user to which runs go; None for this user's default, which only the server knows."""
    return config.tracking.entity or os.environ.get("WANDB_ENTITY") or _settings().get("entity")


def has_key() -> bool:
    """Whether this user has a wandb API key, or another credential, at hand for the server in use."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    return _in_netrc() or bool(_settings().get("api_key"))


def _in_netrc() -> bool:
    given = os.environ.get("NETRC")
    paths = [Path(name).expanduser() for name in ([given] if given else ["~/.netrc", "~/_netrc"])]
    # wandb, too, ignores a file that it cannot read.
    with suppress(OSError, ValueError, netrc.NetrcParseError):
        known = netrc.netrc(next(filter(Path.exists, paths), paths[0])).hosts
        # Of several hosts with an entry, wandb takes the first, even if that has no key.
        entry = next((known[host] for host in _hosts() if host in known), None)
        return entry is not None and bool(entry[2])
    return False


def _hosts() -> tuple[str, ...]:
    """The hosts whose keys in netrc are keys of the server in use, in wandb's order."""
    if not (server := _server()):
        return _CLOUD
    host = urlsplit(server).netloc
    return _CLOUD if host in _NEWER else (host,)


def _server() -> str:
    """The URL of the server that the user names; "" for none, which is wandb's own."""
    return os.environ.get("WANDB_BASE_URL") or _settings().get("base_url") or ""


def _settings() -> dict[str, str]:
    """The values in wandb's settings files: the user's, overwritten by those of the folder the program started in."""
    everywhere = os.environ.get("WANDB_CONFIG_DIR") or "~/.config/wandb"
    here = Path(".wandb" if Path(".wandb").exists() else "wandb")
    found: dict[str, str] = {}
    for path in (Path(everywhere).expanduser() / "settings", here / "settings"):
        parser = configparser.ConfigParser(interpolation=None)
        with suppress(OSError, UnicodeDecodeError, configparser.Error):
            parser.read(path, encoding="utf-8")
            found |= dict(parser.items("default"))
    return found


def refuse_online_without_key(asked: Asked) -> None:
    """Refuses, before anything is trained, a run that must send its curves online but has no API key."""
    if asked.stage != "report":
        wandb_mode(asked.config)
