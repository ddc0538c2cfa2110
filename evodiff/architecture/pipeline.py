"""Sampling from an evolved model with a diffusers scheduler."""

# No postponed annotations here: diffusers reads the types of the constructor's arguments.
import json
from collections.abc import Sequence
from inspect import signature
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline, ImagePipelineOutput
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from diffusers.utils.pil_utils import numpy_to_pil
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from evodiff.architecture.pipeline_folder import STOCK_PIPELINE
from evodiff.architecture.unet import EvolvedUNet2DModel

__all__ = ["DiffusionPipeline", "EvolvedPipeline"]

OUTPUT_TYPES = ("pil", "np", "pt")


class EvolvedPipeline(DiffusionPipeline):
    """Images from an :class:`~evodiff.architecture.unet.EvolvedUNet2DModel` and a scheduler of diffusers."""

    __module__ = "evodiff.models"
    model_cpu_offload_seq = "unet"  # type: ignore[assignment]  # the base class starts it at None

    def __init__(self, unet: EvolvedUNet2DModel, scheduler: SchedulerMixin) -> None:
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)  # type: ignore[no-untyped-call]  # none in diffusers

    @torch.no_grad()
    def __call__(
        self,
        batch_size: int | None = None,
        *,
        class_labels: int | Sequence[int] | Tensor | None = None,
        guidance_scale: float = 1.0,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        num_inference_steps: int = 20,
        output_type: str = "pil",
        return_dict: bool = True,
    ) -> ImagePipelineOutput | tuple[Any]:
        """Sample images.

        ``class_labels`` is one label for all images, or one each; None samples without labels. ``guidance_scale`` w
        extrapolates from the unlabelled prediction, u + w (c - u), so 1 is no guidance (Ho & Salimans 2022). With a
        list of generators, one an image, an image comes from its own generator whatever batch it is in.
        ``output_type`` is "pil", "np" (batch, height, width, channels) or "pt" (batch, channels, height, width), the
        last two in [0, 1].

        Raises:
            ValueError: batch size, number of labels and number of generators contradict each other; labels or guidance
                are asked of a model without classes, or guidance without labels; or the output type is unknown.
        """
        if output_type not in OUTPUT_TYPES:
            raise ValueError(f"output_type {output_type!r}: expected one of {list(OUTPUT_TYPES)}.")
        labels = self._labels(class_labels, batch_size)
        if guidance_scale != 1 and labels is None:
            raise ValueError("guidance_scale needs class_labels: give labels, or leave the scale at 1.")
        image = self._noise((batch_size or 1) if labels is None else len(labels), generator)
        self.scheduler.set_timesteps(num_inference_steps, device=image.device)
        image = image * self.scheduler.init_noise_sigma
        takes_generator = "generator" in signature(self.scheduler.step).parameters
        options = {"generator": generator} if takes_generator else {}
        for timestep in self.progress_bar(self.scheduler.timesteps):
            scaled = self.scheduler.scale_model_input(image, timestep)
            prediction = self._predict(scaled, timestep, labels, guidance_scale)
            image = self.scheduler.step(prediction, timestep, image, **options).prev_sample
        images = self._finish(image, output_type)
        self.maybe_free_model_hooks()  # type: ignore[no-untyped-call]  # none in diffusers
        return ImagePipelineOutput(images=images) if return_dict else (images,)

    def save_pretrained(self, save_directory: str | PathLike[Any], *args: Any, **options: Any) -> None:
        """Write a folder that this class, ``DiffusionPipeline`` and ``DDPMPipeline`` can load."""
        super().save_pretrained(save_directory, *args, **options)
        index = Path(save_directory) / self.config_name
        content = json.loads(index.read_text())
        index.write_text(json.dumps(content | {"_class_name": STOCK_PIPELINE}, indent=2, sort_keys=True) + "\n")

    def _labels(self, class_labels: int | Sequence[int] | Tensor | None, batch_size: int | None) -> Tensor | None:
        if class_labels is None:
            return None
        classes = self.unet.config.classes
        labels = torch.as_tensor(class_labels, device=self._execution_device).reshape(-1).long()
        if isinstance(class_labels, int):
            labels = labels.expand(batch_size or 1)
        if batch_size is not None and len(labels) != batch_size:
            raise ValueError(f"{len(labels)} class_labels for batch_size {batch_size}: give one label an image.")
        if not bool(((labels >= 0) & (labels <= classes)).all()) or not classes:
            known = f"0 to {classes - 1}, or {classes} for none" if classes else "no classes: leave class_labels out"
            raise ValueError(f"class_labels {labels.tolist()}: this model knows {known}.")
        return labels

    def _noise(self, count: int, generator: torch.Generator | Sequence[torch.Generator] | None) -> Tensor:
        if generator is not None and not isinstance(generator, torch.Generator):
            generator = list(generator)
            if len(generator) != count:
                raise ValueError(
                    f"{len(generator)} generators for {count} images: give one generator, or one an image."
                )
        size = self.unet.config.sample_size
        shape = (count, self.unet.config.in_channels, size, size)
        noise: Tensor = randn_tensor(shape, generator, device=self._execution_device, dtype=self.unet.dtype)
        return noise

    def _predict(self, image: Tensor, timestep: Tensor, labels: Tensor | None, guidance_scale: float) -> Tensor:
        if labels is None or guidance_scale == 1:
            prediction: Tensor = self.unet(image, timestep, labels).sample
            return prediction
        null = torch.full_like(labels, self.unet.config.classes)
        both = self.unet(torch.cat([image, image]), timestep, torch.cat([labels, null])).sample
        conditional, unconditional = both.chunk(2)
        return torch.lerp(unconditional, conditional, guidance_scale)

    def _finish(self, image: Tensor, output_type: str) -> Any:
        image = (image / 2 + 0.5).clamp(0, 1)
        if output_type == "pt":
            return image
        array = image.cpu().permute(0, 2, 3, 1).float().numpy()
        return array if output_type == "np" else numpy_to_pil(array)  # type: ignore[no-untyped-call]  # none in diffusers
