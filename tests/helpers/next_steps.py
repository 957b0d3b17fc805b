"""Requests for the command that is proposed after a run, and what such a command asks for."""

import shlex
from typing import Any

from autolora.configs.files import to_yaml
from autolora.configs.parser import parse
from autolora.configs.requests import Request
from autolora.configs.schema import RunConfig
from autolora.engine.disk.files import write_text
from autolora.engine.run.folder import RunFolder

OTHER_SEARCH = "does another approximation find other ranks?"
"""Why another search is proposed."""


def asked(config: RunConfig, stage: Any = "all") -> tuple[Request, RunFolder]:
    folder = RunFolder.of(config)
    write_text(folder.config, to_yaml(config))
    return Request(config, stage, False, "quickstart.yaml"), folder


def parsed(command: str) -> Request:
    program, script, *arguments = shlex.split(command)
    assert (program, script) == ("python", "run.py")
    return parse(arguments)
