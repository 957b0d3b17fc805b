"""The settings by which ranks were found."""

from collections.abc import Callable

from autolora.configs.schema import RunConfig
from autolora.configs.values import with_values
from autolora.engine.answer.recorded import with_recorded
from autolora.engine.answer.settings import ANSWERED
from autolora.engine.disk.files import write_json
from autolora.engine.run.folder import RunFolder
from autolora.engine.search.settings import FOUND


def test_the_sections_that_found_the_ranks_are_those_of_the_folder(
    tiny_config: Callable[..., RunConfig], log_lines: list[str]
) -> None:
    config = tiny_config()
    folder = RunFolder.of(config)
    assert with_recorded(config, folder) is config, "there is no search"
    made = with_values(config, {"search.steps": 4, "answer.from": "runs/x", "answer.tolerance": 0.07, "seed": 3})
    write_json(folder.search_summary, {"parameters_per_rank": {}, "settings": FOUND.of(made) | {"search.of_old": 1}})
    write_json(folder.answer, {"settings": ANSWERED.of(made)})
    found = with_recorded(config, folder)
    assert (found.search, found.answer, found.seed) == (made.search, made.answer, config.seed)
    words = "--search.steps 4, --answer.tolerance 0.07, --answer.from 'runs/x'"
    assert log_lines == [f"INFO the ranks were found with {words}, which config.yaml keeps"]
    log_lines.clear()
    assert with_recorded(found, folder) == found
    assert log_lines == []
    assert with_recorded(with_values(config, {"method": "lora"}), folder).search == config.search


def test_settings_that_are_no_longer_allowed_are_told(
    tiny_config: Callable[..., RunConfig], log_lines: list[str]
) -> None:
    config = tiny_config()
    folder = RunFolder.of(config)
    write_json(folder.search_summary, {"parameters_per_rank": {}, "settings": {"search.steps": -1}})
    assert with_recorded(config, folder) is config
    assert log_lines[0].startswith("WARNING config.yaml lacks the settings by which the ranks were found")
