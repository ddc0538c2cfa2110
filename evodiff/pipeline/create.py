"""Create a run: put its inputs into a new folder, then freeze what decides its results in ``experiment.json``."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evodiff.architecture.genome import ArchitectureGenome, ImageShape
from evodiff.architecture.space import ArchitectureSpace
from evodiff.engine import STRATEGIES, Evolution, Objective
from evodiff.engine.fidelity import check_rung_steps
from evodiff.engine.replication import check_same_start
from evodiff.engine.strategies import find_strategy
from evodiff.errors import LedgerError, SettingsError
from evodiff.hardware.calibration import LOCAL
from evodiff.hardware.profiles import TARGETS
from evodiff.pipeline.preference import parse_preference
from evodiff.pipeline.run import PRICED, SCORED, Run
from evodiff.settings import EvaluationSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evodiff.engine.transfer import Transferred
    from evodiff.pipeline.inputs import Inputs
    from evodiff.settings import Settings


def check_settings(settings: Settings) -> None:
    """Check what can be checked before anything is computed.

    Raises:
        SettingsError: an objective, the target, the strategy or an option of it is unknown, the preference cannot be
            read, rungs would be trained for equally many steps, children would inherit and ties be tried again, or the
            sampler that scores cannot take so many steps between these noise levels.
    """
    for name in settings.objectives:
        _check_name("objective", name, SCORED + PRICED)
    if len(set(settings.objectives)) != len(settings.objectives):
        raise SettingsError(
            f"Expected each objective once, found {list(settings.objectives)}.", remedy="Remove the repetition."
        )
    if not set(settings.objectives) & set(SCORED):
        raise SettingsError(
            f"Expected an objective that speaks of quality ({' or '.join(SCORED)}), found {list(settings.objectives)}.",
            remedy="Add kid: a search for cost alone ends at the smallest network.",
        )
    _check_name("target", settings.target, (LOCAL, *TARGETS))
    _check_name("strategy", settings.strategy, tuple(STRATEGIES))
    find_strategy(settings.strategy, settings.strategy_options)
    parse_preference(settings.prefer, settings.objectives)
    check_rung_steps(settings.training.steps, settings.rungs)
    check_same_start(inherit=settings.inherit, replicate_ties=settings.replicate_ties)
    _check_sampler(settings)


def _check_sampler(settings: Settings) -> None:
    asked, usual = settings.evaluation, EvaluationSettings()
    if all(getattr(asked, name) == getattr(usual, name) for name in ("sampler_steps", "sigma_min", "sigma_max")):
        return  # on every schedule there is; to find out imports torch, which takes seconds
    from evodiff.sampling import NoiseSchedule, scoring_timesteps

    schedule = NoiseSchedule.named(settings.training.noise_schedule)
    scoring_timesteps(schedule, asked.sampler_steps, sigma_min=asked.sigma_min, sigma_max=asked.sigma_max)


def create_run(
    settings: Settings,
    path: Path,
    inputs: Inputs,
    *,
    warm_start: Sequence[ArchitectureGenome | Transferred[ArchitectureGenome]] = (),
) -> Run:
    """Create a run in the new or empty folder ``path``; ``warm_start`` genomes are the first to be tried.

    Raises:
        LedgerError: ``path`` holds something already, or cannot be written.
        SettingsError: as :func:`check_settings`.
    """
    check_settings(settings)
    check_folder(path)
    digests = _publish_inputs(inputs, path / "inputs")
    space = space_of(settings, inputs)
    frozen: dict[str, Any] = {
        "dataset": {
            "name": inputs.dataset.name,
            "class_names": list(inputs.dataset.class_names),
            "images": len(inputs.dataset.images),
            "skipped": list(inputs.dataset.skipped),
        },
        "image_shape": asdict(space.shape),
        "training": settings.training.model_dump(mode="json"),
        "evaluation": settings.evaluation.model_dump(mode="json"),
        "target": settings.target,
        "device": inputs.device,
        "working_set_mb": inputs.working_set_mb,
        "prefer": settings.prefer,
        "digests": digests,
        "noise_floors": dict(inputs.noise_floors),
        "feature_accuracy": dict(inputs.feature_accuracy),
    }
    Evolution(
        space,
        objectives=[Objective(name) for name in settings.objectives],
        population_size=settings.population,
        rungs=settings.rungs,
        replicate_ties=settings.replicate_ties,
        seed=settings.seed,
        ledger=path,
        strategy=find_strategy(settings.strategy, settings.strategy_options),
        warm_start=warm_start,
        inherit=settings.inherit,
        settings=frozen,
    )
    return Run.open(path)


def space_of(settings: Settings, inputs: Inputs) -> ArchitectureSpace:
    """Return the space that a run with these settings and inputs searches."""
    return ArchitectureSpace(
        ImageShape(*inputs.dataset.shape),
        calibration=inputs.calibration,
        serving_batch=settings.evaluation.serving_batch,
        objectives=tuple(name for name in settings.objectives if name in PRICED),
    )


def check_folder(path: Path) -> None:
    """Check that a run may be created at ``path``; nothing is left there.

    Raises:
        LedgerError: there is something in that place, or it cannot be written.
    """
    try:
        if (path / "experiment.json").exists():
            raise LedgerError(
                f"{path} already holds a run: expected a new or empty folder.",
                remedy=f"Go on with it by --resume {path}, or give another folder with --out.",
            )
        if path.exists() and (not path.is_dir() or any(item.name != "inputs" for item in path.iterdir())):
            raise LedgerError(
                f"{path} is in use: expected a new or empty folder.", remedy="Give another folder with --out."
            )
        _try_to_write(path)
    except OSError as error:
        raise LedgerError(
            f"{path} cannot be written: {error.strerror}.", remedy="Give another folder with --out."
        ) from error


def _try_to_write(path: Path) -> None:
    """Make the folder and one in it, and remove again what was not there; whatever the system refuses is raised."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
        Path(tempfile.mkdtemp(dir=path)).rmdir()
    finally:
        for folder in missing:
            with suppress(OSError):  # it was not made, or something else came to lie there meanwhile
                folder.rmdir()


def _publish_inputs(inputs: Inputs, folder: Path) -> dict[str, str]:
    """Put the inputs into ``folder`` and return the SHA-256 of each file."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, source in inputs.files.items():
        (folder / name).unlink(missing_ok=True)
        link_or_copy(source, folder / name)
    table = json.dumps(inputs.calibration.to_json(), sort_keys=True, indent=1)
    (folder / "calibration.json").write_text(table + "\n", encoding="utf-8")
    return {Path(name).stem: file_digest(folder / name) for name in sorted([*inputs.files, "calibration.json"])}


def link_or_copy(source: Path, target: Path) -> None:
    """Give ``source`` a second name where the file system can, and copy it where it cannot."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hex digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _check_name(what: str, name: str, known: Sequence[str]) -> None:
    if name not in known:
        raise SettingsError(
            f"Unknown {what}: expected one of {', '.join(known)}; found {name!r}.",
            remedy=f"Take one of these as --{what if what != 'objective' else 'objectives'}.",
        )
