"""A run folder: what was frozen when it was created, and how to open what it holds."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evodiff.architecture.cost import memory_mb, predict_training_seconds, training_flops
from evodiff.architecture.genome import ArchitectureGenome, ImageShape
from evodiff.architecture.graph import resolve
from evodiff.architecture.space import ArchitectureSpace
from evodiff.engine import Evolution, Objective
from evodiff.engine.fidelity import added_steps, rung_steps
from evodiff.engine.ledger import Ledger
from evodiff.engine.strategies import settings_of_run
from evodiff.errors import CandidateNotFound, LedgerError
from evodiff.hardware.calibration import Calibration
from evodiff.settings import EvaluationSettings, TrainingSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evodiff.data import ImageDataset
    from evodiff.evaluation.feature_net import FeatureNet

SCORED = ("kid", "denoising_loss")  # objectives that need a trained network
PRICED = ("latency_ms", "memory_mb", "parameters", "flops")  # objectives that the genome alone decides
# What any processor of these years reaches, where nothing was timed.
SLOWEST_FLOPS_PER_SECOND = 2e9


@dataclass(frozen=True)
class Run:
    """An existing run folder.

    ``experiment`` is the frozen ``experiment.json``; everything else is read from the folder when asked for.
    """

    path: Path
    experiment: Mapping[str, Any]

    @classmethod
    def open(cls, path: Path | str) -> Run:
        """Open a run folder.

        Raises:
            CandidateNotFound: there is no run at ``path``.
            LedgerError: the folder has another format or a damaged ``experiment.json``.
        """
        folder = Path(path)
        if not (folder / "experiment.json").exists():
            raise CandidateNotFound(
                f"No run at {folder}: expected a folder with experiment.json.",
                remedy="Name the folder that `evodiff evolve` printed.",
            )
        experiment = Ledger(folder).experiment
        settings = experiment.get("settings") or {}
        if "training" not in settings:
            raise LedgerError(
                f"{folder} holds a search over {experiment.get('space', {}).get('name', 'another space')!r}, "
                "not over diffusion architectures.",
                remedy="Open it with evodiff.engine.Evolution.open and its own space.",
            )
        run = cls(folder, experiment)
        run._check()
        return run

    def _check(self) -> None:
        """Read what every verb needs, so that damage is named before any work."""
        try:
            _ = self.options(), self.settings["digests"], self.experiment["space"]["description"], self.steps(0)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise LedgerError(
                f"experiment.json in {self.path} is damaged or of another version: expected what a run freezes, found "
                f"no usable {error}.".replace("\n", " "),
                remedy="Restore it from a copy, or open the run with the version of evodiff that wrote it.",
            ) from error

    @property
    def name(self) -> str:
        """The folder's name, which other places use as the run's id."""
        return self.path.resolve().name

    @cached_property
    def identity(self) -> str:
        """SHA-256 of what the run froze, its timings of this machine among it: what tells runs of one name apart."""
        return hashlib.sha256(self.ledger.read("experiment.json") or b"").hexdigest()

    @property
    def settings(self) -> Mapping[str, Any]:
        """What the run froze beside the engine's own sizes."""
        frozen: Mapping[str, Any] = self.experiment["settings"]
        return frozen

    @cached_property
    def ledger(self) -> Ledger:
        """The folder as the engine's record."""
        return Ledger(self.path)

    @cached_property
    def shape(self) -> ImageShape:
        """What the networks of this run denoise."""
        return ImageShape(**self.settings["image_shape"])

    @cached_property
    def training(self) -> TrainingSettings:
        """How its candidates are trained."""
        return TrainingSettings(**self.settings["training"])

    def steps(self, rung: int) -> int:
        """Training steps of a rung: all of them on the highest, a third as many on each one below."""
        return rung_steps(self.training.steps, rung, int(self.experiment["rungs"]))

    def added_steps(self, trial: Mapping[str, Any]) -> int:
        """Training steps that the trial of a plan's row adds to those of the rungs below."""
        return added_steps(self.training.steps, trial, int(self.experiment["rungs"]), inherit=self.inherits)

    @cached_property
    def evaluation(self) -> EvaluationSettings:
        """How its candidates are scored."""
        return EvaluationSettings(**self.settings["evaluation"])

    @cached_property
    def objectives(self) -> tuple[Objective, ...]:
        """What it minimises or maximises."""
        return tuple(Objective(item["name"], maximise=item["maximise"]) for item in self.experiment["objectives"])

    @cached_property
    def calibration(self) -> Calibration:
        """The table of operator times that its latencies are predicted from."""
        return Calibration.from_json(json.loads(self._input("calibration.json")))

    def predicted_seconds(self, genome: ArchitectureGenome, steps: int) -> float:
        """Predict how long a training takes here, from the operator times where they are this machine's."""
        resolved = resolve(genome, self.shape)
        batch = self.training.batch_size
        if self.calibration.measured:
            return predict_training_seconds(resolved, steps, batch, self.calibration)
        return training_flops(resolved, batch) * steps / SLOWEST_FLOPS_PER_SECOND

    def violations(self, genome: ArchitectureGenome) -> dict[str, float]:
        """Return by what share a network exceeds the target's working set, 0 or less where it fits.

        It is empty for a run that froze no working set.
        """
        limit = self.settings.get("working_set_mb")
        if limit is None:
            return {}
        needed = memory_mb(resolve(genome, self.shape), self.evaluation.serving_batch)
        return {"working_set": needed / float(limit) - 1}

    def final_folder(self, candidate: str) -> Path:
        """Return where the weights of a candidate's long training are, and what was made of them."""
        return self.path / "final" / candidate

    @property
    def inputs(self) -> Path:
        """Folder of what the digests in ``experiment.json`` name."""
        return self.path / "inputs"

    @cached_property
    def space(self) -> ArchitectureSpace:
        """The search space as it was frozen."""
        return ArchitectureSpace.from_description(self.experiment["space"]["description"], calibration=self.calibration)

    def _input(self, name: str) -> bytes:
        """Return the content of an input after comparing it with the digest that the run froze.

        Raises:
            LedgerError: the file is missing, or not the one that the run was created with.
        """
        content = self.ledger.read(f"inputs/{name}")
        found = "no file" if content is None else hashlib.sha256(content).hexdigest()
        expected = self.settings["digests"].get(Path(name).stem)
        if content is None or found != expected:
            raise LedgerError(
                f"inputs/{name} of {self.path} is not the run's own: expected digest {expected}, found {found}.",
                remedy="Restore it from a copy: every result of the run rests on it.",
            )
        return content

    def options(self) -> dict[str, Any]:
        """Return what the run froze by the names of the settings that chose it: ``seed``, ``training.steps``, ..."""
        return {
            "dataset": self.settings["dataset"]["name"],
            "image_size": self.shape.size,
            "population": self.experiment["population_size"],
            "rungs": self.experiment["rungs"],
            "replicate_ties": bool(self.experiment.get("replicate_ties")),
            "seed": self.experiment["seed"],
            "strategy": self.experiment["strategy"]["name"],
            "inherit": self.inherits,
            **{f"strategy_options.{name}": value for name, value in self.strategy_options.items()},
            "objectives": tuple(objective.name for objective in self.objectives),
            "prefer": self.settings["prefer"],
            "target": self.settings["target"],
            "device": self.settings["device"],
            **{f"training.{name}": value for name, value in self.training.model_dump().items()},
            **{f"evaluation.{name}": value for name, value in self.evaluation.model_dump().items()},
        }

    @property
    def inherits(self) -> bool:
        """Whether children start from the weights of their parents."""
        return bool(self.experiment.get("inherit", False))

    @property
    def strategy_options(self) -> dict[str, Any]:
        """All settings of the strategy of this run."""
        frozen = self.experiment["strategy"]
        return settings_of_run(frozen["name"], frozen["settings"])

    def evolution(self) -> Evolution[ArchitectureGenome]:
        """Open the search where its ledger stands."""
        return Evolution.open(self.space, self.path)

    def dataset(self) -> ImageDataset:
        """Read the images that the run trains and scores on."""
        from evodiff.data import ImageDataset

        self._input("dataset.safetensors")
        return ImageDataset.load(self.inputs / "dataset.safetensors")

    def feature_net(self, variant: str = "search") -> FeatureNet:
        """Read the frozen feature net of the search, or the second one (``report``) that the search never sees."""
        from evodiff.evaluation.feature_net import FeatureNet

        name = "feature_net.safetensors" if variant == "search" else "report_feature_net.safetensors"
        self._input(name)
        return FeatureNet.load(self.inputs / name)
