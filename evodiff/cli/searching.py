"""Verbs that start a search, or make ready for one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from evodiff.cli.common import given_options, names, print_result, print_tables, settings_from
from evodiff.cli.options import (
    DatasetOption,
    DeviceOption,
    ImageSizeOption,
    InheritOption,
    ObjectivesOption,
    PopulationOption,
    PreferOption,
    ReplicateTiesOption,
    RungsOption,
    SeedOption,
    StepsOption,
    StrategyOption,
    TargetOption,
    WorkersOption,
)


def evolve(
    dataset: DatasetOption = None,
    image_size: ImageSizeOption = None,
    generations: Annotated[int | None, typer.Option(min=1, help="Generations in all.  [default: 3]")] = None,
    population: PopulationOption = None,
    steps: StepsOption = None,
    rungs: RungsOption = None,
    workers: WorkersOption = None,
    device: DeviceOption = None,
    seed: SeedOption = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the new run.  [default: runs/DATASET-NUMBER]")] = None,
    warm_start: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Try the front of this run first; its images have the same shape."),
    ] = None,
    objectives: ObjectivesOption = None,
    prefer: PreferOption = None,
    target: TargetOption = None,
    strategy: StrategyOption = None,
    inherit: InheritOption = None,
    time_budget: Annotated[
        float | None, typer.Option(min=0.1, help="Minutes after which no generation is opened.")
    ] = None,
    stop_on_plateau: Annotated[
        bool | None,
        typer.Option(
            "--stop-on-plateau/--no-stop-on-plateau",
            help="Open no generation once the hypervolume hardly grows.  [default: no]",
        ),
    ] = None,
    replicate_ties: ReplicateTiesOption = None,
    champion_steps: Annotated[
        int | None,
        typer.Option(min=1, help="Training steps of the champion.  [default: a generation's compute]"),
    ] = None,
    baseline: Annotated[
        bool, typer.Option("--baseline", help="Run a random search of equal budget beside it.")
    ] = False,
    resume: Annotated[
        Path | None,
        typer.Option(
            help="Go on with this run; only generations, workers, time budget, champion's steps and the plateau option "
            "may change. A contradicting EVODIFF_* variable is refused, params.yaml is ignored with a warning."
        ),
    ] = None,
) -> None:
    """Evolve architectures; ends with a leaderboard, the front and a report to look at."""
    from evodiff.reporting.progress import ProgressDisplay

    given = given_options(
        dataset=dataset,
        image_size=image_size,
        generations=generations,
        population=population,
        steps=steps,
        rungs=rungs,
        workers=workers,
        device=device,
        seed=seed,
        objectives=names(objectives),
        prefer=prefer,
        target=target,
        strategy=strategy,
        inherit=inherit,
        time_budget_seconds=None if time_budget is None else 60 * time_budget,
        stop_on_plateau=stop_on_plateau,
        replicate_ties=replicate_ties,
    )
    with ProgressDisplay() as display:
        from evodiff.search import resume_search, start_search

        if resume is not None:
            _refuse_with_resume(out=out, warm_start=warm_start, baseline=baseline or None)
            result = resume_search(
                resume, settings_from(given), given=given, champion_steps=champion_steps, display=display
            )
        else:
            result = start_search(
                settings_from(given),
                out=out,
                warm_start=warm_start,
                baseline=baseline,
                champion_steps=champion_steps,
                display=display,
            )
    print_result(result)


def smoke(
    dataset: DatasetOption = None,
    image_size: ImageSizeOption = None,
    population: PopulationOption = None,
    steps: StepsOption = None,
    rungs: RungsOption = None,
    workers: WorkersOption = None,
    device: DeviceOption = None,
    seed: SeedOption = None,
    objectives: ObjectivesOption = None,
    prefer: PreferOption = None,
    target: TargetOption = None,
    strategy: StrategyOption = None,
    inherit: InheritOption = None,
    replicate_ties: ReplicateTiesOption = None,
) -> None:
    """Try a dataset and settings in a minute: every step of a search with two candidates; say what it will take."""
    from evodiff.pipeline.generation import Listener
    from evodiff.reporting.progress import ProgressDisplay
    from evodiff.reporting.smoke import smoke_tables
    from evodiff.smoke import smoke as try_out

    given = given_options(
        dataset=dataset,
        image_size=image_size,
        population=population,
        steps=steps,
        rungs=rungs,
        workers=workers,
        device=device,
        seed=seed,
        objectives=names(objectives),
        prefer=prefer,
        target=target,
        strategy=strategy,
        inherit=inherit,
        replicate_ties=replicate_ties,
    )
    with ProgressDisplay() as display:
        result = try_out(settings_from(given), say=display.say, listener=Listener(display.stage, display.trial_ended))
    print_tables(*smoke_tables(result))
    for remark in (
        *(f"warning: not met: {check.expectation.meaning}" for check in result.gate.warnings),
        *result.notes,
    ):
        typer.echo(remark)
    typer.echo(f"The dataset: {result.gate.page}")


def prepare(
    dataset: DatasetOption = None,
    image_size: ImageSizeOption = None,
    target: TargetOption = None,
    workers: WorkersOption = None,
    device: DeviceOption = None,
) -> None:
    """Judge a dataset by its gate, then make the feature nets and operator times that searches over it start from.

    Where EVODIFF_TRACKING_URI is set, what the gate found is tracked.
    """
    from evodiff.gates import failure_tracked, try_to_track
    from evodiff.gates import prepare as prepare_inputs
    from evodiff.pipeline.session import open_workers
    from evodiff.reporting.progress import ProgressDisplay

    given = given_options(dataset=dataset, image_size=image_size, target=target, workers=workers, device=device)
    settings = settings_from(given)
    with (
        ProgressDisplay() as display,
        open_workers(settings, display.say) as pool,
        failure_tracked(settings, typer.echo),
    ):
        found = prepare_inputs(settings, pool, display.stage)
    try_to_track(found.gate, settings, typer.echo)
    prepared = found.to_json()
    counts = ", ".join(f"{count} {name}" for name, count in prepared["counts"].items())
    typer.echo(f"{prepared['dataset']} is ready: {counts}\ndigest {prepared['digest']}\nGate: {prepared['page']}")
    for warning in prepared["warnings"]:
        typer.echo(f"warning: not met: {warning}")


def calibrate(
    device: DeviceOption = None,
    refresh: Annotated[bool, typer.Option("--refresh", help="Measure again, and replace the table.")] = False,
) -> None:
    """Time this machine's operators, once a device and version of torch; latencies are predicted from the table."""
    from evodiff.hardware.calibration import calibration_path, load_or_calibrate
    from evodiff.reporting.progress import ProgressDisplay
    from evodiff.workers import choose_device

    settings = settings_from(given_options(device=device))
    cache, chosen = settings.cache_dir.expanduser(), choose_device(settings.device)
    with ProgressDisplay() as display:
        table = load_or_calibrate(
            cache, chosen, refresh=refresh, progress=lambda share: display.share("calibration", share)
        )
    typer.echo(f"{len(table.timings)} timings of {table.device_name} in {calibration_path(cache, chosen)}")


def _refuse_with_resume(**options: Any) -> None:
    from evodiff.errors import SettingsError

    for name in given_options(**options):
        raise SettingsError(
            f"--{name.replace('_', '-')} goes with a new run, not with --resume.",
            remedy="Leave it out; the run knows its own.",
        )


def strategies() -> None:
    """List the strategies, and the options of each that params.yaml can set."""
    from evodiff.reporting.strategy_options import strategies_table

    print_tables(strategies_table())
