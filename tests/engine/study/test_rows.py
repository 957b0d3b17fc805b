"""How the tables and charts of a study group its runs."""

import pandas as pd

from autolora.engine.study.rows import labelled, panels, texts


def test_rows_go_by_all_axes_but_seed_and_task() -> None:
    frame = pd.DataFrame({"seed": [0, 1], "task.name": ["a", "b"], "lora.k": [4, 8], "method": ["lora", "full"]})
    frame = frame.assign(task=frame["task.name"])
    assert labelled(frame, list(frame)[:4])["row"].to_list() == ["k 4, lora", "k 8, full"]
    assert labelled(frame, ["seed"])["row"].to_list() == ["all", "all"]


def test_the_paths_of_tasks_make_no_rows_if_each_is_a_task_of_its_own() -> None:
    """Half of the table's fields were empty, and all of its means."""
    frame = pd.DataFrame({"task.path": ["d/a.csv", "d/b.csv"], "method": ["lora", "lora"], "task": ["a", "b"]})
    assert labelled(frame, ["task.path", "method"])["row"].to_list() == ["lora", "lora"]
    one = labelled(frame.assign(task="a"), ["task.path", "method"])
    assert one["row"].to_list() == ["path d/a.csv, lora", "path d/b.csv, lora"]


def test_a_row_has_the_numbers_of_its_axis_as_they_were_given() -> None:
    """A column with fractions holds whole numbers as 1.0."""
    rates = [1e-5, 0.001, 1]
    frame = pd.DataFrame({"retrain.learning_rate": rates, "task": "t"})
    found = labelled(frame, ["retrain.learning_rate"])["row"].to_list()
    assert found == ["learning_rate 1e-05", "learning_rate 0.001", "learning_rate 1"]


def test_a_panel_has_the_runs_of_a_task_that_have_a_score() -> None:
    rows = [("a", 0, 0.1), ("a", 1, 0.3), ("a", 2, 0.9), ("b", 0, 0.5), ("c", 0, None)]
    frame = pd.DataFrame(rows, columns=["method", "seed", "score"]).assign(task="t", main_metric="f1")
    other = frame[frame["method"] == "b"].assign(task="u", main_metric="accuracy")
    first, second = panels(pd.concat([frame, other]), ["method", "seed"])
    assert (first.metric, first.label, second.label) == ("f1", "f1, t", "accuracy, u")
    assert first.medians.to_dict() == {"a": 0.3, "b": 0.5}
    assert first.runs["score"].to_list() == [0.1, 0.3, 0.9, 0.5]


def test_texts_keep_the_kinds_of_their_columns() -> None:
    """A whole number beside a fraction stays whole."""
    table = pd.DataFrame({"runs": [3], "f1": [0.5], "name": ["a"]})
    assert texts(table) == [["3", "0.500", "a"]]
    assert texts(table[["runs", "f1"]]) == [["3", "0.500"]]


def test_an_approximation_says_its_eta_if_not_all_have_the_same() -> None:
    found = pd.DataFrame({"hypergradient.type": ["darts", "sama", "first_order"], "eta": ["betty", "lr", None]})
    named = labelled(found.assign(task="t"), ["hypergradient.type"])
    assert named["row"].tolist() == ["darts (eta betty)", "sama (eta lr)", "first_order"]
    same = labelled(found[found["eta"] != "lr"].assign(task="t"), ["hypergradient.type"])
    assert same["row"].tolist() == ["darts", "first_order"]
    axes = ["hypergradient.type", "hypergradient.eta"]
    on_axis = labelled(found.assign(task="t", **{"hypergradient.eta": found["eta"].fillna("lr")}), axes)
    assert on_axis["row"].tolist() == ["darts, eta betty", "sama, eta lr", "first_order, eta lr"]
