"""Online, offline or not at all: what each word, file and variable decides, and that nothing ever asks."""

import builtins
from collections.abc import Callable
from pathlib import Path

import pytest
import wandb

from autolora.configs.errors import UserError
from autolora.configs.schema import RunConfig
from autolora.engine.tracking.login import has_key, wandb_mode
from autolora.engine.tracking.wandb_run import Wandb

NAMES = (
    "WANDB_MODE", "WANDB_DISABLED", "WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_BASE_URL", "WANDB_CONFIG_DIR",
    "NETRC",
)  # fmt: skip
MINE = "machine api.forge.coreweave.com\n  login user\n  password k\n"
OLDER = "machine api.wandb.ai\n  login user\n  password k\n"


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No word about wandb anywhere; returns the home folder, which is the working folder too."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home)
    return home


@pytest.fixture
def mode(tiny_config: Callable[..., RunConfig]) -> Callable[[str], str]:
    """mode("auto"): what --tracking.wandb auto comes to."""
    return lambda word="auto": wandb_mode(tiny_config("--tracking.wandb", word))


def write(path: Path, text: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())


NETRCS: dict[str, tuple[str | bytes, bool]] = {
    "another machine's": ("machine example.org login a password b\n", False),
    "its own": (MINE, True),
    "its own, of an older wandb": (OLDER, True),
    "its own among others": (f"machine a.org login b password c\n{MINE}", True),
    "in a comment": ("# machine api.wandb.ai login user password k\n", False),
    "of a server whose name begins so": ("machine api.wandb.ai.example.org login user password k\n", False),
    "for everyone": ("default login anonymous password me\n", False),
    "without a key": ("machine api.wandb.ai login user\n", False),
    "without a key, before one of an older wandb": (f"machine api.forge.coreweave.com login user\n{OLDER}", False),
    "no netrc": ("machine\n\nnonsense {", False),
    "no text": (b"\xff\xfe", False),
}


@pytest.mark.parametrize("case", NETRCS)
def test_a_key_in_netrc_is_of_one_machine(home: Path, mode: Callable[..., str], case: str) -> None:
    content, found = NETRCS[case]
    assert mode() == "offline"
    write(home / ".netrc", content)
    assert has_key() is found
    assert mode() == ("online" if found else "offline")


def test_a_key_that_wandb_itself_has_stored_is_found(home: Path) -> None:
    """wandb 0.31 stores it under another host than older versions: whoever had logged in counted as without a key."""
    wbauth = pytest.importorskip("wandb.sdk.lib.wbauth", reason="this wandb stores its keys by other functions")
    wbauth.write_netrc_auth(host=wandb.Settings().base_url, api_key="k" * 40)
    assert (home / ".netrc").exists()
    assert has_key()


NEWER_URL, PROXY_URL, OLDER_URL = (
    "https://api.forge.coreweave.com", "https://forge.coreweave.com/api/wandb", "https://api.wandb.ai",
)  # fmt: skip


@pytest.mark.parametrize("url", [NEWER_URL, PROXY_URL, OLDER_URL])
def test_the_newer_host_takes_keys_of_the_older_one_and_not_the_reverse(
    home: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", url)
    write(home / ".netrc", OLDER)
    assert has_key()
    write(home / ".netrc", MINE)
    assert has_key() is (url != OLDER_URL)
    write(home / ".netrc", "machine forge.coreweave.com login user password k\n")
    assert not has_key(), "wandb looks for no key of the proxy"


@pytest.mark.parametrize("content", [MINE, OLDER])
@pytest.mark.parametrize("url", [NEWER_URL, PROXY_URL, OLDER_URL])
def test_wandb_itself_finds_the_same_keys(home: Path, monkeypatch: pytest.MonkeyPatch, url: str, content: str) -> None:
    wbauth = pytest.importorskip("wandb.sdk.lib.wbauth", reason="this wandb reads its keys by other functions")
    if wandb.Settings().base_url != NEWER_URL:
        pytest.skip("this wandb knows one host alone")
    monkeypatch.setenv("WANDB_BASE_URL", url)
    write(home / ".netrc", content.replace("password k", f"password {'k' * 40}"))
    assert has_key() is (wbauth.read_netrc_auth(host=url) is not None)


def test_netrc_may_lie_elsewhere(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(home / "_netrc", MINE)
    assert has_key()
    monkeypatch.setenv("NETRC", "~/nowhere")
    assert not has_key()
    write(home / "mine", MINE)
    monkeypatch.setenv("NETRC", "~/mine")
    assert has_key()


@pytest.mark.parametrize("name", ["WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE"])
def test_a_key_in_the_environment(mode: Callable[..., str], monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "")
    assert mode() == "offline"
    monkeypatch.setenv(name, "k")
    assert mode() == "online"


def test_a_key_is_of_the_server_in_use(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(home / ".netrc", MINE)
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org:8080")
    assert not has_key()
    write(home / ".netrc", "machine wandb.example.org:8080 login user password k\n")
    assert has_key()
    monkeypatch.delenv("WANDB_BASE_URL")
    assert not has_key()
    write(home / ".config" / "wandb" / "settings", "[default]\nbase_url = https://wandb.example.org:8080\n")
    assert has_key()


def test_the_settings_files_are_read(home: Path, mode: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    everywhere, here = home / ".config" / "wandb" / "settings", home / "wandb" / "settings"
    write(everywhere, "[default]\napi_key = k%\n")
    assert mode() == "online"
    write(here, "[default]\nmode = offline\n")  # `wandb offline`
    assert mode() == "offline"
    assert mode("online") == "online", "what is said here goes before"
    write(here, "[default]\nmode = disabled\n")
    assert mode() == "disabled"
    for broken in ("no section\n", b"\xff\xfe", "[default\n"):
        write(here, broken)
        assert mode() == "online"
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(home / "elsewhere"))
    assert mode() == "offline"


def test_online_in_a_file_is_no_request(home: Path, mode: Callable[..., str]) -> None:
    """`wandb online` writes it, to take an earlier `wandb offline` back."""
    write(home / ".config" / "wandb" / "settings", "[default]\nmode = online\n")
    assert mode() == "offline"


def test_wandb_mode_decides_for_auto_alone(mode: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "k")
    words = {"offline": "offline", "dryrun": "offline", "disabled": "disabled", "online": "online", "run": "online"}
    for word, meant in words.items():
        monkeypatch.setenv("WANDB_MODE", word)
        assert mode() == meant
        for said in ("online", "offline", "disabled"):
            assert mode(said) == said


@pytest.mark.parametrize("word", ["nonsense", "OFFLINE", ""])
def test_a_word_that_wandb_refuses_is_one_line(
    mode: Callable[..., str], monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    """wandb had been switched off with "1 validation error for Settings", and all curves were lost."""
    monkeypatch.setenv("WANDB_MODE", word)
    for wanted in ("auto", "online", "offline"):
        with pytest.raises(
            UserError, match=rf"^WANDB_MODE: '{word}' is not allowed; allowed: online, offline, disabled, or unset"
        ):
            mode(wanted)
    assert mode("disabled") == "disabled"
    monkeypatch.setenv("WANDB_DISABLED", "true")
    assert mode() == "disabled"


@pytest.mark.parametrize("word", ["true", "1", "TRUE"])
def test_wandb_disabled_is_heard(mode: Callable[..., str], monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "k")
    monkeypatch.setenv("WANDB_DISABLED", word)
    assert mode() == "disabled"
    assert mode("online") == "online"
    monkeypatch.setenv("WANDB_DISABLED", "false")
    assert mode() == "online"


def test_online_without_a_key_is_one_line_and_no_question(
    tiny_config: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builtins, "input", lambda *_: pytest.fail("asked"))
    monkeypatch.setattr("getpass.getpass", lambda *_, **__: pytest.fail("asked"))
    needs = r"^--tracking\.wandb: 'online' needs an API key of "
    with pytest.raises(UserError, match=rf"{needs}wandb; run `wandb login`, which stores one, or set WANDB_API_KEY; "):
        Wandb(tiny_config("--tracking.wandb", "online"), tmp_path)
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    with pytest.raises(UserError, match=rf"{needs}https://wandb\.example\.org; "):
        Wandb(tiny_config("--tracking.wandb", "online"), tmp_path)
    monkeypatch.delenv("WANDB_BASE_URL")
    monkeypatch.setenv("WANDB_MODE", "online")
    with pytest.raises(
        UserError, match=r"^WANDB_MODE: 'online' needs an API key .* allowed without a key: auto"
    ) as caught:
        Wandb(tiny_config("--tracking.wandb", "auto"), tmp_path)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.glob("wandb*")) == []
