"""A vote: what somebody said of what a version made."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from evodiff.deployment.feedback.deployment_feedback import HIGHEST_RATING, LOWEST_RATING
from evodiff.errors import SettingsError

LONGEST_TEXT: Final = 1000  # characters of an error report
LONGEST_NAME: Final = 300  # of a version, a rater or a subject


class VoteKind(StrEnum):
    """What a vote says: a rating from 1 to 5, which of two is better, or what went wrong."""

    RATING = "rating"
    COMPARISON = "comparison"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Vote:
    """One vote; ``version`` and ``other`` are RUN/ID.

    ``rater`` is who voted and ``source`` the key that vouches for the rater: a token's subject or a network address,
    both as pseudonyms. Caps and estimates count sources: a person may have many cookies, but hardly many addresses.
    ``subject`` is what was voted on, a request or a comparison; a rater has one vote of each kind on it. ``value`` is
    the rating, or the share of the win that ``version`` has over ``other``: 1, 0 or, for a tie, a half. ``at`` is in
    UNIX seconds.

    Raises:
        SettingsError: the parts do not make a vote.
    """

    rater: str
    source: str
    subject: str
    kind: VoteKind
    version: str
    at: float
    value: float | None = None
    other: str = ""
    text: str = ""
    arm: str = ""
    rollout: str = ""

    def __post_init__(self) -> None:
        wrong = _problem(self)
        if wrong:
            raise SettingsError(f"No vote: {wrong}.", remedy="Send a rating, a comparison or an error report.")

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON, without what is empty."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return {name: value for name, value in values.items() if value not in ("", None)}


def _problem(vote: Vote) -> str | None:
    names = (vote.rater, vote.source, vote.subject, vote.version)
    if not all(0 < len(name) <= LONGEST_NAME for name in names) or len(vote.other) > LONGEST_NAME:
        return f"expected names of 1 to {LONGEST_NAME} characters, found {[len(name) for name in (*names, vote.other)]}"
    if not math.isfinite(vote.at):
        return f"expected a time, found {vote.at}"
    if len(vote.text) > LONGEST_TEXT or bool(vote.text) != (vote.kind is VoteKind.ERROR):
        return f"expected a text of at most {LONGEST_TEXT} characters in an error report alone"
    return _problem_of_value(vote)


def _problem_of_value(vote: Vote) -> str | None:
    if vote.kind is VoteKind.RATING:
        good = vote.value is not None and LOWEST_RATING <= vote.value <= HIGHEST_RATING and not vote.other
        return None if good else f"expected a rating from {LOWEST_RATING} to {HIGHEST_RATING}, found {vote.value}"
    if vote.kind is VoteKind.COMPARISON:
        good = vote.value in (0.0, 0.5, 1.0) and vote.other not in ("", vote.version)
        return None if good else f"expected a win, a tie or a loss against another version, found {vote.value}"
    return None if vote.value is None and not vote.other else "expected an error report without a value"
