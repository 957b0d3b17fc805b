"""The settings by which a run's ranks were found, for a retraining that only takes the ranks."""

import logging

from autolora.configs.errors import UserError
from autolora.configs.keys import SPELLED, known_keys
from autolora.configs.schema import RunConfig
from autolora.configs.values import with_values
from autolora.engine.run.contents import read_answer, read_searched
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.resuming import given_word

log = logging.getLogger("autolora")

_SECTIONS = ("search", "hypergradient", "answer")


def with_recorded(config: RunConfig, folder: RunFolder) -> RunConfig:
    """`config` with the sections search, hypergradient and answer by which the folder's ranks were found.

    With --stage retrain a command may have others, which nothing reads then: config.yaml, metrics.json and the report
    would tell of a search that was not made. Logs the keys that differ. Returns `config` itself if the folder has no
    search, or a search whose settings today's program refuses.
    """
    if config.method != "autolora" or not folder.search_summary.exists():
        return config
    found = read_searched(folder.search_summary).get("settings", {})
    if folder.answer.exists():
        found |= read_answer(folder.answer).get("settings", {})
    named = {key: value for key, value in found.items() if key in known_keys() and key.partition(".")[0] in _SECTIONS}
    try:
        recorded = with_values(config, named)
    except UserError as error:
        log.warning("config.yaml lacks the settings by which the ranks were found, which are refused: %s", error)
        return config
    if other := [key for key in named if _value(config, key) != _value(recorded, key)]:
        given = {field: key for key, field in SPELLED.items()}
        words = ", ".join(f"--{given.get(key, key)} {given_word(named[key])}" for key in other)
        log.info("the ranks were found with %s, which config.yaml keeps", words)
    return recorded


def _value(config: RunConfig, key: str) -> object:
    section, _, name = key.partition(".")
    return getattr(getattr(config, section), name)
