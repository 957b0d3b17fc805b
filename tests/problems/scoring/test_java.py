"""How Java is found and started, and the message if there is none."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from autolora.configs.errors import UserError
from autolora.problems.scoring.java import bundled_jar, find_java, java_command, require_java
from tests.helpers.places import ROOT

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the stand-ins for Java are shell scripts")


def stand_in(folder: Path, status: int) -> Path:
    """A `java` that only ends with this status."""
    folder.mkdir(parents=True)
    program = folder / "java"
    program.write_text(f"#!/bin/sh\nexit {status}\n")
    program.chmod(0o755)
    return program


@pytest.mark.usefixtures("no_java")
def test_without_java_the_error_names_metric_package_and_way_out():
    with pytest.raises(UserError, match=r"METEOR.*default-jre-headless.*leave METEOR out of --task\.metrics") as error:
        require_java("METEOR")
    assert "\n" not in str(error.value)


@pytest.mark.trains
def test_java_home_comes_before_path(tmp_path, monkeypatch):
    stand_in(tmp_path / "path", 0)
    program = stand_in(tmp_path / "home" / "bin", 0)
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "home"))
    assert find_java() == str(program)


@pytest.mark.trains
def test_a_java_that_does_not_run_is_none(tmp_path, monkeypatch):
    """macOS has a `java` that only says where to download one."""
    stand_in(tmp_path / "path", 1)
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    assert find_java() is None


@pytest.mark.trains
def test_heap_is_bounded(tmp_path, monkeypatch):
    stand_in(tmp_path / "bin", 0)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert "-Xmx1G" in java_command("METEOR", "-version")


def test_jars_come_with_the_package():
    assert Path(bundled_jar("meteor", "meteor-1.5.jar")).is_file()
    with pytest.raises(UserError, match=r"pip install pycocoevalcap"):
        bundled_jar("meteor", "meteor-9.jar")


@pytest.mark.trains
def test_importing_loads_no_scorer_and_starts_nothing():
    heavy = ["nltk", "pycocotools", "pycocoevalcap", "sacrebleu", "seqeval", "text_unidecode", "torch"]
    code = f"import sys, autolora.problems.scoring; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
