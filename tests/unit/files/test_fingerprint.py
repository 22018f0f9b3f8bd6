"""A fingerprint follows its value, and nothing else."""

from __future__ import annotations

import re

from retrieval_core.files.fingerprint import fingerprint


def test_a_fingerprint_follows_the_content_and_not_the_order_of_keys():
    assert fingerprint({"a": 1, "b": [1, 2]}) == fingerprint({"b": [1, 2], "a": 1})
    values = [{"a": 1}, {"a": "1"}, {"a": 1.5}, {"a": None}, {"b": 1}, {"a": [1, 2]}, {"a": [2, 1]}, {}, []]
    assert len({fingerprint(value) for value in values}) == len(values)
    assert re.fullmatch("[0-9a-f]{64}", fingerprint(values))
