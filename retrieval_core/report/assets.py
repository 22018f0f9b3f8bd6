"""Templates, styles and scripts that lie in the package, for the report and for the search page."""

from __future__ import annotations

from importlib import resources

from jinja2 import Environment, FunctionLoader, StrictUndefined


def asset(path: str) -> str:
    """Text of a file by its path in ``retrieval_core``, such as ``report/style.css``."""
    return resources.files("retrieval_core").joinpath(path).read_text(encoding="utf-8")


def environment() -> Environment:
    """Jinja over the package's templates: every value is escaped, and an unknown name fails."""
    return Environment(
        loader=FunctionLoader(asset), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
