"""A template's date: the macro that stands for the day's date writes what Python would, for every code."""

from datetime import datetime

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from autolora.problems.tasks.template_dates import DATE, has_date, unknown_codes, with_fixed_date, with_formats


def rendered(template: str) -> str:
    """As transformers renders it."""
    return ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True).from_string(template).render()


@pytest.mark.parametrize(
    "form",
    [
        "%d %-d %m %-m %Y %y %B %b %A %a %j %F %H %I %M %S %p | %Y-%m-%dT%H:%M",
        "%-I:%M %p, %-H.%M, %T %R %X %r %c %x %D %Z %z %U %W %V %G %u %w %e %h %C %f %k %l %-j %-y %-M %-S %P%n%t.",
        "%%d %d%% %%%d %%%%",
    ],
)
def test_every_code_is_that_of_the_fixed_date(form: str) -> None:
    text = with_fixed_date("{{ strftime_now('" + form + "') }}")
    assert rendered(text) == datetime(2024, 7, 26, 12).strftime(form)
    assert datetime(2024, 7, 26).strftime("%d %b %Y") == DATE
    assert unknown_codes(rendered(with_formats("{{ strftime_now('" + form + "') }}"))) == []


def test_codes_that_would_stay_as_they_are_are_known() -> None:
    text = "%q {{ strftime_now('%d %s %-e %Ey') + '%q' + strftime_now('%%s 100% %Q') }}"
    assert unknown_codes(rendered(with_formats(text))) == ["%s", "%-e", "%Ey", "%Q"]


def test_the_rest_of_a_template_is_rendered_as_before() -> None:
    for before in ("", "\n", "\n\n", "  ", "  {% set x = 1 %}\n", "\n  {%- set x = 1 %}"):
        plain = before + "a {{ x }}\n {% if strftime_now is defined %}b{% else %}b{% endif %}\n"
        dated = with_fixed_date(plain)
        assert has_date(dated)
        assert rendered(dated) == rendered(plain)
        assert with_fixed_date(dated) == dated


def test_macros_of_the_template_see_it() -> None:
    text = "{% macro head() %}{{ 'on ' + strftime_now('%Y-%m-%d') + '.' }}{% endmacro %}{{ head() }}"
    assert rendered(with_fixed_date(text)) == "on 2024-07-26."


def test_templates_without_a_date_are_left_alone() -> None:
    for text in ("", "{{ x }}", "{# strftime_now #}"):
        assert with_fixed_date(text) == text
        assert not has_date(text)
    assert not has_date(None)
