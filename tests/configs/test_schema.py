"""The schema is the documentation: a line for every field, a range for every number."""

import ast
import dataclasses
import inspect
from typing import Any, get_args

import pytest

from autolora.configs import schema, schema_answer, schema_study, schema_task
from autolora.configs.keys import known_keys, split_range
from autolora.configs.rules import check

MODULES = (schema, schema_answer, schema_study, schema_task)
SCHEMAS = list({kind: None for module in MODULES for kind in vars(module).values() if dataclasses.is_dataclass(kind)})


@pytest.mark.parametrize("kind", SCHEMAS, ids=lambda kind: kind.__name__)
def test_every_field_says_what_it_means(kind: Any) -> None:
    body = ast.parse(inspect.getsource(kind)).body[0]
    assert isinstance(body, ast.ClassDef)
    documented = set()
    for field, text in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            assert isinstance(field.target, ast.Name)
            assert len(str(text.value.value).strip()) > 10
            documented.add(field.target.id)
    sections = {f.name for f in dataclasses.fields(kind) if dataclasses.is_dataclass(f.default_factory)}
    assert documented == {f.name for f in dataclasses.fields(kind)} - sections
    assert kind.__doc__


@pytest.mark.parametrize("kind", SCHEMAS, ids=lambda kind: kind.__name__)
def test_a_configuration_cannot_be_changed_in_place(kind: Any) -> None:
    field = dataclasses.fields(kind)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(kind(), field, None)


def has_numbers(kind: Any) -> bool:
    return kind in (int, float) or any(has_numbers(part) for part in get_args(kind))


def test_every_number_has_a_range() -> None:
    """A new field without one would take nan and -1."""
    assert not [key for key, kind in known_keys().items() if has_numbers(kind) and split_range(kind)[1] is None]
    assert has_numbers(known_keys()["retrain.learning_rates"])
    assert not has_numbers(known_keys()["search.dropout"])


def test_the_defaults_are_in_range() -> None:
    check(schema.RunConfig(name="a"))


def test_the_names_that_other_programs_rely_on_are_there() -> None:
    names = """name model.name task.path precision seed search.steps search.learning_rate search.checkpoint_every
        retrain.max_steps retrain.learning_rate hypergradient.type hypergradient.eta"""
    assert set(names.split()) <= set(known_keys())
