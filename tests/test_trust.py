"""What the program does not trust, and what it does not tell."""

import ast
import dataclasses
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from autolora.configs import files
from autolora.configs.errors import UserError
from autolora.configs.layers import with_values
from autolora.configs.requests import Request
from autolora.configs.schema import Autolora, RunConfig
from autolora.engine import ranks
from autolora.engine.interrupt import StopRequest
from autolora.engine.report.stage import write_report
from autolora.engine.stages import run_stages
from autolora.engine.store.folder import RunFolder
from tests.helpers.command import parse
from tests.helpers.paths import ROOT


def sources() -> Iterator[tuple[Path, ast.AST]]:
    parts = (ROOT / part for part in ("configs", "engine", "problems"))
    for path in [ROOT / "run.py", *(path for part in parts for path in part.rglob("*.py"))]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            yield path, node


def test_nothing_is_unpickled_or_evaluated_and_yaml_is_loaded_safely() -> None:
    found = []
    for path, node in sources():
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", "") or ""]
            found += [
                f"{path}: import {n}"
                for n in names
                if n.split(".")[0] in ("pickle", "dill", "cloudpickle")
            ]
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        options = {k.arg: ast.unparse(k.value) for k in node.keywords}
        if called == "yaml.load" and options == {"Loader": "_Loader"}:
            assert issubclass(files._Loader, yaml.SafeLoader)
            continue
        if called == "torch.load" and options.get("weights_only") != "True":
            found.append(f"{path}: torch.load without weights_only=True")
        if called in (
            "eval",
            "exec",
            "yaml.load",
            "yaml.unsafe_load",
            "pd.read_pickle",
            "os.system",
        ):
            found.append(f"{path}: {called}")
        if called.endswith("from_pretrained") and options.get("use_safetensors") == "False":
            found.append(f"{path}: {called} without safetensors")
    assert found == []


def test_code_of_a_model_runs_only_when_asked() -> None:
    assert Autolora(name="a").model.trust_remote_code is False
    for path, node in sources():
        if isinstance(node, ast.keyword) and node.arg == "trust_remote_code":
            assert ast.unparse(node.value) != "True", path
    for path in (ROOT / "configs").glob("*.yaml"):
        assert not (yaml.safe_load(path.read_text()).get("model") or {}).get("trust_remote_code"), (
            path
        )


@pytest.mark.trains
def test_a_model_without_safetensors_is_refused(
    tiny_config: Callable[..., RunConfig], tmp_path: Path, model_folder: Callable[..., Path]
) -> None:
    folder = shutil.copytree(model_folder("bert"), tmp_path / "model")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    config = tiny_config("--model.name", str(folder))
    with pytest.raises(UserError, match=r"--model\.name"):
        run_stages(Request(config, "search", False, "x.yaml"), StopRequest())


SCRIPT = "<script>alert(1)</script>"


@pytest.mark.trains
def test_the_report_shows_markup_and_does_not_run_it(
    finished: Callable[..., Path], tmp_path: Path
) -> None:
    folder = RunFolder(shutil.copytree(finished(), tmp_path / "run"))
    config = parse(["--config", str(folder.config)]).config
    record = ranks.load(folder.ranks)
    layers = (dataclasses.replace(record.layers[0], name=SCRIPT), *record.layers[1:])
    ranks.save(dataclasses.replace(record, layers=layers), folder.ranks)
    folder.config.write_text(f"name: {SCRIPT}\n")
    names = {"task.type": "text", "task.path": "x.csv", "task.name": SCRIPT, "model.name": SCRIPT}
    write_report(with_values(config, names), folder)
    page = folder.report.read_text()
    assert SCRIPT not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 4


@pytest.mark.trains
def test_no_secret_is_written_or_said(
    tiny_config: Callable[..., RunConfig],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    log_lines: list[str],
) -> None:
    secrets = {
        "WANDB_API_KEY": "5ecret0wandb",
        "HF_TOKEN": "hf_5ecret0hub",
        "HUGGING_FACE_HUB_TOKEN": "hf_5ecret1hub",
    }
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    folder = run_stages(
        Request(tiny_config("--method", "lora"), "all", False, "tiny.yaml"), StopRequest()
    )
    shown = capsys.readouterr()
    said = (shown.out + shown.err + "\n".join(log_lines)).encode()
    written = b"".join(path.read_bytes() for path in folder.root.rglob("*") if path.is_file())
    for value in secrets.values():
        assert value.encode() not in written + said


def one_line(error: UserError, word: str) -> None:
    """The message names the thing and is one line."""
    assert word in str(error)
    assert len(str(error).splitlines()) == 1


@settings(max_examples=20)
@given(st.text(max_size=30))
@example("../a")
@example("null")  # YAML's word for nothing
def test_a_name_is_one_folder_inside_the_runs_or_refused(name: str) -> None:
    try:
        config = with_values(Autolora(name="a"), {"name": name})
    except UserError as error:
        one_line(error, "--name")
        return
    assert Path(f"/runs/{config.name}").resolve().parent == Path("/runs")
