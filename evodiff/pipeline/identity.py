"""Whether what serves is of the run that is here: another machine may have one of the same name, with other values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from evodiff.errors import EvodiffError
from evodiff.pipeline.export import exported_digest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evodiff.pipeline.run import Run


def check_identity(run: Run, entry: Mapping[str, Any]) -> None:
    """Refuse an entry of the release that names a run as ``run`` is named, but is of another machine's.

    A version that was registered before versions said whose they are is known by its weights.

    Raises:
        EvodiffError: it is of another run, or nothing says that it is of this one.
    """
    experiment, digest = entry.get("experiment"), entry.get("digest")
    if experiment not in (None, run.identity):
        raise EvodiffError(f"it is of another run of the name {run.name} than the one that is here.")
    registered = experiment is None and entry.get("model") is not None
    if registered and digest is not None and digest != exported_digest(run, str(entry["candidate"])):
        raise EvodiffError(f"its weights are not those that the run {run.name} has of it here.")


def is_of(run: Run, entry: Mapping[str, Any]) -> bool:
    """Return whether an entry passes :func:`check_identity`; one whose candidate the run does not know does not."""
    try:
        check_identity(run, entry)
    except EvodiffError:
        return False
    return True
