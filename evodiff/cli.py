"""The command line: options in, functions of the library called, tables out."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from evodiff.pipeline.generation import Listener
    from evodiff.pipeline.run import Run
    from evodiff.search import SearchResult
    from evodiff.settings import Settings
    from evodiff.workers import WorkerPool

app = typer.Typer(
    name="evodiff",
    help="Evolve diffusion models for quality, latency and memory on the hardware that will serve them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
INTERRUPTED = 130  # the exit code of what Ctrl-C ended
generation_app = typer.Typer(help="The steps of one generation, each safe to run twice.", no_args_is_help=True)
app.add_typer(generation_app, name="generation")
rebuild_app = typer.Typer(help="What the stages of an archive's dvc.yaml run.", no_args_is_help=True)
app.add_typer(rebuild_app, name="rebuild")

RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")]
RunOption = Annotated[Path, typer.Option("--run", help="Folder of a run.")]
GenerationOption = Annotated[int, typer.Option("--generation", min=0, help="Index of the generation, from 0.")]
ArchiveOption = Annotated[
    Path | None, typer.Option("--archive", help="Working copy that keeps generations.  [default: .archive]")
]
RecordedPath = Annotated[Path, typer.Argument(metavar="DIR", help="Folder in a checkout of an archive.")]
VersionOption = Annotated[str, typer.Option("--evodiff-version", help="Version that the outputs are pinned to.")]
ShardOption = Annotated[str, typer.Option("--shard", help="Which part of the trials: 2/3 is the second of three.")]
WorkersOption = Annotated[
    int | None, typer.Option("--workers", min=1, help="Worker processes.  [default: one per core]")
]
DeviceOption = Annotated[str | None, typer.Option("--device", help="auto, cpu, cuda or mps.")]
TrackingOption = Annotated[
    str | None, typer.Option("--tracking-uri", help="MLflow server.  [default: EVODIFF_TRACKING_URI]")
]
DatasetOption = Annotated[
    str | None,
    typer.Option("--dataset", help="digits, photos[:SIZE], shapes[:SIZE] or folder:PATH.  [default: digits]"),
]
ImageSizeOption = Annotated[
    int | None, typer.Option("--image-size", help="Pixels a side.  [default: the dataset's own]")
]
PopulationOption = Annotated[
    int | None, typer.Option("--population", min=2, help="Candidates a generation.  [default: 8]")
]
StepsOption = Annotated[
    int | None, typer.Option("--steps", min=1, help="Training steps of a candidate.  [default: 120]")
]
SeedOption = Annotated[int | None, typer.Option("--seed", min=0, help="Seed of everything.  [default: 0]")]
ObjectivesOption = Annotated[
    str | None,
    typer.Option("--objectives", help="Comma-separated, all minimised.  [default: kid,latency_ms,memory_mb]"),
]
PreferOption = Annotated[str | None, typer.Option("--prefer", help='Limits for the champion, such as "latency_ms<2".')]
TargetOption = Annotated[
    str | None, typer.Option("--target", help="Hardware that will serve: local, m2-pro, ...  [default: local]")
]
StrategyOption = Annotated[
    str | None, typer.Option("--strategy", help="nsga2, random or regularised.  [default: nsga2]")
]


@app.command()
def evolve(
    dataset: DatasetOption = None,
    image_size: ImageSizeOption = None,
    generations: Annotated[int | None, typer.Option(min=1, help="Generations in all.  [default: 3]")] = None,
    population: PopulationOption = None,
    steps: StepsOption = None,
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

    given = _given(
        dataset=dataset,
        image_size=image_size,
        generations=generations,
        population=population,
        steps=steps,
        workers=workers,
        device=device,
        seed=seed,
        objectives=_names(objectives),
        prefer=prefer,
        target=target,
        strategy=strategy,
        time_budget_seconds=None if time_budget is None else 60 * time_budget,
        stop_on_plateau=stop_on_plateau,
    )
    with ProgressDisplay() as display:
        from evodiff.search import resume_search, start_search

        if resume is not None:
            _refuse_with_resume(out=out, warm_start=warm_start, baseline=baseline or None)
            result = resume_search(
                resume, _settings(given), given=given, champion_steps=champion_steps, display=display
            )
        else:
            result = start_search(
                _settings(given),
                out=out,
                warm_start=warm_start,
                baseline=baseline,
                champion_steps=champion_steps,
                display=display,
            )
    _print_result(result)


@app.command()
def smoke(
    dataset: DatasetOption = None,
    image_size: ImageSizeOption = None,
    population: PopulationOption = None,
    steps: StepsOption = None,
    workers: WorkersOption = None,
    device: DeviceOption = None,
    seed: SeedOption = None,
    objectives: ObjectivesOption = None,
    prefer: PreferOption = None,
    target: TargetOption = None,
    strategy: StrategyOption = None,
) -> None:
    """Try a dataset and settings in a minute: every step of a search with two candidates; say what it will take."""
    from evodiff.pipeline.generation import Listener
    from evodiff.reporting.progress import ProgressDisplay
    from evodiff.reporting.smoke import smoke_tables
    from evodiff.smoke import smoke as try_out

    given = _given(
        dataset=dataset,
        image_size=image_size,
        population=population,
        steps=steps,
        workers=workers,
        device=device,
        seed=seed,
        objectives=_names(objectives),
        prefer=prefer,
        target=target,
        strategy=strategy,
    )
    with ProgressDisplay() as display:
        result = try_out(_settings(given), say=display.say, listener=Listener(display.stage, display.trial_ended))
    _print(*smoke_tables(result))
    for remark in (
        *(f"warning: not met: {check.expectation.meaning}" for check in result.gate.warnings),
        *result.notes,
    ):
        typer.echo(remark)
    typer.echo(f"The dataset: {result.gate.page}")


@generation_app.command("open")
def generation_open(
    run: RunOption, holder: Annotated[str, typer.Option(help="Who works on it; the same name gets its lease back.")]
) -> None:
    """Take the lease of the next generation, or adopt the unfinished one; print its index."""
    from evodiff.pipeline.lease import open_generation

    typer.echo(open_generation(_run(run), holder).generation)


@generation_app.command("plan")
def generation_plan(run: RunOption, generation: GenerationOption) -> None:
    """Write the plan of a generation, or read it; print its trials."""
    from evodiff.pipeline.generation import plan

    for trial in plan(_run(run), generation):
        typer.echo(f"{trial.id}  {trial.operator or 'start'}")


@generation_app.command("train")
def generation_train(
    run: RunOption, generation: GenerationOption, shard: ShardOption = "1/1", workers: WorkersOption = None
) -> None:
    """Train the trials of a generation that have no weights."""
    from evodiff.pipeline import generation as steps

    _with_workers(
        _run(run),
        workers,
        lambda opened, pool, listener: steps.train(opened, generation, pool, shard=shard, listener=listener),
    )


@generation_app.command("evaluate")
def generation_evaluate(
    run: RunOption, generation: GenerationOption, shard: ShardOption = "1/1", workers: WorkersOption = None
) -> None:
    """Score the trained trials of a generation that have no result."""
    from evodiff.pipeline import generation as steps

    _with_workers(
        _run(run),
        workers,
        lambda opened, pool, listener: steps.evaluate(opened, generation, pool, shard=shard, listener=listener),
    )


@generation_app.command("select")
def generation_select(run: RunOption, generation: GenerationOption) -> None:
    """Close a generation; print its survivors and its front."""
    from evodiff.pipeline.generation import select

    result = select(_run(run), generation)
    typer.echo(f"survivors {' '.join(result['survivors'])}\nfront {' '.join(result['front'])}")


@generation_app.command("archive")
def generation_archive(run: RunOption, archive: ArchiveOption = None) -> None:
    """Archive every closed generation that is not archived; print the commit of the last."""
    _archive(run, archive)


@app.command("archive")
def archive_run(run: RunPath, archive: ArchiveOption = None) -> None:
    """Keep every closed generation of a run in git and DVC, to be rebuilt or fetched; print the commit of the last."""
    _archive(run, archive)


@rebuild_app.command("dataset")
def rebuild_dataset(folder: RecordedPath, evodiff_version: VersionOption) -> None:
    """Open a dataset again as it was recorded."""
    from evodiff.pipeline.archive import rebuild

    rebuild.check_version(evodiff_version)
    rebuild.rebuild_dataset(folder)


@rebuild_app.command("feature-net")
def rebuild_feature_net(folder: RecordedPath, evodiff_version: VersionOption) -> None:
    """Train a feature net again as it was recorded."""
    from evodiff.pipeline.archive import rebuild

    rebuild.check_version(evodiff_version)
    rebuild.rebuild_feature_net(folder)


@rebuild_app.command("genomes")
def rebuild_genomes(folder: RecordedPath, generation: GenerationOption, evodiff_version: VersionOption) -> None:
    """Plan a generation of an experiment again."""
    from evodiff.pipeline.archive import rebuild

    rebuild.check_version(evodiff_version)
    rebuild.rebuild_genomes(folder, generation)


@rebuild_app.command("evaluations")
def rebuild_evaluations(
    folder: RecordedPath, generation: GenerationOption, evodiff_version: VersionOption, workers: WorkersOption = None
) -> None:
    """Train, judge and select the trials of a generation again."""
    from evodiff.pipeline.archive import rebuild

    rebuild.check_version(evodiff_version)
    _with_workers(
        rebuild.scratch_run(folder, generation),
        workers,
        lambda run, pool, listener: rebuild.rebuild_evaluations(run, folder, generation, pool, listener),
    )


@generation_app.command("register")
def generation_register(run: RunOption, generation: GenerationOption, tracking_uri: TrackingOption = None) -> None:
    """Register the new members of a generation's front as models of MLflow; print them."""
    from evodiff.tracking import register_front

    for registered in register_front(_run(run), generation, _tracking_uri(tracking_uri)):
        typer.echo(registered)


@app.command()
def track(run: RunPath, tracking_uri: TrackingOption = None) -> None:
    """Bring MLflow up to date: generations and candidates that it misses, and registrations that wait."""
    from evodiff.tracking import track_run

    result = track_run(_run(run), _tracking_uri(tracking_uri))
    typer.echo(result)
    raise typer.Exit(2 if result.waiting else 0)


@app.command()
def prepare(
    dataset: DatasetOption = None,
    image_size: ImageSizeOption = None,
    target: TargetOption = None,
    workers: WorkersOption = None,
    device: DeviceOption = None,
) -> None:
    """Judge a dataset by its gate, then make the feature nets and operator times that searches over it start from."""
    from evodiff.gates import prepare as prepare_inputs
    from evodiff.pipeline.session import open_workers
    from evodiff.reporting.progress import ProgressDisplay

    given = _given(dataset=dataset, image_size=image_size, target=target, workers=workers, device=device)
    settings = _settings(given)
    with ProgressDisplay() as display, open_workers(settings, display.say) as pool:
        prepared = prepare_inputs(settings, pool, display.stage).to_json()
    counts = ", ".join(f"{count} {name}" for name, count in prepared["counts"].items())
    typer.echo(f"{prepared['dataset']} is ready: {counts}\ndigest {prepared['digest']}\nGate: {prepared['page']}")
    for warning in prepared["warnings"]:
        typer.echo(f"warning: not met: {warning}")


@app.command()
def audit(
    run: RunPath,
    out: Annotated[Path | None, typer.Option(help="Folder of page and result.  [default: RUN/report/audit]")] = None,
) -> None:
    """Audit everything that a run has on record: schema, ids, lineage, finite values, digests, replayed decisions."""
    from evodiff.gates import audit_run

    result = audit_run(_run(run), out=out)
    typer.echo(
        f"{result.subject}: {len(result.checks) - len(result.warnings)} of {len(result.checks)} expectations met"
    )
    for check in result.warnings:
        typer.echo(f"warning: not met: {check.expectation.meaning}")
    typer.echo(f"Audit: {result.page}")


@app.command()
def calibrate(
    device: DeviceOption = None,
    refresh: Annotated[bool, typer.Option("--refresh", help="Measure again, and replace the table.")] = False,
) -> None:
    """Time this machine's operators, once a device and version of torch; latencies are predicted from the table."""
    from evodiff.hardware.calibration import calibration_path, load_or_calibrate
    from evodiff.reporting.progress import ProgressDisplay
    from evodiff.workers import choose_device

    settings = _settings(_given(device=device))
    cache, chosen = settings.cache_dir.expanduser(), choose_device(settings.device)
    with ProgressDisplay() as display:
        table = load_or_calibrate(
            cache, chosen, refresh=refresh, progress=lambda share: display.share("calibration", share)
        )
    typer.echo(f"{len(table.timings)} timings of {table.device_name} in {calibration_path(cache, chosen)}")


@app.command()
def export(
    run: RunPath,
    candidate: Annotated[str, typer.Argument(help="Id, a unique prefix of it, or champion.")],
    out: Annotated[Path, typer.Option(help="New folder for the diffusers pipeline.")],
    stock: Annotated[bool, typer.Option("--stock", help="Write a stock UNet2DModel; not every genome is one.")] = False,
) -> None:
    """Write a trained candidate as a folder that diffusers loads."""
    from evodiff.pipeline.export import export_candidate

    steps = export_candidate(_run(run), candidate, out, stock=stock)
    typer.echo(f"{out} holds the candidate after {steps} training steps. Try: evodiff sample {out} --out grid.png")


@app.command()
def sample(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder that `evodiff export` wrote.")],
    count: Annotated[int, typer.Option(min=1, max=10_000, help="Images.")] = 16,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Image i comes from seed + i.")] = 0,
    steps: Annotated[int, typer.Option(min=2, max=1000, help="Sampling steps.")] = 20,
    guidance: Annotated[float, typer.Option(min=1.0, help="Classifier-free guidance; 1 is none.")] = 1.0,
    out: Annotated[Path, typer.Option(help="PNG file to write.")] = Path("grid.png"),
) -> None:
    """Generate images from an exported folder, as one picture; classes take turns where there are any."""
    from evodiff.pipeline.export import sample_folder
    from evodiff.reporting.images import save_grid

    typer.echo(save_grid(sample_folder(folder, count, seed=seed, steps=steps, guidance=guidance), out))


@app.command()
def report(run: RunPath) -> None:
    """Write the report of a run again; print where it is."""
    from evodiff.search import write_run_report

    typer.echo(write_run_report(_run(run)))


@app.command()
def validate(
    run: RunPath,
    candidate: Annotated[str, typer.Argument(help="Id, a unique prefix of it, or champion.")] = "champion",
    samples: Annotated[int, typer.Option(min=64, help="Images to generate.")] = 2000,
    steps: Annotated[int | None, typer.Option(min=1, help="Train to this many steps first.")] = None,
    workers: WorkersOption = 1,
) -> None:
    """Judge a candidate on test images with a feature net that the search never saw."""
    from evodiff.pipeline.final import named_candidate, validate_candidate
    from evodiff.reporting.result import validation_table
    from evodiff.reporting.run_view import validation_metrics
    from evodiff.search import write_run_report

    opened = _run(run)
    _with_workers(
        opened,
        workers,
        lambda run, pool, listener: validate_candidate(
            run, candidate, pool, samples=samples, steps=steps, listener=listener
        ),
    )
    _print(validation_table(validation_metrics(opened, named_candidate(opened, candidate))))
    typer.echo(f"Report: {write_run_report(opened)}")


@app.command()
def show(
    run: RunPath,
    candidate: Annotated[str, typer.Argument(help="Id, a unique prefix of it, or champion.")],
    svg: Annotated[Path | None, typer.Option(help="Draw its diagram into this file.")] = None,
) -> None:
    """Show a candidate: where it came from, what it scored, its layers."""
    from evodiff.reporting.candidate import candidate_tables, save_diagram

    opened = _run(run)
    _print(*candidate_tables(opened, candidate))
    if svg is not None:
        typer.echo(save_diagram(opened, candidate, svg))


@app.command()
def compare(
    runs: Annotated[list[str], typer.Argument(metavar="RUN RUN...", help="Folders of two or more runs.")],
    out: Annotated[Path, typer.Option(help="Page to write.")] = Path("comparison.html"),
    tracking_uri: Annotated[
        str | None, typer.Option("--tracking-uri", help="Read experiments of these names from this MLflow server.")
    ] = None,
) -> None:
    """Compare runs, or strategies over several runs each, by evaluations and by compute, in one box; show fronts."""
    from evodiff.reporting.comparison import write_comparison
    from evodiff.reporting.tables import comparison_tables

    if tracking_uri is None:
        from evodiff.reporting.run_view import view_of_run

        views = [view_of_run(_run(Path(path))) for path in runs]
    else:
        from evodiff.tracking.reading import views_from_tracking

        views = views_from_tracking(tracking_uri, runs)
    _print(*comparison_tables(views))
    typer.echo(write_comparison(views, out))


@app.command()
def trials(
    run: RunPath, csv: Annotated[bool, typer.Option("--csv", help="Print comma-separated values.")] = False
) -> None:
    """List every trial of a run."""
    from evodiff.reporting.trials import trials_csv, trials_table

    opened = _run(run)
    if csv:
        typer.echo(trials_csv(opened), nl=False)
    else:
        _print(trials_table(opened))


@app.command()
def prune(run: RunPath) -> None:
    """Remove checkpoints, and weights that neither the front nor a resume needs; results stay."""
    from evodiff.pipeline.prune import prune as prune_run

    typer.echo(f"{prune_run(_run(run)) / 1e6:.1f} MB removed")


@app.command()
def housekeeping(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would go.")] = False,
) -> None:
    """Remove what is older than the retention settings say: weights, artifacts, lost data, logs and records."""
    from datetime import UTC, datetime

    from evodiff.local.environment import known_environment
    from evodiff.pipeline.housekeeping import keep_house
    from evodiff.reporting.housekeeping import housekeeping_table

    removals = keep_house(_settings({}), now=datetime.now(UTC), dry_run=dry_run, environment=known_environment())
    _print(housekeeping_table(removals, dry_run=dry_run))
    raise typer.Exit(2 if any(removal.failed for removal in removals) else 0)


@app.command()
def pause(run: RunPath) -> None:
    """Let the scheduler open no further generation of a run until it is resumed; one at work is finished."""
    _say_state(run, "paused")


@app.command()
def resume(run: RunPath) -> None:
    """Let the scheduler go on with a run that was paused or stopped."""
    _say_state(run, "running")


@app.command()
def stop(run: RunPath) -> None:
    """End a run after the generation at hand; a form or `evodiff resume` begins it again."""
    _say_state(run, "stopped")


@app.command()
def up() -> None:
    """Start Airflow and MLflow on this machine; they stay until `evodiff down`."""
    from evodiff.local.demo import addresses
    from evodiff.local.environment import Site
    from evodiff.local.services import up as start

    site = Site.from_environment()
    typer.echo("Started." if start(site, typer.echo) else "They run already.")
    typer.echo("\n".join(addresses(site)))


@app.command()
def down() -> None:
    """End exactly what `evodiff up` started."""
    from evodiff.local.environment import Site
    from evodiff.local.services import down as end

    typer.echo("Ended." if end(Site.from_environment()) else "Nothing that `evodiff up` started is running.")


@app.command()
def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave Airflow and MLflow running.")] = False,
    generations: Annotated[int, typer.Option(min=1)] = 3,
    population: Annotated[int, typer.Option(min=2)] = 8,
) -> None:
    """Evolve digits by a real scheduler: start Airflow and MLflow, follow the generations, show what came out."""
    from evodiff.local.demo import run_demo
    from evodiff.reporting.progress import ProgressDisplay

    with ProgressDisplay() as display:
        result, lines = run_demo(display, keep=keep, generations=generations, population=population)
    _print_result(result)
    typer.echo("\n".join(lines))


def main() -> None:
    """Run the command line; an error of the user's ends with what to do and exit code 2, without a traceback."""
    from evodiff.errors import EvodiffError, Interrupted

    warnings.formatwarning = lambda message, *where, **more: f"warning: {message}\n"
    try:
        app(standalone_mode=True)
    except SystemExit as end:
        if end.code == INTERRUPTED:  # by a Ctrl-C before the workers listened for it, or after
            _complain(
                "Stopped; what was stored is intact.", "Give the same command again; go on with a run by --resume."
            )
        raise
    except Interrupted as stop:
        _complain(stop.headline, stop.remedy)
        sys.exit(INTERRUPTED)
    except EvodiffError as error:
        _complain(error.headline, error.remedy)
        sys.exit(2)
    except OSError as error:
        _complain(f"{error.strerror or error}: {error.filename or ''}".rstrip(": "), "What was stored is intact.")
        sys.exit(2)


def _refuse_with_resume(**options: Any) -> None:
    from evodiff.errors import SettingsError

    for name in _given(**options):
        raise SettingsError(
            f"--{name.replace('_', '-')} goes with a new run, not with --resume.",
            remedy="Leave it out; the run knows its own.",
        )


def _complain(headline: str, remedy: str) -> None:
    typer.echo(f"evodiff: {headline}", err=True)
    if remedy:
        typer.echo(remedy, err=True)


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _names(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(part.strip() for part in text.split(",") if part.strip())


def _settings(given: dict[str, Any]) -> Settings:
    from evodiff.settings import load_settings

    return load_settings(given)


def _run(path: Path) -> Run:
    from evodiff.pipeline.run import Run

    return Run.open(path)


def _archive(run: Path, archive: Path | None) -> None:
    from evodiff.pipeline.archive import archive_run

    folder = archive or _settings({}).archive
    commit = archive_run(_run(run), folder)
    typer.echo(f"{folder}: commit {commit}" if commit else "No generation is closed yet.")


def _tracking_uri(given: str | None) -> str:
    from evodiff.errors import SettingsError

    found = _settings(_given(tracking_uri=given)).tracking_uri
    if found is None:
        raise SettingsError("No tracking server is named.", remedy="Give --tracking-uri, or set EVODIFF_TRACKING_URI.")
    return found


def _with_workers(run: Run, workers: int | None, work: Callable[[Run, WorkerPool, Listener], Any]) -> None:
    from evodiff.search import working

    with working(run, workers) as (pool, listener):
        work(run, pool, listener)


def _say_state(path: Path, wanted: str) -> None:
    from evodiff.pipeline.control import State, set_state

    run = _run(path)
    set_state(run, State(wanted))
    typer.echo(f"{run.name} is {wanted}")


def _print(*tables: Any) -> None:
    from rich.console import Console

    Console().print(*tables)


def _print_result(result: SearchResult) -> None:
    from evodiff.reporting.result import result_tables

    _print(*result_tables(result.view))
    typer.echo(f"Report: {result.report}")
    if result.remark:
        typer.echo(result.remark)
