"""Categories that cannot meet: those that look like another one, like several, like a list, or like nothing.

A fabric answers a query that has exactly one of its categories. What a program wrote into a table is often nearly that:
``1.0`` for ``1``, ``rose,bear`` for ``rose;bear``, ``nan`` for an empty cell.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping

_NOTHING = frozenset(
    {"nan", "none", "null", "nil", "na", "n/a", "n.a.", "<na>", "#n/a", "nat", "undefined", "unknown", "unlabelled"}
    | {"unlabeled", "-", "--", "?", "[]", "{}", "()"}
)
_LIST = re.compile(r"\[.*\]|\{.*\}|\((\s*['\"].*|.*,.*|\s*)\)|(array|set|frozenset|tuple|list)\(.*\)", re.DOTALL)
_AROUND = "[](){}'\"` \t\r\n"  # what a list that was written as text leaves around its names
_BETWEEN = re.compile(r"[,;|/\\+&\t\r\n]")
_NUMBER = re.compile(r"\+?(-?)0*([0-9]+)(?:[.,]([0-9]*?)0*)?")


def looks_like_nothing(category: str) -> bool:
    """True for what programs write where there is no category: ``nan``, ``None``, ``N/A``."""
    return category.strip().casefold() in _NOTHING


def looks_like_a_list(category: str) -> bool:
    """True for a list of names that was written as one text: ``['rose']``, ``{rose,bear}``, ``("rose",)``."""
    return _LIST.fullmatch(category.strip()) is not None


def names_in(category: str) -> list[str]:
    """The names in what looks like a list, or like several categories with another separator."""
    names = (part.strip(_AROUND) for part in _BETWEEN.split(category))
    return [name for name in names if name]


def resembling(asked: Collection[str], held: Iterable[str]) -> dict[str, str]:
    """For categories that queries ask for: the first one, in order of text, that fabrics hold and that may mean them.

    Alike are categories that differ in case, blanks, hyphens, quotes, brackets or the form of a number, and those of
    which one, split at commas, bars, slashes or the like (at blanks only as a whole), gives the other. What is asked
    for is told with its like even where a fabric holds it exactly. Time and memory O(asked + held).
    """
    by_form: dict[str, set[str]] = defaultdict(set)
    for category in asked:
        for form in (_form(category), *map(_form, names_in(category))):
            by_form[form].add(category)
    found: dict[str, str] = {}
    for other in sorted(set(held) - set(asked), reverse=True):
        for form in _forms(other, by_form):
            found.update(dict.fromkeys(by_form[form], other))
    return dict(sorted(found.items()))


def advice(likes: Mapping[str, str], met: Collection[str]) -> list[str]:
    """What to write, for each pair of ``resembling``; ``met`` are the categories of queries that a fabric holds."""
    # A text that names several is no mistake where a fabric holds it as it is.
    return [_advice(*pair) for pair in likes.items() if pair[0] not in met or not _is_part(pair[1], pair[0])]


def _advice(asked: str, held: str) -> str:
    if _form(asked) == _form(held):
        return f"queries say {asked!r}, fabrics {held!r}: write them alike"
    if _form(asked) in map(_form, (*names_in(held), *held.split())):
        return f"{held!r} of the fabrics looks like several, one of them {asked!r}: write ; between them"
    return f"{asked!r} of the queries looks like several, one of them {held!r}: a query has one category"


def odd_labels(asked: Collection[str], held: Collection[str]) -> Iterator[tuple[str, str]]:
    """(kind, example) of each category that looks like nothing or like a list, and of each pair that may not meet.

    ``held`` are all categories of the fabrics.
    """
    for category in sorted({*asked, *held}):
        if looks_like_nothing(category):
            yield "category-like-nothing", repr(category)
        elif looks_like_a_list(category):
            yield "category-like-list", repr(category)
    for text in advice(resembling(asked, held), held):
        yield "category-spelling", text


def _is_part(part: str, category: str) -> bool:
    return _form(part) != _form(category) and _form(part) in map(_form, names_in(category))


def _forms(category: str, known: Collection[str]) -> list[str]:
    """The known forms that a category may mean: its own, those of its parts, those of all its words."""
    words = [_form(word) for word in category.split()]
    forms = [_form(category), *map(_form, names_in(category)), *(words if all(word in known for word in words) else ())]
    return [form for form in forms if form in known]


def _form(category: str) -> str:
    """What categories share that a reader takes for the same."""
    text = unicodedata.normalize("NFKC", category).casefold().strip(_AROUND)
    text = "".join(letter for letter in text if unicodedata.category(letter) != "Cf")  # takes no room, as U+200B
    if number := _NUMBER.fullmatch(text):
        sign, whole, fraction = number.groups("")
        return f"{sign}{whole}.{fraction}".rstrip(".")
    return re.sub(r"[\s_-]+", " ", text)
