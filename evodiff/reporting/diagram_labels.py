"""What the boxes of a diagram say: a title, the settings that matter, channels, and everything in the tooltip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from evodiff.architecture.genome import ArchitectureComponent, ArchitectureGenome, LayerGene

if TYPE_CHECKING:
    from evodiff.architecture.graph import ResolvedGenome, ResolvedLayer

TITLE_PIXELS = 8.3  # widest a character of a title gets on average, in the widest common sans-serif, 12 px, bold
DETAIL_PIXELS = 6.2  # the same for 10.5 px
_NORMS = {"group": "group norm", "layer": "layer norm", "rms": "RMS norm"}
_ACTIVATIONS = {"silu": "SiLU", "gelu": "GELU", "relu": "ReLU", "mish": "Mish"}
_MODULATIONS = {"none": "", "add": "t add", "scale_shift": "t scale-shift", "gated": "t gated"}


@dataclass(frozen=True)
class Label:
    """Texts of one box. ``component`` names its colour: a component's value, ``stem`` or ``output``."""

    component: str
    title: str
    detail: str
    channels: str
    tooltip: str


def shorten(text: str, pixels: float, per_character: float) -> str:
    """Return ``text``, cut with an ellipsis where it would be wider than ``pixels``."""
    room = int(pixels / per_character)
    return text if len(text) <= room else text[: max(1, room - 1)] + "…"


def stem_label(resolved: ResolvedGenome) -> Label:
    """Return the label of the stem."""
    patch = resolved.genome.parameters.patch
    shape = resolved.shape
    kernel = f"{patch}×{patch} patches" if patch > 1 else "conv 3×3"
    position = " · learned position" if resolved.genome.parameters.positional else ""
    return Label(
        "stem",
        "Noisy image",
        f"{kernel}{position}",
        f"{shape.channels}→{resolved.width} ch",
        f"Stem: takes in {shape.channels} × {shape.size} × {shape.size}, {kernel}{position}, "
        f"{resolved.width} channels out",
    )


def output_label(resolved: ResolvedGenome) -> Label:
    """Return the label of the output stage."""
    shuffle = " · pixel shuffle" if resolved.genome.parameters.patch > 1 else ""
    channels = resolved.shape.channels
    return Label(
        "output",
        "Prediction",
        f"norm · SiLU · conv 3×3{shuffle}",
        f"{resolved.out_channels}→{channels} ch",
        f"Output stage: {resolved.out_channels} channels to {channels} × {resolved.shape.size} × {resolved.shape.size}",
    )


def layer_label(layer: ResolvedLayer) -> Label:
    """Return the label of one layer."""
    gene = layer.gene
    channels = (
        f"{layer.out_channels} ch"
        if layer.in_channels == layer.out_channels
        else f"{layer.in_channels}→{layer.out_channels} ch"
    )
    settings = ", ".join(f"{name} {value}" for name, value in gene.settings.items())
    tooltip = (
        f"{gene.key}: {gene.component.value}; {settings}; {layer.in_channels} channels in, {layer.out_channels} out; "
        f"{layer.in_size} × {layer.in_size} to {layer.out_size} × {layer.out_size}"
    )
    return Label(gene.component.value, _title(gene), _detail(gene, layer), channels, tooltip)


def _title(gene: LayerGene) -> str:
    settings = gene.settings
    match gene.component:
        case ArchitectureComponent.ATTENTION:
            return "Linear attention" if settings["kind"] == "linear" else "Attention"
        case ArchitectureComponent.CONV:
            return _conv_title(gene)
        case ArchitectureComponent.RESIDUAL:
            return f"Residual {settings['kernel']}×{settings['kernel']}"
        case _:
            return gene.component.value.capitalize()


def _conv_title(gene: LayerGene) -> str:
    kernel, expansion = gene.settings["kernel"], gene.settings["expansion"]
    times = f" ×{expansion}" if expansion != 1 else ""
    if kernel == 1 and times:
        return f"MLP{times}"
    kind = "Depthwise" if gene.settings["separable"] else "Conv"
    return f"{kind} {kernel}×{kernel}{times}"


def _detail(gene: LayerGene, layer: ResolvedLayer) -> str:
    settings = gene.settings
    match gene.component:
        case ArchitectureComponent.NORM:
            return _NORMS[str(settings["kind"])]
        case ArchitectureComponent.ACTIVATION:
            return _ACTIVATIONS[str(settings["kind"])]
        case ArchitectureComponent.DOWNSAMPLE | ArchitectureComponent.UPSAMPLE:
            return f"{layer.in_size}→{layer.out_size}, {settings['method']}"
        case _:
            parts = [
                "+x" if settings.get("shortcut") else "",
                f"{settings['heads']} head{'s' * (settings['heads'] != 1)}" if "heads" in settings else "",
                _NORMS[str(settings["norm"])],
                _ACTIVATIONS.get(str(settings.get("activation")), ""),
                _MODULATIONS[str(settings["modulation"])],
            ]
            return " · ".join(part for part in parts if part)


def parameter_lines(genome: ArchitectureGenome, resolved: ResolvedGenome) -> list[str]:
    """Return the global parameters as short phrases."""
    parameters = genome.parameters
    conditioning = f"time{' and class' if resolved.shape.classes else ''} embedding"
    return [
        f"{len(genome.layers)} layers",
        f"width {parameters.width} channels",
        f"patch {parameters.patch}×{parameters.patch}" if parameters.patch > 1 else "no patching",
        f"{conditioning} {resolved.time_embedding_channels} ({parameters.time_embedding} × width)",
        "learned position" if parameters.positional else "no learned position",
    ]
