"""What all settings are made of: frozen sections, types with a range, and marks that say which
stage reads a key.

A choice (a method, a type of task, a hypergradient, a rule) is a class of its own, so that a key
which a choice does not read does not exist there. The text below a field is its help and its
documentation. Nothing here imports torch.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


class Section(BaseModel):
    """Settings that belong together: frozen, and without keys of other choices."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        validate_default=True,
        coerce_numbers_to_str=True,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
    )


@dataclass(frozen=True)
class Mark:
    """Who alone is given a key of a section that several stages read."""

    reader: str


COST = Mark("cost")
"""Changes the time or the memory of a stage, not its result."""
EVALUATE = Mark("evaluate")

LARGEST = 1_000_000

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(gt=0, lt=1)]
ShareFromZero = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
CountFromZero = Annotated[int, Field(ge=0)]
Width = Annotated[int, Field(ge=1, le=16_384)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Rank = Annotated[int, Field(ge=1, le=1024)]
Text = Annotated[str, Field(min_length=1)]
FilePath = Annotated[str, Field(min_length=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
"""It becomes one folder inside runs_folder."""

ALL_LINEAR = "all-linear"
"""PEFT's word for every linear layer; problems/models/layers.py says which ones they are here."""


def _in_a_list(targets: Any) -> Any:
    """The word all-linear without brackets as a list: later code sees lists alone."""
    if ALL_LINEAR in targets and targets not in (ALL_LINEAR, [ALL_LINEAR]):
        raise ValueError(f"{ALL_LINEAR} stands alone, without other modules")
    return [ALL_LINEAR] if targets == ALL_LINEAR else targets


Targets = Annotated[
    Annotated[list[Text], Field(min_length=1)] | Literal["all-linear"], AfterValidator(_in_a_list)
]
