"""What deployment says of a run's candidates, taken into a generation when it opens."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from evodiff.errors import EvodiffError
from evodiff.pipeline.release import read_release, rolled_back
from evodiff.settings import load_settings

if TYPE_CHECKING:
    from evodiff.pipeline.run import Run


def record_deployment(run: Run, generation: int) -> None:
    """Take what the service's store holds on a run into a generation, unless it was; nothing where there is no store.

    A search does not wait for a store that cannot be read: that is warned of, and nothing is taken.
    """
    settings = load_settings({})
    if not settings.feedback_store.exists():
        return
    from evodiff.deployment.feedback.snapshot import snapshot_deployment
    from evodiff.deployment.feedback.store import FeedbackStore

    try:
        release = read_release(settings.release_file)
        champion, failed = release["champion"], rolled_back(release)
        named = (
            champion is not None and "run" in champion
        )  # a registered model that never was loaded is compared with nobody
        reference = f"{champion['run']}/{champion['candidate']}" if named else None
        with FeedbackStore(settings.feedback_store) as store:
            snapshot_deployment(run, generation, store, reference=reference, fewest=settings.min_raters, failed=failed)
    except EvodiffError as error:
        warnings.warn(f"{run.name}: generation {generation} joins no votes: {error}", stacklevel=2)
