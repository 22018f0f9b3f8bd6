"""Templates escape what they are given and fail on a name that they do not know."""

from __future__ import annotations

import jinja2
import pytest

from retrieval_core.report.assets import asset, environment


def test_templates_escape_values_and_refuse_unknown_names() -> None:
    assert environment().from_string("<b>{{ name }}</b>").render(name="<i>") == "<b>&lt;i&gt;</b>"
    with pytest.raises(jinja2.UndefinedError):
        environment().from_string("{{ nam }}").render(name="x")


def test_both_pages_include_the_same_dialog() -> None:
    for path in ("report/template.html", "serving/page.html"):
        assert asset(path).count('{% include "report/compare.html" %}') == 1
    assert 'id="compare"' in environment().get_template("report/compare.html").render(motif="")
