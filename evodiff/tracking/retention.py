"""Retention: large artifacts of candidates that left the front long ago go; what their runs and versions say stays."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from evodiff.tracking.generations import open_experiment
from evodiff.tracking.records import RunRecords
from evodiff.tracking.registry import MODEL, REMOVED, registered_versions
from evodiff.tracking.runs import search_runs
from evodiff.tracking.server import check_address, connected

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from evodiff.pipeline.run import Run

SAMPLES: Final = "samples.png"


@dataclass(frozen=True)
class Expired:
    """Candidates whose large artifacts, of ``size`` bytes in all, were removed or would be."""

    candidates: tuple[str, ...] = ()
    size: int = 0


def expire_artifacts(
    run: Run,
    tracking_uri: str,
    *,
    now: datetime,
    days: int,
    generations: int,
    keep: Collection[str] = (),
    keep_versions: Collection[str] = (),
    dry_run: bool = False,
) -> Expired:
    """Remove models and grids of samples that are older than ``days`` days, of candidates that left the front.

    A candidate has left it if it was on none of the fronts of the last ``generations`` closed generations. Candidates
    in ``keep``, and those of which a version is in ``keep_versions`` or has an alias, are spared. A version whose model
    went has the tag ``evodiff.artifacts_removed`` with the time; genomes and diagrams stay.

    Raises:
        SettingsError: ``tracking_uri`` is no address of a server.
        TrackingError: the server refuses, or holds another run of this name.
        TrackingUnreachable: the server is down.
    """
    check_address(tracking_uri)
    left = _left_the_front(run, generations).difference(keep)
    if not left:
        return Expired()
    with connected(tracking_uri) as client:
        if client.get_experiment_by_name(run.name) is None:
            return Expired()
        experiment = open_experiment(client, run)
        versions = registered_versions(client, run.name)
        left.difference_update(_in_use(client, run.name, versions, keep_versions))
        limit_ms = 1000 * (now - timedelta(days=days)).timestamp()
        expired, size = set(), 0
        for item in search_runs(
            client, experiment, "tags.evodiff.kind = 'candidate' and attributes.status != 'RUNNING'"
        ):
            candidate = item.data.tags["evodiff.candidate"]
            if candidate not in left or item.info.end_time > limit_ms:
                continue
            repository = _artifacts(item, tracking_uri)
            large = [file for file in repository.list_artifacts() if _is_large(file.path)]
            if not large:
                continue
            expired.add(candidate)
            size += sum(_size(repository, file) for file in large)
            if not dry_run:
                for version in versions:
                    if version.tags.get("evodiff.candidate") == candidate:
                        stamp = now.isoformat(timespec="seconds")
                        client.set_model_version_tag(run.name, str(version.version), REMOVED, stamp)
                for file in large:
                    repository.delete_artifacts(file.path)
    return Expired(tuple(sorted(expired)), size)


def _left_the_front(run: Run, generations: int) -> set[str]:
    records = RunRecords(run)
    fronts = [set(records.result(number)["front"]) for number in range(run.ledger.closed)]
    return set().union(*fronts).difference(*fronts[-generations:])


def _in_use(client: Any, model: str, versions: Collection[Any], kept: Collection[str]) -> set[str]:
    """Return the candidates of which a version is to be kept, or has an alias."""
    if not versions:
        return set()
    used = {*kept, *(str(version) for version in client.get_registered_model(model).aliases.values())}
    return {item.tags.get("evodiff.candidate", "") for item in versions if str(item.version) in used}


def _is_large(path: str) -> bool:
    return path in (SAMPLES, MODEL) or path.startswith(f"{MODEL}-")


def _artifacts(item: Any, tracking_uri: str) -> Any:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    return get_artifact_repository(item.info.artifact_uri, tracking_uri=tracking_uri)


def _size(repository: Any, file: Any) -> int:
    if not file.is_dir:
        return file.file_size or 0
    return sum(_size(repository, inner) for inner in repository.list_artifacts(file.path))
