"""A network that answers requests: plain torch, the sampler by which candidates are scored, one generator an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file
from torch import Tensor

from evodiff.architecture.network import EvolvedNetwork, build_network
from evodiff.deployment.worker.model_checks import ModelRefused
from evodiff.sampling import NoiseSchedule, denoiser, dpm_solver_pp_2m, scoring_timesteps

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from evodiff.deployment.worker.model_checks import CheckedModel
    from evodiff.settings import Prediction


@dataclass(frozen=True, eq=False)
class ServedNetwork:
    """A loaded network with what its sampler needs, on the CPU."""

    network: EvolvedNetwork
    schedule: NoiseSchedule
    prediction: Prediction

    @property
    def classes(self) -> int:
        """Number of classes, 0 for none."""
        return self.network.shape.classes

    @classmethod
    def load(cls, model: CheckedModel) -> ServedNetwork:
        """Load the weights of a folder that was checked.

        Raises:
            ModelRefused: names or shapes of its tensors are not those of its genome, or a weight is not finite.
        """
        network = build_network(model.genome, model.shape, seed=0)
        expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
        if model.tensors != expected:
            odd = sorted(set(model.tensors.items()) ^ set(expected.items()))[:2]
            raise ModelRefused(
                f"{model.weights} is not served: expected the tensors that its genome makes, found others, such as "
                f"{str(odd)[:200]}.",
                remedy="Export it again by `evodiff export RUN ID --out DIR`.",
            )
        weights = {name.removeprefix("network."): tensor for name, tensor in load_file(model.weights).items()}
        broken = [name for name, tensor in weights.items() if not bool(tensor.isfinite().all())]
        if broken:
            raise ModelRefused(
                f"{model.weights} is not served: expected finite weights, found others in {broken[0]}.",
                remedy="Serve another version.",
            )
        network.load_state_dict(weights)
        return cls(network.eval().requires_grad_(False), NoiseSchedule.named(model.noise_schedule), model.prediction)

    @torch.inference_mode()
    def sample(
        self,
        seeds: Sequence[int],
        labels: Sequence[int] | None,
        *,
        steps: int,
        guidance: float,
        alive: Callable[[], None] = lambda: None,
    ) -> Tensor:
        """Generate one image a seed: (n, channels, size, size) float32, not clamped, where [-1, 1] is black to white.

        ``alive`` is called before each evaluation of the network.

        An image depends on its own seed and label alone; in another batch it differs by float32 rounding.
        """
        shape = self.network.shape
        noise = torch.stack(
            [
                torch.randn(shape.channels, shape.size, shape.size, generator=torch.Generator().manual_seed(seed))
                for seed in seeds
            ]
        )
        given = None if labels is None else torch.tensor(labels, dtype=torch.long)
        denoise = denoiser(self.network, self.schedule, self.prediction, given, guidance=guidance)

        def heard(noisy: Tensor, timestep: Tensor) -> Tensor:
            alive()
            return denoise(noisy, timestep)

        return dpm_solver_pp_2m(heard, noise, self.schedule, scoring_timesteps(self.schedule, steps))
