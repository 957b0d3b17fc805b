"""Records to one line of text, references together."""

import pytest

from autolora.problems.tasks.readers.records import (
    Record,
    e2e_records,
    e2e_source,
    evaluation_rows,
    training_rows,
    triples_source,
    webnlg_records,
)


def test_a_meaning_representation_becomes_the_recipes_line() -> None:
    meaning = "name[The Mill], eatType[coffee shop], priceRange[£20-25], rating[5 out of 5], familyFriendly[yes]"
    assert e2e_source(meaning) == (
        "name : The Mill | Type : coffee shop | price : £20-25 | rating : 5 out of 5 | family friendly : yes"
    )


@pytest.mark.parametrize("meaning", ["", "The Mill", "name[The Mill", "name[The Mill], and more"])
def test_another_form_is_refused(meaning: str) -> None:
    with pytest.raises(ValueError, match="no attributes"):
        e2e_source(meaning)


def test_triples_become_the_recipes_line() -> None:
    triples = ["Aarhus_Airport | cityServed | Aarhus", "A | b | C D"]
    assert triples_source(triples) == "Aarhus_Airport : cityServed : Aarhus | A : b : C D"
    for bad in ([], ["a | b"]):
        with pytest.raises(ValueError, match="no triples"):
            triples_source(bad)


def test_references_of_one_record_stand_together_in_order() -> None:
    rows = [
        {"meaning_representation": f"name[{name}]", "human_reference": text}
        for name, text in (("A", "1"), ("B", "2"), ("A", "3"))
    ]
    records = e2e_records(rows)
    assert records == [Record("name : A", ("1", "3")), Record("name : B", ("2",))]
    assert training_rows(records)["target"][:] == ["1", "3", "2"]
    assert evaluation_rows(records)["target"][:] == ["1", "2"]
    assert evaluation_rows(records)["references"][:] == [["1", "3"], ["2"]]


def test_webnlg_in_the_challenges_columns_and_in_the_hubs() -> None:
    triples = ["A | b | C"]
    texts = [("x", "good"), ("y", "bad"), ("z", "good")]
    ours = {"category": "Food", "modifiedtripleset": triples, "lexs": [{"lex": t, "comment": c} for t, c in texts]}
    hub = {
        "category": "Food",
        "modified_triple_sets": {"mtriple_set": [triples]},
        "lex": {"text": [t for t, _ in texts], "comment": [c for _, c in texts]},
    }
    assert webnlg_records([ours]) == webnlg_records([hub]) == [Record("A : b : C", ("x", "z"), "Food")]
    only_bad = ours | {"lexs": [{"lex": "y", "comment": "bad"}]}
    assert webnlg_records([only_bad])[0].references == ("y",)


def test_an_entry_without_texts_is_refused_and_one_without_a_category_is_not() -> None:
    entry = {"modifiedtripleset": ["A | b | C"], "lexs": [{"lex": "x", "comment": "good"}]}
    assert webnlg_records([entry]) == webnlg_records([entry | {"category": None}]) == [Record("A : b : C", ("x",))]
    for texts in (None, []):
        with pytest.raises(ValueError, match="no text"):
            webnlg_records([entry | {"lexs": texts}])
    with pytest.raises(ValueError, match="the reference is empty"):
        webnlg_records([entry | {"lexs": [{"lex": None, "comment": "good"}]}])


def test_of_several_test_files_the_scored_one_is_kept() -> None:
    def sources(*files: str | None) -> list[str]:
        rows = [
            {"category": "Food", "modifiedtripleset": [f"A | b | {i}"], "test_category": name,
             "lexs": [{"lex": "x", "comment": "good"}]}
            for i, name in enumerate(files)
        ]  # fmt: skip
        return [record.source[-1] for record in webnlg_records(rows)]

    assert sources("testdata_no_lex", "testdata_unseen_with_lex", "testdata_with_lex") == ["2"]
    end = "test-data-with-refs-en"
    assert sources("semantic-parsing-" + end, "rdf-to-text-generation-" + end) == ["1"]
    assert sources("", "") == sources(None, None) == sources("testdata_unseen_with_lex", "mine") == ["0", "1"]
