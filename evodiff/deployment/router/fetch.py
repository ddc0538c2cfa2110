"""A process that copies a model to where it is served from; it ends when it has, and takes the imports of MLflow along.

``python -m evodiff.deployment.router.fetch JSON`` prints one line of JSON: ``entry`` (with run and candidate) and,
where a local run has them, ``run_folder`` and ``recorded`` (KID and its standard error); or ``headline``, ``remedy``,
and ``refused`` where the model itself is at fault.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evodiff.deployment.release.entries import DIGEST, check_entry
from evodiff.deployment.worker.model_checks import ModelRefused, check_model_folder
from evodiff.errors import CandidateNotFound, EvodiffError, LedgerError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_MOST_FILES = 64
_SERVED = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}", re.ASCII)


def fetch(
    entry: Mapping[str, Any], out: Path, *, runs_dir: Path, tracking_uri: str | None, max_bytes: int
) -> dict[str, Any]:
    """Copy the pipeline folder of an entry to the new folder ``out``; see the module for what comes back.

    A candidate comes from its run where that is on this machine and has its weights, else from the registry; a
    registered model from there, whatever run and candidate it was found to be before. Where the entry says by
    ``experiment`` which run it is of, another one of that name does not count.

    Raises:
        CandidateNotFound: there is no such model.
        ModelRefused: it is too large, or no folder of safetensors and JSON.
        EvodiffError: its run is damaged, or the registry does not answer.
    """
    if "folder" in entry:
        return _from_folder(Path(entry["folder"]), entry.get("candidate"), out, max_bytes)
    aside = ("run", "candidate") if entry.get("model") is not None else ()
    named = check_entry({name: value for name, value in entry.items() if name not in aside})
    if "run" in named and (runs_dir / named["run"] / "experiment.json").is_file():
        try:
            return _from_run(runs_dir / named["run"], named["candidate"], out, entry.get("experiment"))
        except LedgerError:  # its weights are gone, or the run is damaged, or another one of that name
            if tracking_uri is None:
                raise
            shutil.rmtree(out, ignore_errors=True)
    if tracking_uri is None:
        raise CandidateNotFound(
            f"{named.get('run') or named.get('model')} is no run in {runs_dir}, and no registry is named.",
            remedy="Set EVODIFF_RUNS_DIR or EVODIFF_TRACKING_URI.",
        )
    tags = _from_registry(named, out, tracking_uri, max_bytes)
    generation = tags.get("evodiff.entered_front", "")
    found = _named({"run": tags["evodiff.run"], "candidate": tags["evodiff.candidate"]})
    experiment = tags.get("evodiff.experiment")
    return {
        "entry": {
            **found,
            "generation": int(generation) if generation.isdecimal() else None,
            "experiment": experiment if DIGEST.fullmatch(experiment or "") else None,
        },
        **_known_here(found, tags, runs_dir),
    }


def _from_folder(folder: Path, candidate: str | None, out: Path, max_bytes: int) -> dict[str, Any]:
    if (folder / "experiment.json").is_file():
        return _from_run(folder, candidate or "champion", out)
    model = check_model_folder(folder, max_bytes=max_bytes)
    shutil.copytree(folder, out)
    name = re.sub(r"(?:[^A-Za-z0-9._-]|\.(?=\.))+", "-", folder.name).strip("-.")[:128] or "folder"
    return {"entry": {**_named({"run": name, "candidate": model.digest[:16]}), "generation": None}}


def _from_run(folder: Path, candidate: str, out: Path, experiment: str | None = None) -> dict[str, Any]:
    from evodiff.pipeline.export import export_candidate
    from evodiff.pipeline.final import named_candidate, trial_row
    from evodiff.pipeline.run import Run
    from evodiff.pipeline.scratch import evaluation_from_scratch

    run = Run.open(folder)
    if experiment not in (None, run.identity):
        raise LedgerError(
            f"{run.name}/{candidate} is of another run of that name than the one in {folder}.",
            remedy="Bring that run back, or name the registry that has its model by EVODIFF_TRACKING_URI.",
        )
    identifier = named_candidate(run, candidate)
    export_candidate(run, identifier, out)
    row = trial_row(run, identifier)
    evaluation = evaluation_from_scratch(run, row)
    recorded = None
    if evaluation is not None and "kid" in evaluation.objectives:
        error = float(evaluation.details.get("kid_standard_error") or 0.0)
        recorded = [evaluation.objectives["kid"], error]
    entry = {
        **_named({"run": run.name, "candidate": identifier}),
        "generation": row["generation"],
        "experiment": run.identity,
    }
    return {"entry": entry, "run_folder": str(run.path.resolve()), "recorded": recorded}


def _named(found: dict[str, str]) -> dict[str, str]:
    """Return the names that a model was found to have, which stand in headers, metrics and paths.

    Raises:
        ModelRefused: one cannot.
    """
    for name, value in found.items():
        if not _SERVED.fullmatch(value) or ".." in value:
            raise ModelRefused(
                f"It cannot be served under the {name} {value[:80]!r}: expected letters, digits, dot, hyphen and "
                "underscore, at most 128.",
                remedy="Register the model under another name.",
            )
    return found


def _known_here(found: Mapping[str, str], tags: Mapping[str, str], runs_dir: Path) -> dict[str, Any]:
    """Return what a smoke test may use of the run of a registered version, where that very run is on this machine."""
    from evodiff.pipeline.run import Run

    folder = runs_dir / found["run"]
    try:
        run = Run.open(folder)
        if json.loads(tags["evodiff.digests"]) != run.settings["digests"]:
            return {}  # another run of that name: its images are others
        if tags.get("evodiff.experiment", run.identity) != run.identity:
            return {}
        judged = tags["evodiff.weights"] == tags["evodiff.evaluated_weights"]
        kid = json.loads(tags["evodiff.objectives"]).get("kid") if judged else None
    except (EvodiffError, KeyError, ValueError, AttributeError):  # it is elsewhere, or registered by hand
        return {}
    return {"run_folder": str(folder.resolve()), "recorded": None if kid is None else [float(kid), 0.0]}


def _from_registry(named: Mapping[str, str], out: Path, tracking_uri: str, max_bytes: int) -> dict[str, str]:
    """Copy a registered version, and return its tags; one of another's making is run and candidate by its own name."""
    from evodiff.tracking.model_folder import PIPELINE
    from evodiff.tracking.server import connected

    with connected(tracking_uri) as client:
        version = _version(client, named)
        tags = dict(version.tags)
        path = f"{version.source.rpartition('/')[2]}/artifacts/{PIPELINE}"
        files = list(_files(client, version.run_id, path))
        size = sum(int(file.file_size or 0) for file in files)
        if not files or size > 2 * max_bytes:
            raise ModelRefused(
                f"models:/{version.name}/{version.version} is not served: expected a pipeline of at most {max_bytes} "
                f"bytes, found {len(files)} files of {size}.",
                remedy="Serve a version that evodiff registered.",
            )
        scratch = out.with_name(f"{out.name}.download")
        scratch.mkdir()
        shutil.move(client.download_artifacts(version.run_id, path, str(scratch)), out)
        shutil.rmtree(scratch)
    return {"evodiff.run": version.name, "evodiff.candidate": str(version.version), **tags}


def _version(client: Any, named: Mapping[str, str]) -> Any:
    if "alias" in named:
        return client.get_model_version_by_alias(named["model"], named["alias"])
    if "version" in named:
        return client.get_model_version(named["model"], named["version"])
    from evodiff.tracking.registry import REMOVED, registered_versions

    versions = [
        item
        for item in registered_versions(client, named["run"])
        if item.tags.get("evodiff.candidate") == named["candidate"] and REMOVED not in item.tags
    ]
    if not versions:
        raise CandidateNotFound(
            f"{named['run']}/{named['candidate']} is in no run here, and not registered.",
            remedy="Register it by `evodiff track RUN`.",
        )
    return versions[-1]


def _files(client: Any, run_id: str, path: str) -> Iterator[Any]:
    pending, seen = [path], 0
    while pending and seen < _MOST_FILES:
        for item in client.list_artifacts(run_id, pending.pop()):
            seen += 1
            if item.is_dir:
                pending.append(item.path)
            else:
                yield item


def main() -> None:
    """Fetch what the argument says, and print what came of it."""
    request = json.loads(sys.argv[1])
    os.nice(request["niceness"])
    with redirect_stdout(sys.stderr):  # what libraries print is no answer
        try:
            found = fetch(
                request["entry"],
                Path(request["out"]),
                runs_dir=Path(request["runs_dir"]),
                tracking_uri=request["tracking_uri"],
                max_bytes=request["max_bytes"],
            )
        except EvodiffError as error:
            refused = isinstance(error, ModelRefused | LedgerError)
            found = {"headline": error.headline, "remedy": error.remedy, "refused": refused}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
