"""Whether what serves is of the run that is here: another machine may have one of the same name, with other values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from evodiff.errors import EvodiffError
from evodiff.pipeline.export import exported_digests

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evodiff.pipeline.run import Run


def check_identity(run: Run, entry: Mapping[str, Any]) -> None:
    """Refuse an entry of the release that names a run as ``run`` is named, but is of another machine's.

    One that does not say whose it is is known by its weights, where those are here still. One that was registered has
    to be; all others come from this machine.

    Raises:
        EvodiffError: it is of another run, or nothing says that it is of this one.
    """
    experiment, digest, candidate = entry.get("experiment"), entry.get("digest"), entry.get("candidate")
    if experiment == run.identity:
        return
    if experiment is not None:
        raise EvodiffError(f"it is of another run of the name {run.name} than the one that is here.")
    registered = entry.get("model") is not None
    if candidate is None or (registered and digest is None):
        raise EvodiffError(f"nothing says that it is of the run {run.name} that is here.")
    if digest is None:
        return
    known = exported_digests(run, str(candidate))
    if digest not in known and (known or registered):
        raise EvodiffError(f"its weights are not those that the run {run.name} has of it here.")


def is_of(run: Run, entry: Mapping[str, Any]) -> bool:
    """Return whether an entry passes :func:`check_identity`; one whose candidate the run does not know does not."""
    try:
        check_identity(run, entry)
    except EvodiffError:
        return False
    return True
