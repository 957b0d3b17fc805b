"""Where the files of a configured model lie: in a package, on the hub, or in a folder."""

import sys
from pathlib import Path

import pytest

from autolora.configs.errors import UserError
from autolora.problems.models.places import locate


def test_package_names_become_folders_without_running_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "packed_model"
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('must not run')")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert locate("package:packed_model/model") == str(package / "model")
    assert locate("package:packed_model") == str(package)
    assert "packed_model" not in sys.modules
    assert locate("FacebookAI/roberta-base") == "FacebookAI/roberta-base"
    with pytest.raises(UserError, match="package 'packed_model' has no 'weights'"):
        locate("package:packed_model/weights")


def test_a_model_may_lie_in_the_home_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert locate("~/model") == f"{tmp_path}/model"
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "b"}')
    with pytest.raises(UserError, match=rf"^--model\.name: {tmp_path} holds an adapter"):
        locate("~")


@pytest.mark.parametrize("name", ["package:not_installed_at_all/model", "package:not an identifier", "package:"])
def test_a_package_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(UserError, match=r"--model\.name: no installed package"):
        locate(name)


def test_an_adapter_is_no_model_and_its_base_is_named(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "roberta-base"}')
    with pytest.raises(UserError, match=r"not a model; name its base model \(it says: roberta-base\)"):
        locate(str(tmp_path))
    for damaged in ("half a fi", "[" * 200_000):
        (tmp_path / "adapter_config.json").write_text(damaged)
        with pytest.raises(UserError, match=r"name its base model \(it says: None\)"):
            locate(str(tmp_path))


def test_a_model_with_an_adapter_beside_it_is_a_model(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / "model-00001-of-00002.safetensors").touch()
    assert locate(str(tmp_path)) == str(tmp_path)
