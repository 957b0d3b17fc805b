"""How the time of a run divides over its parts."""

from autolora.engine.report.costs import costs_of


def test_every_part_that_took_time_has_its_share() -> None:
    spent = {"search": 30.0, "answer": None, "retrain": 20.0, "total": 50.0}
    result = {
        "seconds": spent,
        "seconds_sweep": 40.0,
        "seconds_evaluation": 10.0,
        "steps": {"search": 6, "retrain": 4},
    }
    rows = [tuple(row.values()) for row in costs_of(result, {}, {"seconds": 7.0})]
    assert rows == [
        ("search", "30.0", "6", 0.3),
        ("retrain", "20.0", "4", 0.2),
        ("trials of learning rates", "40.0", "", 0.4),
        ("evaluation", "10.0", "", 0.1),
    ]


def test_before_the_retraining_there_are_the_search_and_its_answer() -> None:
    """The answer was left out, so that the search had 100 % of the time."""
    rows = [tuple(row.values()) for row in costs_of({}, {"seconds": 1500.0, "steps": 2000}, {"seconds": 500.0})]
    assert rows == [("search", "1,500.0", "2,000", 0.75), ("answer", "500.0", "", 0.25)]
    (row,) = costs_of({}, {"seconds": 1234.5, "steps": 2000}, {})
    assert row == {"stage": "search", "seconds": "1,234.5", "steps": "2,000", "share": 1.0}
    assert costs_of({}, {}, {}) == []
