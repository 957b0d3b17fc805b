"""The names of other trainers lead to keys that there are."""

from autolora.configs.keys import allowed, known_keys
from autolora.configs.synonyms import SETTINGLESS, SYNONYMS


def test_every_synonym_is_of_keys_that_there_are_and_is_none_itself() -> None:
    assert {key for keys in SYNONYMS.values() for key in keys} <= set(known_keys())
    assert not {*SYNONYMS, *SETTINGLESS} & set(allowed())
