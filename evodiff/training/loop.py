"""Denoising training of one trial, a pure function of network, images, settings and seed.

On the CPU the same arguments give the same bytes, whatever ran before in the process, and however often training was
cut by a checkpoint: step k depends on the state after step k - 1, on (seed, k), and on nothing else.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from evodiff.errors import Interrupted, TrialFailure
from evodiff.training.average import update_average
from evodiff.training.checkpoint import load_checkpoint, save_checkpoint
from evodiff.training.curve import check_progress, check_steps, loss_curve
from evodiff.training.determinism import deterministic
from evodiff.training.draws import StepDraws
from evodiff.training.flat import FlatParameters
from evodiff.training.loss import min_snr_weights, weighted_error
from evodiff.training.optimizer import FairAdamW, learning_rate_factors
from evodiff.training.state import TrainingState, capture, own_copy, restore, tensors_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from evodiff.sampling.noise import NoiseSchedule
    from evodiff.settings import TrainingSettings

_REPORT_SECONDS = 0.25
_LONGEST_UNCHECKED = 10  # steps; reading a loss makes an accelerator wait


@dataclass(frozen=True, eq=False)
class TrainingResult:
    """What a training ends with.

    ``ema_weights`` are the network's state with averaged parameters, on the CPU, to be published. ``loss_curve`` holds
    the mean loss of each 5 % of the steps, from the very first step. ``state`` is what a longer training goes on from.
    """

    ema_weights: dict[str, Tensor]
    loss_curve: list[float]
    steps: int
    state: TrainingState


def train(
    network: nn.Module,
    images: Tensor,
    labels: Tensor | None,
    settings: TrainingSettings,
    *,
    seed: int,
    schedule: NoiseSchedule,
    last_step: int,
    state: TrainingState | None = None,
    classes: int | None = None,
    checkpoint: Path | None = None,
    checkpoint_every: float = 30.0,
    report: Callable[[dict[str, Any]], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    reference_curve: Sequence[float] | None = None,
) -> TrainingResult:
    """Train ``network`` in place up to ``last_step`` steps, on the device where it is.

    Args:
        network: called as network(x_t, t, labels or None), where t is (batch,) int64 and label ``classes`` means none.
        images: (count, channels, height, width) float32 in [-1, 1].
        labels: (count,) int64, or None.
        seed: of the trial; with it come batches, timesteps, noise and dropped labels.
        state: what a shorter training of the same trial ended with; the result is that of a training never cut.
        classes: number of classes; by default what ``labels`` show.
        checkpoint: file to go on from and to write to: every ``checkpoint_every`` seconds, when asked to stop, and
            after the last step, for a longer training of the same trial may go on from there. The caller deletes it.
        report: hears {"step", "steps", "loss"} a few times a second, and {"note"} when a checkpoint was of no use.
        should_stop: asked before every step.
        reference_curve: learning curve, for as many steps, of the slowest that is still good enough; see ``curve``.

    Raises:
        TrialFailure: ``non_finite_loss``, with the first such step, or ``stopped_early``.
        Interrupted: ``should_stop`` said so; the checkpoint, if there is one, holds all that was done.
        LedgerError: a checkpoint cannot be stored.
        ValueError: ``state`` is of more steps than ``last_step``.
    """
    if state is not None and state.step > last_step:
        raise ValueError(f"The state is of {state.step} steps, more than the {last_step} asked for.")
    with deterministic(next(network.parameters()).device):
        identity = "" if checkpoint is None else _identity(network, images, labels, settings, seed, schedule, state)
        stored = _Checkpoints(checkpoint, checkpoint_every, identity)
        found, note = stored.load(last_step)
        if note and report:
            report({"note": note})
        training = _Training(network, images, labels, settings, seed, schedule, classes)
        try:
            start = state if found is None else found
            if start is not None:
                training.resume(start)
            watch = _Watch(training, last_step, report, reference_curve, settings.early_stop_factor)
            watch.look_back()
            _advance(training, watch, stored, last_step, should_stop)
            return training.result()
        finally:
            training.parameters.release()


def _advance(
    training: _Training, watch: _Watch, stored: _Checkpoints, last_step: int, should_stop: Callable[[], bool] | None
) -> None:
    while training.done < last_step:
        if should_stop is not None and should_stop():
            watch.read_losses()
            stored.save(training)
            raise Interrupted(
                f"Training was stopped after step {training.done} of {last_step}.",
                remedy="Start it again and it goes on from there.",
            )
        training.step()
        watch.after_step()
        if stored.due():
            watch.read_losses()
            stored.save(training)
    watch.read_losses()
    stored.save(training)


class _Training:
    """The moving parts of one training."""

    def __init__(
        self,
        network: nn.Module,
        images: Tensor,
        labels: Tensor | None,
        settings: TrainingSettings,
        seed: int,
        schedule: NoiseSchedule,
        classes: int | None,
    ) -> None:
        self.network = network.train()
        self.settings = settings
        self.seed = seed
        self.device = next(network.parameters()).device
        self.images = images.to(self.device)
        self.labels = None if labels is None else labels.to(self.device)
        self.null_label = 0 if labels is None else int(labels.max()) + 1 if classes is None else classes
        self.schedule = schedule.to(self.device)
        self.weights = min_snr_weights(schedule, settings.prediction, settings.snr_gamma).to(self.device)
        self.draws = StepDraws(
            seed,
            count=len(images),
            shape=tuple(images.shape[1:]),
            batch_size=settings.batch_size,
            timesteps=schedule.timesteps,
            label_dropout=0.0 if labels is None else settings.label_dropout,
        )
        self.parameters = FlatParameters(network, learning_rate_factors(network))
        self.groups = list(self.parameters.groups.values())
        self.optimizer = FairAdamW(self.parameters, settings)
        self.average = [long.detach().clone() for long in self.groups]
        self.losses: list[float] = []
        self.unread: list[Tensor] = []

    @property
    def done(self) -> int:
        """Steps done."""
        return len(self.losses) + len(self.unread)

    def step(self) -> None:
        """One step of the optimiser."""
        k = self.done
        draw = self.draws.step(k)
        t = draw.timesteps.to(self.device)
        noise = draw.noise.to(self.device)
        chosen = draw.images.to(self.device)
        x0 = self.images[chosen]
        labels = None
        if self.labels is not None:
            labels = self.labels[chosen].masked_fill_(draw.dropped.to(self.device), self.null_label)
        output = self.network(self.schedule.add_noise(x0, noise, t), t, labels)
        target = self.schedule.target(self.settings.prediction, x0, noise, t)
        loss = weighted_error(output, target, self.weights[t])
        self.parameters.zero_gradients()
        loss.backward()  # type: ignore[no-untyped-call] # torch leaves it without types
        nn.utils.clip_grad_norm_(self.groups, self.settings.gradient_clip)
        self.optimizer.step(k)
        update_average(self.average, self.groups, step=k, decay=self.settings.ema_decay)
        self.unread.append(loss.detach())

    def read_losses(self) -> None:
        """Fetch the losses that are still on the device.

        Raises:
            TrialFailure: one of them is not finite.
        """
        for loss in torch.stack(self.unread).tolist() if self.unread else ():
            self.losses.append(loss)
            if not math.isfinite(loss):
                raise TrialFailure("non_finite_loss", f"the loss of step {len(self.losses) - 1} is {loss}")
        self.unread.clear()

    def resume(self, state: TrainingState) -> None:
        """Go on from ``state``."""
        self.losses = restore(state, self.network, self._parts())

    def state(self) -> TrainingState:
        """Copy what a training needs to go on from here."""
        return capture(self.network, self._parts(), self.losses)

    def result(self) -> TrainingResult:
        """Return what came out.

        Raises:
            TrialFailure: the last steps left weights that are not finite.
        """
        averaged = {**self.network.state_dict(), **self.parameters.views(self.average)}
        ema_weights = {name: own_copy(tensor) for name, tensor in averaged.items()}
        if not all(bool(torch.isfinite(tensor).all()) for tensor in ema_weights.values()):
            raise TrialFailure("non_finite_loss", f"the weights after step {self.done - 1} are not finite")
        return TrainingResult(ema_weights, loss_curve(self.losses), self.done, self.state())

    def _parts(self) -> dict[str, dict[str, Tensor]]:
        """Views of the average and the optimiser's moments, by part and parameter name."""
        return {
            "average": self.parameters.views(self.average),
            "moment1": self.parameters.views(self.optimizer.moments1),
            "moment2": self.parameters.views(self.optimizer.moments2),
        }


def _identity(
    network: nn.Module,
    images: Tensor,
    labels: Tensor | None,
    settings: TrainingSettings,
    seed: int,
    schedule: NoiseSchedule,
    state: TrainingState | None,
) -> str:
    """Name a training by all that decides its steps, but for what the images show."""
    content = {
        "seed": seed,
        "settings": {**settings.model_dump(mode="json"), "steps": None, "early_stop_factor": None},
        "schedule": [schedule.name, schedule.timesteps],
        "images": list(images.shape),
        "labelled": labels is not None,
        "start": tensors_digest(network.state_dict() if state is None else state.tensors),
        "torch": torch.__version__,
        "device": next(network.parameters()).device.type,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


class _Checkpoints:
    """Where a training is stored, and when it is due."""

    def __init__(self, path: Path | None, every_seconds: float, identity: str) -> None:
        self.path = path
        self.every_seconds = every_seconds
        self.identity = identity
        self.written = time.monotonic()
        self.step: int | None = None

    def load(self, last_step: int) -> tuple[TrainingState | None, str]:
        """Return the state to go on from and a note, as :func:`load_checkpoint` does."""
        if self.path is None:
            return None, ""
        found, note = load_checkpoint(self.path, self.identity)
        if found is not None and found.step > last_step:  # a longer training's, which is not to be undone
            self.path = found = None
        self.step = None if found is None else found.step
        return found, note

    def due(self) -> bool:
        return self.path is not None and time.monotonic() - self.written >= self.every_seconds

    def save(self, training: _Training) -> None:
        if self.path is not None and training.done != self.step:
            save_checkpoint(self.path, training.state(), self.identity)
            self.step = training.done
            self.written = time.monotonic()


class _Watch:
    """Reads the losses now and then, reports, and compares with the reference curve at its fixed places."""

    def __init__(
        self,
        training: _Training,
        last_step: int,
        report: Callable[[dict[str, Any]], None] | None,
        reference: Sequence[float] | None,
        factor: float,
    ) -> None:
        self.training = training
        self.last_step = last_step
        self.report = report
        self.reference = reference
        self.factor = factor
        self.checks = check_steps(last_step) if reference else ()
        self.reported = -math.inf

    def look_back(self) -> None:
        """Make the comparisons that lie behind a training that goes on, as an uncut one would have made them."""
        for step in self.checks:
            if step <= self.training.done:
                self.compare(step)

    def after_step(self) -> None:
        done = self.training.done
        now = time.monotonic()
        reporting = self.report is not None and now - self.reported >= _REPORT_SECONDS
        if reporting or done in self.checks or len(self.training.unread) >= _LONGEST_UNCHECKED:
            self.read_losses()
        if reporting and self.report is not None:
            self.report({"step": done, "steps": self.last_step, "loss": self.training.losses[-1]})
            self.reported = now
        if done in self.checks:
            self.compare(done)

    def read_losses(self) -> None:
        self.training.read_losses()

    def compare(self, done: int) -> None:
        assert self.reference is not None
        check_progress(self.training.losses[:done], steps=self.last_step, reference=self.reference, factor=self.factor)
