"""Options and arguments that several verbs take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
RungsOption = Annotated[
    int | None,
    typer.Option(
        "--rungs",
        min=1,
        max=5,
        help="Fidelities: new candidates get a third of the steps for each rung above the first, and the best go on.  "
        "[default: 1]",
    ),
]
SeedOption = Annotated[int | None, typer.Option("--seed", min=0, help="Seed of everything.  [default: 0]")]
ObjectivesOption = Annotated[
    str | None,
    typer.Option("--objectives", help="Comma-separated, all minimised.  [default: kid,latency_ms,memory_mb]"),
]
InheritOption = Annotated[
    bool | None,
    typer.Option(
        "--inherit/--no-inherit", help="Start children from the weights of their parents.  [default: --no-inherit]"
    ),
]
ReplicateTiesOption = Annotated[
    bool | None,
    typer.Option(
        "--replicate-ties/--no-replicate-ties",
        help="Try candidates of the front again whose place is owed to less than a standard error.  [default: no]",
    ),
]
PreferOption = Annotated[str | None, typer.Option("--prefer", help='Limits for the champion, such as "latency_ms<2".')]
TargetOption = Annotated[
    str | None, typer.Option("--target", help="Hardware that will serve: local, m2-pro, ...  [default: local]")
]
StrategyOption = Annotated[
    str | None,
    typer.Option(
        "--strategy",
        help="surrogate, nsga2, regularised or random; evodiff strategies lists options of each.  [default: surrogate]",
    ),
]
