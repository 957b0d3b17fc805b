"""The model hub: whether it answers, and one line about what cannot be loaded from it or from a folder."""

import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from safetensors import SafetensorError

from autolora.configs.errors import UserError


@contextmanager
def explain_missing(key: str, name: str) -> Iterator[None]:
    """Turns an error of transformers or datasets into one UserError line: option `key` cannot load `name`, and the
    first line of what the library says. Defects and faults of the device keep their traceback."""
    try:
        yield
    except (OSError, ValueError, ImportError, SafetensorError) as error:
        said = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UserError(f"{key}: cannot load {name!r}: {said}") from error


def settle_hub_access(timeout: float = 8.0) -> None:
    """Tells the hub's libraries to read their cache alone if the hub does not answer within `timeout` seconds.

    They would otherwise try each file again, for a minute if the hub refuses and for five if it never answers. Must
    run before they are imported, as they read the setting then. Behind a proxy the hub is not asked.
    """
    switched_off = os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}
    if switched_off or urllib.request.getproxies().keys() & {"https", "all"}:
        return
    endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    try:
        urllib.request.urlopen(urllib.request.Request(endpoint, method="HEAD"), timeout=timeout).close()
    except urllib.error.HTTPError:
        return  # an error page is an answer
    except OSError as error:
        # So is a certificate that Python does not know: the libraries bring their own.
        if not isinstance(getattr(error, "reason", None), ssl.SSLError):
            os.environ["HF_HUB_OFFLINE"] = "1"
