"""What a terminal shows while a search works: stages, running trials, a line for each closed generation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from evodiff.engine import Evaluation, Trial

STAGES = {
    "dataset": "Reading the images",
    "gate": "Judging the dataset",
    "feature_net": "Training the feature net that scores",
    "report_feature_net": "Training the feature net that the search never sees",
    "calibration": "Timing operators of this machine",
    "pictures": "Drawing pictures",
    "latency of the front": "Timing the front on this machine",
    "rivals": "Training champion and rivals from scratch",
    "latency of the rivals": "Timing champion and rivals on this machine",
    "robustness": "Sampling in other ways",
    "engine": "Searching where the front is known",
}


class ProgressDisplay:
    """A live display on a terminal; plain lines where the output is none. Use it as a context manager."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console()
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=self.console,
            transient=True,
        )
        self._stages: dict[str, TaskID] = {}
        self._generation: TaskID | None = None
        self._label = ""

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def say(self, text: str) -> None:
        """Print a line above the live display."""
        self._progress.console.print(text, highlight=False)

    def stage(self, name: str, content: Mapping[str, Any]) -> None:
        """Show how far a task is: a preparation, a trial, a final training."""
        if name not in self._stages:
            title = STAGES.get(name, f"  {escape(str(content.get('title', name.partition('.')[0][:8])))}")
            self._stages[name] = self._progress.add_task(title, total=None, note="")
            if name in STAGES and not self.console.is_terminal:
                self.say(f"{STAGES[name]} ...")
        done = content.get("step", content.get("done"))
        total = content.get("steps", content.get("total"))
        if done is not None:
            self._progress.update(self._stages[name], completed=done, total=total)
        if (loss := content.get("loss")) is not None:
            self._progress.update(self._stages[name], note=f"loss {loss:.3f}")
        elif content.get("stage"):
            self._progress.update(self._stages[name], note=escape(str(content["stage"])))

    def share(self, name: str, share: float) -> None:
        """Show how far a task is as a share of the whole, 0 to 1."""
        self.stage(name, {"done": round(100 * share), "total": 100})

    def finished(self, name: str) -> None:
        """Take a task off the display."""
        if name in self._stages:
            self._progress.remove_task(self._stages.pop(name))

    def clear(self) -> None:
        """Take every task off the display."""
        for name in list(self._stages):
            self.finished(name)

    def searching(self, label: str) -> None:
        """Name the search that the following generations belong to."""
        self._label = label
        self.clear()

    def planned(self, generation: int, trials: int) -> None:
        """Begin a generation."""
        self._generation = self._progress.add_task(f"{self._label} generation {generation}", total=trials, note="")

    def trial_ended(self, trial: Trial[Any], evaluation: Evaluation | None, seconds: float) -> None:
        """Count a trial, and say so where it failed."""
        self.finished(trial.id)
        if self._generation is not None and evaluation is not None:
            self._progress.advance(self._generation)
        if evaluation is not None and evaluation.failure is not None:
            failure = evaluation.failure
            self.say(f"[yellow]{trial.candidate[:8]} failed: {escape(failure.cause)}[/] {escape(failure.detail[:200])}")

    def note(self, text: str) -> None:
        """Show beside the generation at hand what is being done for it."""
        if self._generation is not None:
            self._progress.update(self._generation, note=escape(text))

    def plateaued(self, generations: int) -> None:
        """Say that a search opens no further generation."""
        self.say(f"{self._label} stops on a plateau after {generations} generations: its hypervolume hardly grows")

    def selected(self, result: Mapping[str, Any]) -> None:
        """End a generation with one line."""
        if self._generation is not None:
            self._progress.remove_task(self._generation)
            self._generation = None
        metrics = result["metrics"]
        self.say(
            f"{self._label} generation {result['generation']}: best fitness {metrics['best_fitness']:.3f}, "
            f"average {metrics['average_fitness']:.3f}, {len(result['front'])} on the front, "
            f"hypervolume {result['hypervolume']:.3f}"
        )
