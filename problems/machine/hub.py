"""The model hub: find out whether it answers, and say in one line, without a traceback, what cannot be loaded."""

import http.client
import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError

from autolora.configs.errors import UserError

_ERRORS = (OSError, ValueError, ImportError, RuntimeError, SafetensorError, StrictDataclassError)
_LONGEST = 300
"""Letters of a library's message that are told."""


@contextmanager
def explain_missing(key: str, name: str) -> Iterator[None]:
    """Turns an error of transformers or datasets into one UserError line: option `key` cannot load `name`, and what
    the library says."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        # The hub is asked with httpx, which newer versions call httpx2; its errors are no OSError. Faults of the
        # device, such as too little memory, are no matter of what is loaded.
        loads = isinstance(error, _ERRORS) or type(error).__module__.startswith("httpx")
        if not loads or "CUDA" in str(error):
            raise
        said = " ".join(str(error).split())[:_LONGEST] or type(error).__name__
        raise UserError(f"{key}: cannot load {name!r} ({said})") from error


def settle_hub_access(timeout: float = 8.0) -> bool:
    """Whether the model hub answers; if not, tells its libraries to read their cache only.

    The libraries would otherwise retry each file, for most of a minute if the hub refuses and for five minutes if it
    never answers. Must run before they are imported, as they read the setting then. `timeout` in seconds. Behind a
    proxy the hub is not asked: the function assumes that it answers. Raises UserError if HF_ENDPOINT is no address.
    """
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        return False
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return True
    endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    if not endpoint.startswith(("https://", "http://")):
        raise UserError(
            f"HF_ENDPOINT: {endpoint!r} is not allowed; allowed: an address that begins with https:// or http://"
        )
    if not _answers(endpoint, timeout):
        os.environ["HF_HUB_OFFLINE"] = "1"
        return False
    return True


def _answers(address: str, timeout: float) -> bool:
    """Whether the address answers; an error page or an unknown certificate is an answer, too."""
    try:
        urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=timeout).close()
    except urllib.error.HTTPError:
        return True
    except urllib.error.URLError as error:
        return isinstance(error.reason, ssl.SSLError)
    except (OSError, http.client.HTTPException):
        return False
    return True
