"""The model hub: whether it answers, and one line about what cannot be loaded from it or from a
folder."""

import os
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from safetensors import SafetensorError

from autolora.configs.errors import UserError


@contextmanager
def explain_missing(key: str, name: str) -> Iterator[None]:
    """Turns an error of transformers or datasets into one UserError line: option `key` cannot load
    `name`, and the first line of what the library says. Defects and faults of the device keep their
    traceback."""
    try:
        yield
    except (OSError, ValueError, ImportError, SafetensorError) as error:
        said = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UserError(f"{key}: cannot load {name!r}: {said}") from error


def settle_hub_access(timeout: float = 8.0) -> None:
    """Tells the hub's libraries to read their cache alone if nothing can be connected to the hub
    within `timeout` seconds: they would try each file again, for minutes.

    Must run before they are imported, as they read the setting then. Behind a proxy nothing is
    tried."""
    if os.environ.get("HF_HUB_OFFLINE") or urllib.request.getproxies():
        return
    hub = urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    try:
        socket.create_connection((hub.hostname, hub.port or 443), timeout).close()
    except OSError:
        os.environ["HF_HUB_OFFLINE"] = "1"
