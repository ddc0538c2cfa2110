"""Verbs that look at what a run has found, and take it further."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evodiff.cli.common import given_options, open_run, print_tables, settings_from, with_workers
from evodiff.cli.options import RunPath, WorkersOption

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evodiff.pipeline.generation import Listener
    from evodiff.pipeline.run import Run
    from evodiff.workers import WorkerPool


def report(run: RunPath) -> None:
    """Write the report of a run again; print where it is."""
    from evodiff.search import write_run_report

    typer.echo(write_run_report(open_run(run)))


def validate(
    context: typer.Context,
    run: Annotated[Path | None, typer.Argument(metavar="RUN", help="Folder of a run.")] = None,
    candidate: Annotated[str, typer.Argument(help="Id, a unique prefix of it, or champion.")] = "champion",
    samples: Annotated[int, typer.Option(min=64, help="Images to generate.")] = 2000,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Train to this many steps first; with --rivals, each network.")
    ] = None,
    workers: WorkersOption = None,
    rivals: Annotated[
        bool,
        typer.Option("--rivals", help="Train it, the zoo and the stock U-Net from scratch and compare them; minutes."),
    ] = False,
    seeds: Annotated[int, typer.Option(min=1, help="With --rivals: trainings of each network.")] = 3,
    engine: Annotated[
        bool, typer.Option("--engine", help="Run the engine on problems whose front is known instead; a minute.")
    ] = False,
) -> None:
    """Judge a candidate on test images with a feature net that the search never saw; or the engine, by --engine."""
    if engine:
        others = ("run", "candidate", "samples", "steps", "workers", "rivals", "seeds")
        _refuse(context, others, "does not go with --engine, which trains nothing and needs no run")
        _validate_engine()
        return
    if run is None:
        raise typer.BadParameter("expected the folder of a run, or --engine")
    if not rivals:
        _refuse(context, ("seeds",), "counts trainings of each network: give --rivals too")
    from evodiff.pipeline.contest import hold_contest
    from evodiff.pipeline.final import named_candidate, validate_candidate
    from evodiff.pipeline.rivals import plan_contest
    from evodiff.pipeline.session import worker_count
    from evodiff.reporting.rivals_words import announcement
    from evodiff.reporting.validated import validation_tables
    from evodiff.search import write_run_report

    opened = open_run(run)
    contest = plan_contest(opened, candidate, steps=steps, seeds=seeds, samples=samples) if rivals else None
    workers = workers or (None if contest else 1)
    if contest is not None:
        typer.echo(announcement(contest, worker_count(settings_from(given_options(workers=workers)))))

    def work(run: Run, pool: WorkerPool, listener: Listener) -> None:
        validate_candidate(
            run, candidate, pool, samples=samples, steps=steps, thorough=contest is not None, listener=listener
        )
        if contest is not None:
            hold_contest(contest, pool, listener)

    with_workers(opened, workers, work)
    print_tables(*validation_tables(opened, named_candidate(opened, candidate)))
    typer.echo(f"Report: {write_run_report(opened)}")


def _refuse(context: typer.Context, names: Sequence[str], reason: str) -> None:
    """Refuse what was given of parameters that would be ignored."""
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name in names and source is not None and source.name == "COMMANDLINE":
            raise typer.BadParameter(reason, ctx=context, param_hint=parameter.opts[0])


def _validate_engine() -> None:
    from evodiff.engine.validation import run_problems
    from evodiff.reporting.engine_validation import engine_tables
    from evodiff.reporting.progress import ProgressDisplay

    with ProgressDisplay() as display:
        compared = run_problems(progress=lambda done, of: display.share("engine", done / of))
    print_tables(*engine_tables(compared))


def show(
    run: RunPath,
    candidate: Annotated[str, typer.Argument(help="Id, a unique prefix of it, or champion.")],
    svg: Annotated[Path | None, typer.Option(help="Draw its diagram into this file.")] = None,
) -> None:
    """Show a candidate: where it came from, what it scored, its layers."""
    from evodiff.reporting.candidate import candidate_tables, save_diagram

    opened = open_run(run)
    print_tables(*candidate_tables(opened, candidate))
    if svg is not None:
        typer.echo(save_diagram(opened, candidate, svg))


def trials(
    run: RunPath, csv: Annotated[bool, typer.Option("--csv", help="Print comma-separated values.")] = False
) -> None:
    """List every trial of a run."""
    from evodiff.reporting.trials import trials_csv, trials_table

    opened = open_run(run)
    if csv:
        typer.echo(trials_csv(opened), nl=False)
    else:
        print_tables(trials_table(opened))


def compare(
    runs: Annotated[list[str], typer.Argument(metavar="RUN RUN...", help="Folders of two or more runs.")],
    out: Annotated[Path, typer.Option(help="Page to write.")] = Path("comparison.html"),
    tracking_uri: Annotated[
        str | None, typer.Option("--tracking-uri", help="Read experiments of these names from this MLflow server.")
    ] = None,
) -> None:
    """Compare runs, or strategies over several runs each, by evaluations and by compute, in one box; show fronts."""
    from evodiff.reporting.comparison import write_comparison
    from evodiff.reporting.strategies import doubts, strategies
    from evodiff.reporting.tables import comparison_tables

    if tracking_uri is None:
        from evodiff.reporting.run_view import view_of_run

        views = [view_of_run(open_run(Path(path))) for path in runs]
    else:
        from evodiff.tracking.reading import views_from_tracking

        views = views_from_tracking(tracking_uri, runs)
    print_tables(*comparison_tables(views))
    for doubt in doubts(views, strategies(views)):
        typer.echo(f"warning: {doubt}")
    typer.echo(write_comparison(views, out))


def export(
    run: RunPath,
    candidate: Annotated[str, typer.Argument(help="Id, a unique prefix of it, or champion.")],
    out: Annotated[Path, typer.Option(help="New folder for the diffusers pipeline.")],
    stock: Annotated[bool, typer.Option("--stock", help="Write a stock UNet2DModel; not every genome is one.")] = False,
) -> None:
    """Write a trained candidate as a folder that diffusers loads."""
    from evodiff.pipeline.export import export_candidate

    steps = export_candidate(open_run(run), candidate, out, stock=stock)
    typer.echo(f"{out} holds the candidate after {steps} training steps. Try: evodiff sample {out} --out grid.png")


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


def audit(
    run: RunPath,
    out: Annotated[Path | None, typer.Option(help="Folder of page and result.  [default: RUN/report/audit]")] = None,
) -> None:
    """Audit everything that a run has on record: schema, ids, lineage, finite values, digests, replayed decisions.

    Where EVODIFF_TRACKING_URI is set, what was found is tracked.
    """
    from evodiff.gates import audit_run, failure_tracked, try_to_track

    opened, settings = open_run(run), settings_from({})
    with failure_tracked(settings, typer.echo):
        result = audit_run(opened, out=out)
    try_to_track(result, settings, typer.echo)
    typer.echo(
        f"{result.subject}: {len(result.checks) - len(result.warnings)} of {len(result.checks)} expectations met"
    )
    for check in result.warnings:
        typer.echo(f"warning: not met: {check.expectation.meaning}")
    typer.echo(f"Audit: {result.page}")


def prune(run: RunPath) -> None:
    """Remove checkpoints, and weights that neither the front nor a resume needs; results stay."""
    from evodiff.pipeline.prune import prune as prune_run

    typer.echo(f"{prune_run(open_run(run)) / 1e6:.1f} MB removed")
