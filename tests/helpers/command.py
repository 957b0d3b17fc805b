"""Command lines that run something."""

from collections.abc import Sequence

from autolora.configs.parser import parse_command
from autolora.configs.requests import Request


def parse(argv: Sequence[str]) -> Request:
    """`parse_command` for a command line that runs something."""
    request = parse_command(argv)
    assert isinstance(request, Request)
    return request
