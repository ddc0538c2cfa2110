"""Writing a network as a folder that samples by itself: model, scheduler and index, in safetensors and JSON.

Importing this module imports diffusers' pipelines, which takes seconds.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from diffusers.models.unets.unet_2d import UNet2DModel
from diffusers.pipelines.ddpm.pipeline_ddpm import DDPMPipeline
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler

from evodiff.architecture.pipeline_folder import scheduler_settings, write_pipeline_folder
from evodiff.architecture.stock import stock_unet
from evodiff.errors import InvalidGenome

if TYPE_CHECKING:
    from torch import Tensor, nn

    from evodiff.architecture.network import EvolvedNetwork
    from evodiff.architecture.stock import StockUNet
    from evodiff.settings import NoiseScheduleName, Prediction

# Names of modules here and in UNet2DModel: those of the whole network, then those inside a layer that differ.
_STOCK_PATHS = {
    "stem": "conv_in",
    "time_embedding.linear1": "time_embedding.linear_1",
    "time_embedding.linear2": "time_embedding.linear_2",
    "output.norm": "conv_norm_out",
    "output.conv": "conv_out",
}
_STOCK_NAMES = {
    "modulation.projection": "time_emb_proj",
    "shortcut": "conv_shortcut",
    "norm": "group_norm",
    "out": "to_out.0",
}


def export_pipeline(
    network: EvolvedNetwork,
    folder: str | Path,
    *,
    prediction: Prediction = "v_prediction",
    noise_schedule: NoiseScheduleName = "linear",
    stock: bool = False,
    keep_classes: bool = False,
) -> Path:
    """Write ``network`` with a DPM++ 2M scheduler of its prediction type and noise schedule; return the folder.

    ``EvolvedPipeline.from_pretrained(folder)`` samples from it; after ``import evodiff`` so does
    ``DiffusionPipeline.from_pretrained(folder)``, without labels. With ``stock`` the folder needs diffusers alone: see
    :func:`to_stock`, which ``keep_classes`` is passed to.

    Raises:
        InvalidGenome: ``stock`` is asked of a genome that is no stock ``UNet2DModel``.
    """
    folder = Path(folder)
    if stock:
        scheduler = make_scheduler(prediction, noise_schedule)
        pipeline = DDPMPipeline(to_stock(network, keep_classes=keep_classes), scheduler)  # type: ignore[arg-type]  # runs with any
        pipeline.save_pretrained(folder, safe_serialization=True)
        return folder
    weights = {name: tensor.detach().cpu().numpy() for name, tensor in network.state_dict().items()}
    genome = network.genome.to_json()
    write_pipeline_folder(folder, weights, genome, network.shape, prediction=prediction, noise_schedule=noise_schedule)
    return folder


def make_scheduler(prediction: Prediction, noise_schedule: NoiseScheduleName) -> DPMSolverMultistepScheduler:
    """Return the scheduler of :func:`~evodiff.architecture.pipeline_folder.scheduler_settings`."""
    scheduler: DPMSolverMultistepScheduler = DPMSolverMultistepScheduler(
        **scheduler_settings(prediction, noise_schedule)
    )
    return scheduler


def to_stock(network: EvolvedNetwork, *, keep_classes: bool = False) -> UNet2DModel:
    """Return the stock ``UNet2DModel`` with the same outputs, on the CPU.

    A stock model with classes cannot do without labels, and ``DDPMPipeline`` gives none. So the null class is folded
    into the time embedding, and the model has no classes; with ``keep_classes`` it has classes + 1 and demands labels.

    Raises:
        InvalidGenome: the genome is no stock U-Net.
    """
    stock = stock_unet(network.genome)
    if stock is None:
        raise InvalidGenome(
            "Not a stock network",
            where="layers",
            expected="the residual blocks, attention, resampling and connections of a UNet2DModel",
            found=f"{len(network.genome.layers)} layers in another order or with other settings",
            remedy="Export it without stock: the folder then needs evodiff to be installed.",
        )
    model: UNet2DModel = UNet2DModel(
        **stock.arguments(network.shape, classes=network.shape.classes if keep_classes else 0)
    )
    model.load_state_dict(_stock_weights(network, stock, keep_classes))
    model.eval()
    return model


def _stock_weights(network: EvolvedNetwork, stock: StockUNet, keep_classes: bool) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = {}
    for path, name in _STOCK_PATHS.items():
        weights |= _named(network.get_submodule(path), name)
    for item, (_, _, path) in zip(network.layers.values(), stock.layer_paths(), strict=True):
        weights |= _layer_weights(item.get_submodule("operation"), path)
    if network.class_embedding is not None:
        table = network.class_embedding.weight.detach().cpu()
        if keep_classes:
            weights["class_embedding.weight"] = table
        else:
            weights["time_embedding.linear_2.bias"] = weights["time_embedding.linear_2.bias"] + table[-1]
    return weights


def _layer_weights(operation: nn.Module, path: str) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = {}
    for name, tensor in _named(operation, "").items():
        module, _, parameter = name.rpartition(".")
        if module == "qkv":
            parts = tensor.chunk(3)
            weights |= {f"{path}.to_{part}.{parameter}": rows for part, rows in zip("qkv", parts, strict=True)}
        else:
            weights[f"{path}.{_STOCK_NAMES.get(module, module)}.{parameter}"] = tensor
    return weights


def _named(module: nn.Module, prefix: str) -> dict[str, Tensor]:
    """Return the weights under ``module`` on the CPU, by names that start with ``prefix``."""
    return {f"{prefix}.{name}".removeprefix("."): tensor.detach().cpu() for name, tensor in module.state_dict().items()}
