"""Exceptions of evodiff: a headline says what was expected and what was found, a remedy what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class EvodiffError(Exception):
    """Base of every error that a user can mend; the command line prints it without a traceback and exits with 2."""

    def __init__(self, headline: str, *, remedy: str = "") -> None:
        super().__init__(headline, remedy)
        self.headline = headline
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.headline} {self.remedy}".strip()


class SettingsError(EvodiffError, ValueError):
    """A setting has a value that cannot be used, or contradicts what a run has frozen."""


class InvalidGenome(EvodiffError, ValueError):  # noqa: N818 - the name is part of the SearchSpace contract
    """A genome that came from outside does not describe a candidate of its space."""

    def __init__(self, what: str, *, where: str, expected: object, found: object, remedy: str) -> None:
        super().__init__(f"{what} at {where}: expected {expected}, found {found}.", remedy=remedy)
        self.what = what
        self.where = where
        self.expected = expected
        self.found = found


class DatasetError(EvodiffError, ValueError):
    """A dataset is unknown, empty or too damaged to train on."""


class GateFailed(EvodiffError, ValueError):  # noqa: N818 - reads as the fact it states
    """Data do not meet what is expected of them; page, result and the offending rows are in ``folder``."""

    def __init__(self, headline: str, *, remedy: str = "", folder: Path) -> None:
        super().__init__(headline, remedy=remedy)
        self.folder = folder


class LedgerError(EvodiffError):
    """A run folder cannot be read or written as it should; what was stored stays intact."""


class CandidateNotFound(EvodiffError, LookupError):  # noqa: N818 - reads as the fact it states
    """A run or candidate was named that does not exist, or a prefix that is not unique."""


class TrialFailure(EvodiffError):  # noqa: N818 - a trial's own failure is a result, stored in the ledger
    """A trial failed for a reason of its own (non-finite loss, wrong shapes): final, and stored with this cause."""

    def __init__(self, cause: str, detail: str = "") -> None:
        super().__init__(f"{cause}: {detail}" if detail else cause)
        self.cause = cause
        self.detail = detail


class Interrupted(EvodiffError):  # noqa: N818 - not an error: the work was asked to stop and left a checkpoint
    """Long work was asked to stop; what it had done is in a checkpoint and goes on from there."""


class PoolError(EvodiffError):
    """Workers cannot be had: the device is not there, say, or one was killed or ended for the time that it took."""
