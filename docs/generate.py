"""Writes docs/configuration.md from the typed configuration: `make docs`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import yaml

from retrieval_core.config.config import Config
from retrieval_core.config.sections import Section

TARGET = Path(__file__).with_name("configuration.md")

INTRODUCTION = """# Configuration

A run is described by one YAML file (`--config FILE`) and by overrides (`--set section.key=value`, as often as needed;
the last one wins). What neither names has the default given here. An unknown key or an impossible value ends the
command with exit code 2 and a line that names the key and the nearest valid one.

[Configurations to start from](commands.md#configurations-to-start-from) come with the project. `run.json` in a run's
folder records the whole configuration that it was computed with.

This page is made from [`retrieval_core/config/sections.py`](../retrieval_core/config/sections.py) by `make docs`.
"""


def configuration_page() -> str:
    """The page as Markdown: a table for each section, keys in the order of the code."""
    lines = [INTRODUCTION]
    for name, field in Config.model_fields.items():
        section = cast(type[Section], field.annotation)
        properties = section.model_json_schema()["properties"]
        rows = [
            f"| `{name}.{key}` | {_values(properties[key])} | {_code(value.get_default())} | {value.description} |"
            for key, value in section.model_fields.items()
        ]
        head = ["| key | values | default | meaning |", "|---|---|---|---|"]
        lines += [f"## {name}", "", (section.__doc__ or "").strip(), "", *head, *rows, ""]
    return "\n".join(lines)


def _values(schema: dict[str, Any]) -> str:
    """What a value may be, in words, from its JSON schema."""
    if "anyOf" in schema:
        return " or ".join(_values(choice) for choice in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    kind = schema["type"]
    if "prefixItems" in schema:
        return "a share, or the lowest and highest of a range"
    if kind == "array":
        return f"list of {_values(schema['items']).replace('whole number', 'whole numbers')}"
    words = {"integer": "whole number", "number": "number", "string": "text", "boolean": "`true`, `false`"}
    return " ".join([words.get(kind, f"`{kind}`"), *_limits(schema)])


def _limits(schema: dict[str, Any]) -> list[str]:
    signs = {"minimum": "\N{GREATER-THAN OR EQUAL TO}", "exclusiveMinimum": ">"}
    signs |= {"maximum": "\N{LESS-THAN OR EQUAL TO}", "exclusiveMaximum": "<"}
    limits = ", ".join(f"{sign} {schema[key]}" for key, sign in signs.items() if key in schema)
    pattern = f"matching `{schema['pattern']}`" if "pattern" in schema else ""
    return [words for words in (limits, pattern) if words]


def _code(value: Any) -> str:
    """A default as it would be written in YAML; text is quoted only where it is empty."""
    if value == "":
        return '`""`'
    value = list(value) if isinstance(value, tuple) else value
    text = yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("\n").removesuffix("\n...")
    return f"`{text}`"


if __name__ == "__main__":
    TARGET.write_text(configuration_page(), encoding="utf-8")
