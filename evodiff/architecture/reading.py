"""Checked reading of a genome's JSON: each function returns what it is named for, or raises ``InvalidGenome``.

``where`` is the place in the document, such as ``layers[3].heads``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from evodiff.errors import InvalidGenome

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

_Value = TypeVar("_Value", bound="int | str | bool")


def read_object(data: object, where: str, names: AbstractSet[str]) -> Mapping[str, Any]:
    """Return an object; ``names`` tell what it should hold, and are not checked."""
    if not isinstance(data, Mapping):
        raise InvalidGenome(
            "Not an object",
            where=where,
            expected=f"an object with {sorted(names)}",
            found=repr(data)[:80],
            remedy="Write a JSON object there.",
        )
    return data


def read_fields(
    data: object, where: str, names: AbstractSet[str], *, optional: AbstractSet[str] = frozenset()
) -> dict[str, Any]:
    """Return an object that holds ``names``, of which the ``optional`` ones may be missing, and nothing else."""
    found = read_object(data, where, names)
    missing = names - set(found) - optional
    unknown = set(found) - names
    if missing or unknown:
        raise InvalidGenome(
            "Wrong names",
            where=where,
            expected=f"the names {sorted(names)}",
            found=sorted(map(str, found)),
            remedy=" ".join(
                f"{verb} {', '.join(sorted(map(str, wrong)))}."
                for verb, wrong in (("Add", missing), ("Remove", unknown))
                if wrong
            ),
        )
    return dict(found)


def read_list(data: object, where: str) -> list[Any]:
    """Return a list."""
    if not isinstance(data, list | tuple):
        raise InvalidGenome(
            "Not a list", where=where, expected="a list", found=repr(data)[:80], remedy="Write a JSON list there."
        )
    return list(data)


def read_key(data: object, where: str) -> str:
    """Return a layer key: a string that is not empty."""
    if not isinstance(data, str) or not data:
        raise InvalidGenome(
            "Not a name",
            where=where,
            expected="a non-empty string",
            found=repr(data)[:80],
            remedy="Name a layer key there.",
        )
    return data


def read_choice(value: object, choices: tuple[_Value, ...], where: str) -> _Value:
    """Return a value that is one of ``choices``, of its very type: 1 does not pass for True, nor True for 1."""
    for choice in choices:
        if type(choice) is type(value) and choice == value:
            return choice
    raise InvalidGenome(
        "Value not allowed",
        where=where,
        expected=f"one of {list(choices)}",
        found=repr(value)[:80],
        remedy="Take one of the values listed.",
    )
