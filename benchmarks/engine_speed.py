"""How fast the engine is: asking, telling, and going on with a long ledger.

One run is grown to --candidates candidates in generations of --population. Around each of five sizes it is opened
anew and asked from, five times. Told values are made up from the genome; nothing is trained.

    python benchmarks/engine_speed.py --candidates 10000
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
import zlib
from pathlib import Path

import numpy as np

from evodiff.engine import Evolution

REPEATS = 5


class BitSpace:
    """Strings of 64 bits: a space that costs nothing itself."""

    name = "bits"
    operators = ("flip",)

    def sample(self, rng):
        return "".join(map(str, rng.integers(2, size=64)))

    def mutate(self, genome, rng, operator=None):
        index = int(rng.integers(64))
        return genome[:index] + ("1" if genome[index] == "0" else "0") + genome[index + 1 :]

    def crossover(self, first, second, rng):
        cut = int(rng.integers(1, 64))
        return first[:cut] + second[cut:], second[:cut] + first[cut:]

    def validate(self, genome):
        if len(genome) != 64:
            raise ValueError(f"expected 64 bits, found {genome!r}")

    def canonical(self, genome):
        return genome

    def features(self, genome):
        return np.array([float(bit) for bit in genome])

    def costs(self, genome):
        return {}

    def distance(self, first, second):
        return sum(a != b for a, b in zip(first, second, strict=True)) / 64

    def to_json(self, genome):
        return {"bits": genome}

    def from_json(self, data):
        return data["bits"]


def architectures():
    """Return the space of digit-sized diffusion architectures, without a calibration."""
    from evodiff.architecture.genome import ImageShape
    from evodiff.architecture.space import ArchitectureSpace

    return ArchitectureSpace(ImageShape(channels=1, size=8, classes=10), objectives=("memory_mb",))


def made_up(space, genome):
    """Return objectives that conflict and differ from genome to genome."""
    canonical = space.canonical(genome)
    noise = zlib.crc32(canonical.encode()) / 2**32
    size = len(canonical) if len(set(canonical)) > 2 else canonical.count("1")
    return {"quality": noise + 40.0 / (1 + size), "size": float(size)}


def timed(clock, function, *arguments):
    """Return the result and the seconds it took by ``clock``."""
    start = clock()
    result = function(*arguments)
    return result, clock() - start


def tell_all(evolution, trials, values):
    """Tell each trial its value."""
    for trial, value in zip(trials, values, strict=True):
        evolution.tell(trial.id, value)


def grow(space, folder, candidates, population, sizes, clock):
    """Grow a run; return, for each of ``sizes``, lists of seconds to open it, to ask, and to tell one trial."""
    Evolution(space, objectives=["quality", "size"], population_size=population, ledger=folder, strategy="nsga2")
    evolution = Evolution.open(space, folder)
    times = {size: {"open": [], "ask": [], "tell": []} for size in sizes}
    told = 0
    while told < candidates:
        size = next((size for size in sizes if size - REPEATS * population <= told < size), None)
        if size is not None:
            evolution, seconds = timed(clock, Evolution.open, space, folder)
            times[size]["open"].append(seconds)
        trials, seconds = timed(clock, evolution.ask, population)
        values = [made_up(space, trial.genome) for trial in trials]
        _, telling = timed(clock, tell_all, evolution, trials, values)
        if size is not None:
            times[size]["ask"].append(seconds)
            times[size]["tell"].append(telling / len(trials))
        told += len(trials)
    return times


def exponent(times, what):
    """Return the slope of log(median seconds) over log(candidates), the slope of n log n being about 1.1."""
    sizes = list(times)
    medians = [statistics.median(times[size][what]) for size in sizes]
    return float(np.polyfit(np.log(sizes), np.log(medians), 1)[0])


def milliseconds(seconds):
    """Return median and range as text."""
    return f"{1e3 * statistics.median(seconds):.1f} [{1e3 * min(seconds):.1f}, {1e3 * max(seconds):.1f}]"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, default=10_000)
    parser.add_argument("--population", type=int, default=50)
    parser.add_argument("--spaces", nargs="*", default=["bits", "architectures"], choices=["bits", "architectures"])
    parser.add_argument("--folder", type=Path, help="where the runs are grown; a temporary folder by default")
    parser.add_argument("--cpu", action="store_true", help="count processor time, for a machine with other work to do")
    arguments = parser.parse_args()
    clock = time.process_time if arguments.cpu else time.perf_counter
    print(" ".join(f"{name}={value}" for name, value in vars(arguments).items()))
    steps = int(math.log2(max(2, arguments.candidates // (REPEATS * arguments.population))))
    sizes = [arguments.candidates >> shift for shift in range(min(5, steps + 1))][::-1]

    print(f"\nMilliseconds{' of processor time' if arguments.cpu else ''}: median [smallest, largest] of five.\n")
    print(f"| space | candidates | open | ask({arguments.population}) of the opened run | tell |")
    print("|---|---|---|---|---|")
    for name in arguments.spaces:
        space = BitSpace() if name == "bits" else architectures()
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            times = grow(space, Path(folder) / "run", arguments.candidates, arguments.population, sizes, clock)
        for size, row in times.items():
            cells = " | ".join(milliseconds(row[what]) for what in ("open", "ask", "tell"))
            print(f"| {name} | {size} | {cells} |", flush=True)
        slopes = " | ".join(f"{exponent(times, what):.2f}" for what in ("open", "ask", "tell"))
        print(f"| {name} | growth exponent | {slopes} |", flush=True)


if __name__ == "__main__":
    main()
