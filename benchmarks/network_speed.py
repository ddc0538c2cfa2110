"""Does the network of the DDPM zoo genome train as fast as the stock UNet2DModel of the same blocks?

Forward and backward of both on one thread, in interleaved pairs, with the same images, time steps and labels. A pair
gives the ratio stock / ours, so more than 1 is faster than stock. Two clocks: CPU time, which other processes on the
machine hardly touch, and wall clock. ``--forward`` measures inference instead.

    OMP_NUM_THREADS=1 python benchmarks/network_speed.py
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import TYPE_CHECKING

import torch
from diffusers.models.unets.unet_2d import UNet2DModel
from rich.console import Console
from rich.table import Table

from evodiff.architecture.export import to_stock
from evodiff.architecture.genome import ImageShape
from evodiff.architecture.network import build_network
from evodiff.architecture.zoo import STOCK_SIZES, ddpm_unet, stock_unet_arguments

if TYPE_CHECKING:
    from collections.abc import Callable

# Images and the batch that they are trained in.
CASES = [(ImageShape(1, 8, 10), 64), (ImageShape(3, 32, 10), 16)]


def main() -> None:
    """Print one row per network and image size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--forward", action="store_true", help="inference instead of forward and backward")
    parser.add_argument("--names", nargs="+", default=["ddpm_unet"], choices=list(STOCK_SIZES))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    what = "forward" if arguments.forward else "forward and backward"
    table = Table(
        "network", "image", "batch", "parameters", "of stock", "CPU ms", "ratio (CPU time)", "ratio (wall clock)"
    )
    table.title = f"{what}, one thread, {arguments.pairs} interleaved pairs: stock / ours, median, quartiles, range"
    console = Console(width=150)
    for name in arguments.names:
        for shape, batch in CASES:
            table.add_row(
                name, str(shape.size), str(batch), *_row(name, shape, batch, arguments.pairs, arguments.forward)
            )
            console.print(f"{name} at {shape.size} px measured")
    console.print(table)


def _row(name: str, shape: ImageShape, batch: int, pairs: int, forward: bool) -> list[str]:
    network = build_network(ddpm_unet(shape, name), shape, seed=0)
    stock = UNet2DModel(**stock_unet_arguments(shape, name))
    stock.load_state_dict(to_stock(network, keep_classes=True).state_dict())
    generator = torch.Generator().manual_seed(0)
    sample = torch.randn(batch, shape.channels, shape.size, shape.size, generator=generator)
    timestep = torch.randint(0, 1000, (batch,), generator=generator)
    labels = torch.randint(0, shape.classes + 1, (batch,), generator=generator) if shape.classes else None

    def ours() -> torch.Tensor:
        return network(sample, timestep, labels)

    def theirs() -> torch.Tensor:
        return stock(sample, timestep, labels).sample

    for _ in range(2):  # warm up
        _timed(ours, forward)
        _timed(theirs, forward)
    cpu_ratios, wall_ratios, cpu_ms = [], [], []
    for pair in range(pairs):
        first_is_ours = pair % 2 == 0  # whoever goes second finds warmer caches, or a busier machine
        runs = [_timed(ours if mine else theirs, forward) for mine in (first_is_ours, not first_is_ours)]
        (cpu, wall), (stock_cpu, stock_wall) = runs if first_is_ours else reversed(runs)
        cpu_ratios.append(stock_cpu / cpu)
        wall_ratios.append(stock_wall / wall)
        cpu_ms.append(1e3 * cpu)
    parameters, stock_parameters = (sum(p.numel() for p in model.parameters()) for model in (network, stock))
    share = f"{parameters / stock_parameters:.2%}"
    return [f"{parameters:,}", share, f"{statistics.median(cpu_ms):.1f}", _spread(cpu_ratios), _spread(wall_ratios)]


def _timed(predict: Callable[[], torch.Tensor], forward: bool) -> tuple[float, float]:
    """Return CPU and wall-clock seconds of one step."""
    wall, cpu = time.perf_counter(), time.process_time()
    if forward:
        with torch.no_grad():
            predict()
    else:
        predict().square().mean().backward()
    return time.process_time() - cpu, time.perf_counter() - wall


def _spread(ratios: list[float]) -> str:
    low, median, high = statistics.quantiles(ratios, n=4)
    return f"{median:.3f}, {low:.3f} to {high:.3f}, {min(ratios):.2f} to {max(ratios):.2f}"


if __name__ == "__main__":
    main()
