"""The trainings of a verdict: which there are, what they cost, and at which rate they train."""

from pathlib import Path

import pytest

from autolora.configs.errors import UserError
from autolora.configs.schema import Autolora, Lora
from autolora.engine.disk.files import write_json
from autolora.engine.ranks import LayerRank, RankRecord
from autolora.engine.store.folder import RunFolder
from autolora.engine.verdict.arms import Arms, rate_of, seed_of_pair
from tests.helpers.command import parse
from tests.helpers.finished import RESULT
from tests.helpers.shell import words

SIZES = {"a": 100, "b": 300}


def arms_of(*arguments: str, ranks: tuple[int, int] = (3, 1)) -> Arms:
    config = parse(["--name", "a", *arguments]).config
    assert isinstance(config, Autolora)
    record = RankRecord(
        8, tuple(LayerRank(name, rank) for name, rank in zip(SIZES, ranks, strict=True))
    )
    return Arms(config, RunFolder.of(config), record, SIZES, 0.01)


def test_a_pair_is_the_learned_ranks_and_their_shuffle_and_what_is_added_once() -> None:
    assert arms_of().names == ["learned", "shuffled"]
    added = arms_of("--verdict.arms", "[random,uniform,random]")
    assert added.names == ["learned", "shuffled", "random", "uniform"]
    assert [cell.config.name for cell in added.pair(7).values()] == [
        f"pair-07-{name}" for name in added.names
    ]


@pytest.mark.parametrize(
    ("ranks", "parameters", "uniform"),
    [((3, 1), 600, 2), ((1, 0), 100, 1), ((2, 1), 500, 1), ((8, 8), 3200, 8)],
)
def test_the_uniform_rank_costs_about_as_much_as_the_learned_ones(
    ranks: tuple[int, int], parameters: int, uniform: int
) -> None:
    """The mean rank would be another: layers differ in size. It is never 0."""
    arms = arms_of(ranks=ranks)
    assert (arms.parameters, arms.uniform_rank) == (parameters, uniform)
    uniform_arm = arms_of("--verdict.arms", "[uniform]", ranks=ranks).pair(1)["uniform"].config
    assert isinstance(uniform_arm, Lora)
    assert uniform_arm.lora.r == uniform


def test_the_seed_of_a_pair_is_another_but_its_rows_are_those_of_the_search() -> None:
    arms = arms_of("--seed", str(2**31 - 2))
    first, second = (arms.pair(number)["learned"].config for number in (1, 2))
    assert first.seed != second.seed
    assert first.seed == arms.pair(1)["shuffled"].config.seed == arms.heads()[0].config.seed
    assert arms.pair(3)["shuffled"].config.task.seed == 2**31 - 2
    assert arms_of("--seed", "5", "--task.seed", "9").pair(1)["learned"].config.task.seed == 9


def test_no_training_of_a_verdict_is_one_of_a_verdict_at_another_seed_of_the_run() -> None:
    """Verdicts at the seeds 0 and 1 had 23 of 24 seeds in common, so that the second repeated
    nothing."""
    seeds = {seed_of_pair(run, number) for run in range(20) for number in range(1, 25)}
    assert len(seeds) == 20 * 24
    assert max(seeds) < 2**31, "so many bits can be a seed of transformers"


def test_the_rate_is_that_of_the_retraining(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert rate_of(parse(["--retrain.learning_rate", "0.3"]).config, folder) == 0.3
    several = parse(["--retrain.learning_rate", "[0.1,0.2]"]).config
    with pytest.raises(UserError, match=r"^--retrain\.learning_rate: "):
        rate_of(several, folder)
    write_json(folder.metrics, RESULT | {"learning_rate": 0.2, "learning_rates_tried": [0.2, 0.1]})
    assert rate_of(several, folder) == 0.2
    assert arms_of("--retrain.learning_rate", "[0.1,0.2]").pair(1)[
        "learned"
    ].config.retrain.rates == [0.01]


def test_model_data_and_layers_are_those_of_the_run() -> None:
    given = words(
        "--model.name org/other --model.revision v2 --task.train_rows 9 "
        "--task.max_length 77 --lora.modules_to_save [pooler] --retrain.weight_decay 0.3"
    )
    arms = arms_of(*given)
    for cell in (*arms.pair(1).values(), *arms.heads()):
        assert cell.config.model == arms.config.model
        assert (cell.config.task.train_rows, cell.config.task.max_length) == (9, 77)
        assert cell.config.of_lora("modules_to_save") == ["pooler"]
        assert cell.config.retrain.weight_decay == 0.3
