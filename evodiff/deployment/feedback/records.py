"""Records of how architectures fared, made from the votes and measurements that a service keeps."""

from __future__ import annotations

from collections import defaultdict
from statistics import fmean
from typing import TYPE_CHECKING, Any, Final

from evodiff.deployment.feedback.deployment_feedback import DeploymentFeedback
from evodiff.deployment.feedback.votes import VoteKind

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from evodiff.deployment.feedback.votes import Vote

LAST_ERRORS: Final = 20


def feedback_records(
    votes: Iterable[Vote], production: Mapping[str, Mapping[str, Any]], *, failed: Collection[str] = ()
) -> list[DeploymentFeedback]:
    """Return one record of every version that was voted on or served, in the order of their names.

    A source's ratings of a version are one, their mean; of error reports the last :data:`LAST_ERRORS` are there.
    ``failed`` are the versions that were rolled back.
    """
    ratings: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    errors: dict[str, list[str]] = defaultdict(list)
    named = set(production)
    for vote in votes:
        named |= {vote.version, vote.other} - {""}
        if vote.kind is VoteKind.RATING and vote.value is not None:
            ratings[vote.version][vote.source].append(vote.value)
        elif vote.kind is VoteKind.ERROR:
            errors[vote.version].append(vote.text)
    return [
        DeploymentFeedback(
            architecture_id=name,
            user_ratings=tuple(fmean(values) for values in ratings[name].values()),
            performance_metrics=_flat(production.get(name, {})),
            deployment_success=name not in failed,
            error_logs=tuple(errors[name][-LAST_ERRORS:]),
        )
        for name in sorted(named)
    ]


def _flat(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return measurements as numbers by name, with their units at the end."""
    found = {name: float(metrics[key]) for name, key in _NAMES.items() if key in metrics}
    if "online_kid" in metrics:
        found["online_kid"] = float(metrics["online_kid"]["kid"])
    for shape in metrics.get("compute", ()):
        name = f"batch_{shape['batch']}_steps_{shape['steps']}{'_guided' if shape['guided'] else ''}_compute"
        found |= {f"{name}_{share}_seconds": float(shape[f"{share}_seconds"]) for share in ("p50", "p99")}
    return found


_NAMES: Final = {"requests_total": "requests", "failed_requests_total": "failed", "rss_bytes": "rss_bytes"}
