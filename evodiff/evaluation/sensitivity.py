"""What each layer of a trained network is worth: how much the denoising loss rises without it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from evodiff.architecture.layers import ConvLayer, ResidualLayer
from evodiff.architecture.network import EvolvedNetwork, NetworkLayer, module_name
from evodiff.errors import TrialFailure
from evodiff.evaluation.score import denoising_loss, reproducible

if TYPE_CHECKING:
    from torch import Tensor, nn

    from evodiff.evaluation.score import ScoringInputs
    from evodiff.settings import EvaluationSettings, TrainingSettings

# A layer is judged on so many images of the fixed batch at most: one forward pass of them for each layer.
IMAGES: Final = 64
# A network that breaks down without a layer has lost more than any number says.
LARGEST: Final = 1e3
_PLACES: Final = 6


def layer_sensitivities(
    network: EvolvedNetwork,
    inputs: ScoringInputs,
    *,
    training: TrainingSettings,
    evaluation: EvaluationSettings,
    device: str = "cpu",
) -> dict[str, float]:
    """Return by layer key the relative rise of the denoising loss on the fixed batch without the layer's own work.

    1. What a layer does to its input is left out: the input goes on, through the projection of its shortcut where the
       channels differ.
    2. Where the shapes differ and there is no such shortcut, every channel is its mean over the batch and the
       positions instead.

    On the CPU the same arguments give the same bytes. Values are rounded, and at most :data:`LARGEST`; one that is
    negative means that the network does better without.

    Raises:
        TrialFailure: the loss of the whole network is infinite or not a number.
    """
    network = network.to(device)
    was_training = network.training
    network.eval()
    count = min(IMAGES, evaluation.loss_batch)
    try:
        with reproducible(device):
            whole = denoising_loss(network, inputs, training, evaluation, device=device, count=count)
            found = {}
            for gene in network.genome.layers:
                layer = network.layers[module_name(gene.key)]
                assert isinstance(layer, NetworkLayer)
                hook = layer.operation.register_forward_hook(_leave_out)
                try:
                    without = denoising_loss(network, inputs, training, evaluation, device=device, count=count)
                except TrialFailure:
                    without = float("inf")
                finally:
                    hook.remove()
                found[gene.key] = round(min(LARGEST, without / max(whole, 1e-12) - 1), _PLACES)
    finally:
        network.train(was_training)
    return found


def _leave_out(operation: nn.Module, arguments: tuple[Tensor, Tensor], output: Tensor) -> Tensor:
    """Return what a layer without its own work would give; a forward hook."""
    x = arguments[0]
    if x.shape == output.shape:
        return x
    projection = _projection(operation)
    if projection is not None:
        kept: Tensor = projection(x)
        return kept
    return output.mean(dim=(0, 2, 3), keepdim=True).expand_as(output)


def _projection(operation: nn.Module) -> nn.Module | None:
    if isinstance(operation, ResidualLayer):
        return operation.shortcut
    return operation.projection if isinstance(operation, ConvLayer) else None
