"""The diffusers shell of a network: configuration, saving and loading, outputs.

Importing this module imports diffusers; :mod:`evodiff.architecture.network` does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.unets.unet_2d import UNet2DOutput
from torch import Tensor

from evodiff.architecture.genome import ArchitectureGenome, ImageShape
from evodiff.architecture.network import build_network
from evodiff.errors import InvalidGenome

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evodiff.architecture.network import EvolvedNetwork

__all__ = ["EvolvedUNet2DModel", "ModelMixin"]


# diffusers has no type information, so its classes are Any to mypy.
class EvolvedUNet2DModel(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """The network of a genome as a diffusers model.

    ``genome`` is what :meth:`ArchitectureGenome.to_json` gives; it is stored in the configuration. ``sample_size`` is
    the height and width of the images, ``in_channels`` = ``out_channels`` their channels, ``classes`` the number of
    class labels, 0 for none. ``seed`` draws the first weights; None takes torch's global generator.

    Raises:
        InvalidGenome: the genome makes no network for images of this shape.
    """

    __module__ = "evodiff.models"  # model_index.json names this module, and a fresh process finds it there
    _supports_gradient_checkpointing = True
    # The weights are stored, so where they started from need not be.
    ignore_for_config = ["seed"]  # noqa: RUF012 - diffusers declares it as a plain list

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        genome: Mapping[str, Any],
        sample_size: int,
        in_channels: int = 3,
        out_channels: int = 3,
        classes: int = 0,
        seed: int | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # diffusers leaves it without types
        if in_channels != out_channels:
            raise InvalidGenome(
                "Channels differ",
                where="out_channels",
                expected=f"{in_channels}, as in_channels",
                found=out_channels,
                remedy="Give both the channels of the images.",
            )
        shape = ImageShape(in_channels, sample_size, classes)
        self.network = build_network(ArchitectureGenome.from_json(genome), shape, seed=seed)

    @classmethod
    def from_network(cls, network: EvolvedNetwork) -> EvolvedUNet2DModel:
        """Return a model with a copy of the network's weights, on the same device."""
        shape = network.shape
        model: EvolvedUNet2DModel = cls(
            genome=network.genome.to_json(),
            sample_size=shape.size,
            in_channels=shape.channels,
            out_channels=shape.channels,
            classes=shape.classes,
            seed=0,
        )
        model.network.load_state_dict(network.state_dict())
        model.network.to(next(network.parameters()).device)
        model.train(network.training)
        return model

    @property
    def genome(self) -> ArchitectureGenome:
        """The genome of the network."""
        return self.network.genome

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | float,
        class_labels: Tensor | None = None,
        return_dict: bool = True,
    ) -> UNet2DOutput | tuple[Tensor]:
        """Predict as the stock ``UNet2DModel`` does.

        ``sample`` is (batch, channels, size, size); ``timestep`` a number of 0 to 999, or a tensor of one or of batch
        numbers; ``class_labels`` (batch,) integers, where ``classes`` or no labels at all mean the null class.
        """
        timesteps = torch.as_tensor(timestep, device=sample.device).reshape(-1).expand(sample.shape[0])
        prediction = self.network(sample, timesteps, class_labels)
        return UNet2DOutput(sample=prediction) if return_dict else (prediction,)
