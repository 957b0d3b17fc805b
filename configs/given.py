"""The keys that the user gave on the command line or in files; `tell_unread.py` reports those that nothing reads."""

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

from autolora.configs.files import CONFIGS, find_config, read_keys
from autolora.configs.keys import flat, known_keys
from autolora.configs.requests import Given
from autolora.configs.schema import RunConfig


def given_of(command: Mapping[str, Any], sources: Sequence[str], config: RunConfig) -> Given:
    """The keys that the user gave on the command line (`command`, a tree of keys) and in the files `sources`.

    `sources` are written as --config names them; `config` is the configuration that resulted from both.
    """
    files: dict[str, str] = {}
    for source in sources:
        path = find_config(source)
        if path.resolve().parent != CONFIGS:
            files |= {key: source for key, _ in flat(read_keys(path)) if _differs(key, config)}
    keys = frozenset(key for key, _ in flat(command) if key in known_keys())
    return Given(keys, files)


def _differs(key: str, config: RunConfig) -> bool:
    """Whether this is a key of the schema whose value in `config` is not its default."""
    if key not in known_keys():
        return False
    value, default = (reduce(getattr, key.split("."), of) for of in (config, RunConfig()))
    return bool(value != default)
