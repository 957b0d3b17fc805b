"""Paired tests of a study's rows: which runs make a pair, signs, p and its correction."""

import math

import pandas as pd
import pytest
from scipy import stats

from autolora.engine.study.tables import LOSS, OF_GAIN, holm, paired
from tests.helpers.study_results import results as of_two_tasks

MEAN = "mean difference, metric"
MEAN_LOSS = "mean difference, nats"


def results(seeds: int = 3) -> pd.DataFrame:
    """The toy's runs as those of a single task: the rows of the second task are further seeds of
    the first."""
    table = of_two_tasks(seeds)
    second = table["task"] == "cola"
    return table.assign(seed=table["seed"] + seeds * second, task="sst2", main_metric="accuracy")


def test_pairs_are_of_one_task_and_seed() -> None:
    table = paired(results()).set_index("autolora against")
    assert table.loc["lora", "pairs"] == 6
    assert table.loc["lora", MEAN] == pytest.approx(0.02 + 0.001)
    # The differences are 0.02, 0.021 and 0.022, each twice: their variance is 4/5 of 0.001 squared.
    assert table.loc["lora", "standard error"] == pytest.approx(0.001 * math.sqrt(4 / 5 / 6))
    assert tuple(table.loc["lora", ["better", "worse"]]) == (6, 0)
    assert list(table.index) == ["lora", "adalora"], "in the order of the results"
    assert table.loc["lora", "p"] == pytest.approx(2 / 2**6)  # all six of one sign
    five = paired(results().drop(index=0)).set_index("autolora against").loc["lora"]
    assert five["pairs"] == 5
    assert math.isnan(five["p"]), "too few to be sure of anything"


def test_differences_of_several_tasks_without_a_gain_have_no_mean_and_no_p() -> None:
    """The task with the largest loss would decide both."""
    found = paired(of_two_tasks()).set_index("autolora against")
    assert found[[MEAN, "standard error", "p"]].isna().all(axis=None)
    assert tuple(found.loc["lora", ["better", "worse"]]) == (6, 0)
    assert paired(of_two_tasks(), column=LOSS)[MEAN_LOSS].isna().all()


def test_of_an_error_less_is_better() -> None:
    table = results().assign(main_metric="mse")
    found = paired(table).set_index("autolora against")
    assert tuple(found.loc["lora", ["better", "worse"]]) == (0, 6)
    assert found.loc["lora", MEAN] < 0


def test_of_the_log_loss_less_is_better() -> None:
    table = results()
    score = paired(table)
    loss = paired(table.assign(score=0.0), column=LOSS)
    # the log loss is 1 - score
    pd.testing.assert_frame_equal(loss.rename(columns={MEAN_LOSS: MEAN}), score)
    unknown = table.assign(log_loss=table["log_loss"].where(table["method"] != "lora"))
    assert list(paired(unknown, column=LOSS)["autolora against"]) == ["adalora"]
    assert paired(table.assign(log_loss=None), column=LOSS).empty


def test_p_is_corrected_for_the_comparisons_that_were_asked_for() -> None:
    """24 rows that nobody had asked about were counted."""
    table = paired(results(), corrected=True)
    assert table["p"].tolist() == pytest.approx([2 / 2**6] * 2)
    assert table["p, Holm"].tolist() == pytest.approx([4 / 2**6] * 2)
    assert list(table)[list(table).index("p") + 1] == "p, Holm"
    assert "p, Holm" not in paired(results()), "no reference was chosen"


def test_holm_multiplies_the_smallest_p_most_and_never_lowers_a_larger_one() -> None:
    # Worked by hand: 3 x 0.01, then 2 x 0.02, then max(0.04, 1 x 0.03).
    assert holm(pd.Series([0.03, 0.01, math.nan, 0.02])).tolist() == pytest.approx(
        [0.04, 0.03, math.nan, 0.04], nan_ok=True
    )
    assert holm(pd.Series([0.9, 0.8])).tolist() == [1.0, 1.0]
    assert holm(pd.Series([math.nan])).isna().all()


def test_rounding_breaks_no_ties() -> None:
    """The metrics count rows: 4 of 872 more is the same difference wherever it occurs."""
    ours = [727, 717, 714, 714, 689, 681, 721, 713]
    others = [723, 712, 708, 712, 692, 679, 716, 711]
    rows = [
        (method, method, seed, count / 872)
        for method, counts in (("autolora", ours), ("lora", others))
        for seed, count in enumerate(counts)
    ]
    frame = pd.DataFrame(rows, columns=["method", "row", "seed", "score"])
    table = paired(frame.assign(layers=None, ranks=None, main_metric="accuracy", task="t"))
    exact = stats.wilcoxon(
        [a - b for a, b in zip(ours, others, strict=True)], zero_method="wilcox"
    ).pvalue
    assert table["p"].iloc[0] == pytest.approx(exact)


def with_head(task: str, score: float) -> pd.DataFrame:
    """The results, with runs of the head alone on a task; on the other task its score is that of
    AdaLoRA."""
    head = of_two_tasks()[lambda table: table["method"] == "adalora"].assign(
        method="head", row="head"
    )
    head.loc[head["task"] == task, "score"] = score
    return pd.concat([of_two_tasks(), head.assign(log_loss=1 - head["score"])])


def test_differences_are_parts_of_what_the_row_gains_over_the_head_on_its_task() -> None:
    """STS-B, which has the largest losses, had decided the order of all differences."""
    for column in ("score", LOSS):
        found = paired(with_head("sst2", 0.322), column=column).set_index("autolora against")
        # Row autolora gains 0.822 - 0.322 = 0.5 on sst2, and 0.12 over the score of AdaLoRA on
        # cola.
        assert found.loc["lora", f"mean difference, {OF_GAIN}"] == pytest.approx(
            (0.021 / 0.5 + 0.021 / 0.12) / 2
        )
        assert found.loc["head", f"mean difference, {OF_GAIN}"] == pytest.approx(1.0)
        assert found.loc["lora", "pairs"] == 6


def test_a_task_on_which_the_row_gains_nothing_is_left_out() -> None:
    found = paired(with_head("sst2", 0.9)).set_index("autolora against")
    assert found.loc["lora", "pairs"] == 3
    assert found.loc["lora", f"mean difference, {OF_GAIN}"] == pytest.approx(0.021 / 0.12)
    of_the_head = paired(with_head("sst2", 0.3), "head").set_index("head against")
    assert of_the_head.loc["lora", "pairs"] == 6
    assert MEAN in of_the_head, (
        "the head gains nothing over itself, so that its differences keep their unit"
    )
