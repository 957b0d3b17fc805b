"""The settings by which a run's ranks were found, for a retraining that only takes the ranks."""

import logging

from autolora.configs.errors import UserError
from autolora.configs.layers import flat, keys, with_values
from autolora.configs.schema import Autolora, RunConfig
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
    if not isinstance(config, Autolora) or not folder.search_summary.exists():
        return config
    found = read_searched(folder.search_summary).get("settings", {})
    if folder.answer.exists():
        found |= read_answer(folder.answer).get("settings", {})
    named = {key: value for key, value in found.items() if key in keys() and key.partition(".")[0] in _SECTIONS}
    try:
        recorded = with_values(config, named)
    except UserError as error:
        log.warning("config.yaml lacks the settings by which the ranks were found, which are refused: %s", error)
        return config
    now = flat(config.model_dump())
    if other := [key for key in named if now.get(key) != named[key]]:
        words = ", ".join(f"--{key} {given_word(named[key])}" for key in other)
        log.info("the ranks were found with %s, which config.yaml keeps", words)
    return recorded
