"""Compare the settings under which unfinished or finished work was made with those of the command.

Each stage declares the keys that change its result. Its checkpoint stores their values; before the stage resumes, they
are compared with the configuration at hand. Every other key may change, and so may a key that nothing reads under the
configuration at hand, such as search.steps with method lora.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from types import MappingProxyType
from typing import Any

from autolora.configs.errors import UserError
from autolora.configs.keys import known_keys
from autolora.configs.own_class import digest
from autolora.configs.schema import RunConfig
from autolora.configs.unread import reason

_FILE = "hypergradient.type, its file"
RESUME_AT_OLD_VALUE = "give the old value to resume, --name for another run, or --overwrite to start again"


class Outdated(UserError):
    """Half-done or finished work cannot be resumed: it was made under other settings, or from other files."""


@dataclass(frozen=True)
class Settings:
    """The keys that change the result of one piece of work: keys and whole sections in `read`, except those in `but`.

    `evaluates`: whether the work includes the evaluation. If not, `task.evaluation_split` is left out for GLUE, whose
    splits are fixed; in a user's own table it decides which rows are held out of the training.
    """

    read: Iterable[str]
    but: Iterable[str] = ()
    evaluates: bool = False

    def of(self, config: RunConfig) -> dict[str, Any]:
        """Key -> value in `config`, as a checkpoint stores them; with an approximation of the user's own also what
        tells whether its file has changed."""
        left_out = set(self.but)
        if config.task.type == "glue" and not self.evaluates:
            left_out.add("task.evaluation_split")
        found = {
            key: reduce(getattr, key.split("."), config)
            for key in known_keys()
            if _covers(self.read, key) and not _covers(left_out, key)
        }
        content = digest(config.hypergradient.type) if "hypergradient.type" in found else None
        return found | ({_FILE: f"SHA-256 {content}"} if content else {})

    def refuse_changed(
        self,
        recorded: Mapping[str, Any],
        config: RunConfig,
        what: str,
        way_out: str = RESUME_AT_OLD_VALUE,
        given_as: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Raises Outdated for the first key that the run reads and whose recorded value is not the one in `config`.

        `what` says what was made under the old value; `way_out` ends the message. `given_as`: key -> the key that the
        message names instead, because the user gives that one and the program sets the other.
        """
        for key, new in self.of(config).items():
            old = recorded.get(key, new)
            if old != new and reason(key, config) is None:
                values = f"{given_word(old)}, now it is {given_word(new)}"
                raise Outdated(f"--{given_as.get(key, key)}: {what} {values}; {way_out}")


def given_word(value: Any) -> str:
    """A value as the command line takes it: null, true and false as in YAML."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)


def _covers(names: Iterable[str], key: str) -> bool:
    """Whether `names` holds the key or a section around it."""
    return any(key == name or key.startswith(f"{name}.") for name in names)
