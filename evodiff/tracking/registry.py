"""The model registry: members of the front as versions of a model named for the experiment, and aliases of releases.

A version is a folder in the artifacts of its candidate's run, named for the weights: an MLflow model made from code,
and in it the diffusers pipeline as ``artifacts/pipeline``. Numbers of versions are given out by the server, so of two
versions of one candidate with the same weights the lower one stays.
"""

from __future__ import annotations

import json
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

from evodiff.engine.experiment import code_version
from evodiff.errors import LedgerError
from evodiff.pipeline.export import trained_folder
from evodiff.pipeline.scratch import awaits_scratch
from evodiff.tracking.model_folder import write_model
from evodiff.tracking.records import RunRecords, candidate_key
from evodiff.tracking.runs import run_of_key
from evodiff.tracking.server import TrackingUnreachable, connected, is_error
from evodiff.training.digests import published_steps, weights_damage, weights_digest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from evodiff.pipeline.run import Run

MOST_A_GENERATION: Final = 3
ALIASES: Final = ("champion", "challenger", "previous")
REMOVED: Final = "evodiff.artifacts_removed"  # tag of a version whose model is gone; see evodiff.tracking.retention
MODEL: Final = "model"  # the folder of a version was called so, and is this with a hyphen and digits of its weights
_PAGE = 1000


@dataclass(frozen=True)
class RegisteredCandidate:
    """A version of a registered model: ``candidate`` entered the front of ``generation``; ``weights`` is the digest of
    the weights that the version holds, ``new`` whether this call registered it."""

    model: str
    version: str
    candidate: str
    generation: int
    weights: str
    new: bool

    def __str__(self) -> str:
        return f"{self.candidate} {'is now' if self.new else 'is'} models:/{self.model}/{self.version}"


def register_new_members(client: Any, experiment: str, run: Run, generation: int) -> list[RegisteredCandidate]:
    """Register what the front of a closed generation has new, and return it with what was registered before.

    Members that inherited weights are left out as long as :func:`~evodiff.pipeline.scratch.awaits_scratch` says so.
    """
    records = RunRecords(run)
    found = []
    for candidate in records.new_members(generation)[:MOST_A_GENERATION]:
        if awaits_scratch(run, candidate):
            continue
        registered = _register(client, experiment, records, generation, candidate)
        if registered is not None:
            found.append(registered)
        else:
            warnings.warn(f"{run.name}/{candidate} is not registered: its weights are gone or damaged.", stacklevel=4)
    return found


def registered_versions(client: Any, model: str) -> list[Any]:
    """Return the versions of a registered model, oldest first; none where there is no such model."""
    found: list[Any] = []
    token = None
    while True:
        page = client.search_model_versions(f"name = '{model}'", max_results=_PAGE, page_token=token)
        found += page
        token = page.token
        if not token:
            return sorted(found, key=lambda item: int(item.version))


def project_aliases(release: Mapping[str, Any], tracking_uri: str) -> bool:
    """Make the aliases ``champion``, ``challenger`` and ``previous`` say what ``release.json`` says.

    Each entry of ``release`` is ``{"model": NAME, "version": NUMBER}``, ``{"run": NAME, "candidate": ID}`` for the
    newest version of a candidate, or None. An alias moves between models with its entry, and is removed where there is
    none, or no such candidate is registered. Models that evodiff did not register are left alone. Returns False, with
    a warning, where MLflow cannot be reached: the next call projects the whole.

    Raises:
        SettingsError: ``tracking_uri`` is no address of a server.
        TrackingError: the server refuses, for instance because there is no such version.
    """
    try:
        with connected(tracking_uri) as client:
            wanted = {alias: _resolved(client, release.get(alias)) for alias in ALIASES}
            shown = {
                (alias, model.name, str(version))
                for model in _our_models(client)
                for alias, version in model.aliases.items()
                if alias in ALIASES
            }
            asked = {(alias, *place) for alias, place in wanted.items() if place is not None}
            for alias, model, _ in sorted(shown - asked):
                client.delete_registered_model_alias(model, alias)
            for alias, model, version in sorted(asked - shown):
                client.set_registered_model_alias(model, alias, version)
    except TrackingUnreachable as error:
        warnings.warn(f"The aliases in the registry are as they were: {error.headline}", stacklevel=2)
        return False
    return True


def _register(
    client: Any, experiment: str, records: RunRecords, generation: int, candidate: str
) -> RegisteredCandidate | None:
    """Register a candidate, or return what is registered; None where neither can be for want of its weights."""
    run = records.run
    with TemporaryDirectory(prefix="evodiff-") as scratch:
        weights = _held_weights(run, candidate, Path(scratch) / "weights")
        digest = None if weights is None else weights_digest(weights)
        version = _registered_version(client, run.name, candidate, digest)
        new = version is None and weights is not None
        if weights is not None and new:
            _add_version(client, experiment, weights, _version_tags(records, generation, candidate, weights), run)
            version = _registered_version(client, run.name, candidate, digest)
    if version is None:
        return None
    if "evodiff.experiment" not in version.tags:  # registered before versions said whose they are
        client.set_model_version_tag(run.name, version.version, "evodiff.experiment", run.identity)
    held = version.tags["evodiff.weights"]
    return RegisteredCandidate(run.name, str(version.version), candidate, generation, held, new)


def _add_version(client: Any, experiment: str, weights: Path, tags: Mapping[str, str], run: Run) -> None:
    """Upload a model of these weights, and make a version of it.

    Another version's model stays what it is: the folder has digits of the weights in its name.
    """
    home = run_of_key(client, experiment, candidate_key(int(tags["evodiff.generation"]), tags["evodiff.candidate"]))
    name = f"{MODEL}-{tags['evodiff.weights'][:12]}"
    write_model(run, weights, weights.with_name(name), tags)
    _create_model(client, run)
    client.log_artifacts(home.info.run_id, str(weights.with_name(name)), name)
    source = f"{home.info.artifact_uri}/{name}"
    client.create_model_version(run.name, source, run_id=home.info.run_id, tags=dict(tags), await_creation_for=0)


def _held_weights(run: Run, candidate: str, copy: Path) -> Path | None:
    """Copy the weights that an export of a candidate takes, for longer ones may replace them meanwhile.

    None stands for weights that are gone or damaged.
    """
    try:
        source = trained_folder(run, candidate)
    except LedgerError:
        return None
    try:
        shutil.copytree(source, copy)
    except (OSError, shutil.Error):
        if source.exists():
            raise
        return None  # pruned meanwhile
    return None if weights_damage(copy) else copy


def _registered_version(client: Any, model: str, candidate: str, digest: str | None) -> Any | None:
    """Return the version that holds a candidate's weights, or its newest where ``digest`` is None; delete doubles.

    Versions whose model was removed count for nothing.
    """
    versions = [
        item
        for item in registered_versions(client, model)
        if item.tags.get("evodiff.candidate") == candidate and REMOVED not in item.tags
    ]
    if digest is None:
        return versions[-1] if versions else None
    same = [item for item in versions if item.tags.get("evodiff.weights") == digest]
    for double in same[1:]:
        client.delete_model_version(model, str(double.version))
    return same[0] if same else None


def _create_model(client: Any, run: Run) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(
            run.name,
            tags={"evodiff.run": run.name},
            description=f"Members of the front of {run.name}: {run.settings['dataset']['name']} on "
            f"{run.settings['target']}.",
        )
    except MlflowException as error:
        if not is_error(error, "RESOURCE_ALREADY_EXISTS"):
            raise


def _version_tags(records: RunRecords, generation: int, candidate: str, weights: Path) -> dict[str, str]:
    run, row = records.run, records.first_trial(candidate)
    standing = records.standing(generation, candidate)
    return {
        "evodiff.run": run.name,
        "evodiff.experiment": run.identity,
        "evodiff.candidate": candidate,
        "evodiff.generation": str(row["generation"]),
        "evodiff.entered_front": str(generation),
        "evodiff.parents": ", ".join(row["parents"]),
        "evodiff.operator": row["operator"] or "",
        "evodiff.weights": weights_digest(weights),
        "evodiff.evaluated_weights": standing.weights or "",
        "evodiff.training_steps": str(published_steps(weights)),
        "evodiff.objectives": json.dumps(dict(standing.objectives), sort_keys=True),
        "evodiff.fitness_score": repr(records.fitness_score(generation, candidate)),
        "evodiff.target": run.settings["target"],
        "evodiff.serving_batch": str(run.evaluation.serving_batch),
        "evodiff.digests": json.dumps(run.settings["digests"], sort_keys=True),
        "evodiff.version": code_version(),
    }


def _resolved(client: Any, entry: Mapping[str, Any] | None) -> tuple[str, str] | None:
    """Return model and version that an entry of a release names, None where it names nothing that is registered."""
    if not entry:
        return None
    if entry.get("version") is not None:
        found = client.get_model_version(entry["model"], str(entry["version"]))
        return found.name, str(found.version)
    version = _registered_version(client, entry["run"], entry["candidate"], None)
    return version and (version.name, str(version.version))


def _our_models(client: Any) -> Iterator[Any]:
    token = None
    while True:
        page = client.search_registered_models(max_results=_PAGE, page_token=token)
        yield from (model for model in page if "evodiff.run" in model.tags)
        token = page.token
        if not token:
            return
