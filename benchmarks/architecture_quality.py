"""Does searching beat the stock U-Net, and does it beat shrinking the stock U-Net by hand?

For each dataset, the champion of a timed search meets

(a) the stock U-Net of the zoo, ``ddpm_unet``, and
(b) that net narrowed by hand to the champion's measured latency: the same blocks at a smaller width, and, where the
    smallest width is still slower, fewer blocks.

All three are trained from scratch, from the same seeds, and judged by KID of their samples to the test images in the
second feature net, which the search never sees. One seed gives all three the same batches and noise, so differences
are paired by seed; bounds are of Student's t over seeds and hold for this one search and these test images. Latency is
measured in this process while nothing else should run; on a machine that is busy, take ``--clock cpu``.

What is finished is stored below ``--out``: start again with the same options to go on, or with more ``--seeds``.

    OMP_NUM_THREADS=1 python benchmarks/architecture_quality.py
    OMP_NUM_THREADS=1 python benchmarks/architecture_quality.py --smoke
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from evodiff.architecture.cost import memory_mb, operations, parameter_count
from evodiff.architecture.genome import GLOBALS, ArchitectureGenome, GlobalParameters, ImageShape
from evodiff.architecture.graph import resolve
from evodiff.architecture.network import build_network
from evodiff.architecture.repair import repair
from evodiff.architecture.skeletons import UNetPlan, unet
from evodiff.architecture.zoo import ATTENTION_HEADS, level_multipliers, zoo
from evodiff.evaluation.latency import measure_latency_ms
from evodiff.evaluation.over_seeds import paired_difference, spread
from evodiff.evaluation.validation import validate
from evodiff.hardware.latency import predict_ms
from evodiff.pipeline.create import create_run
from evodiff.pipeline.evolve import Watcher, evolve_generation
from evodiff.pipeline.generation import Listener
from evodiff.pipeline.inputs import gather_inputs
from evodiff.pipeline.preference import parse_preference
from evodiff.pipeline.rival_tasks import train_from_scratch
from evodiff.pipeline.run import Run
from evodiff.pipeline.trial import load_network
from evodiff.reporting.progress import ProgressDisplay
from evodiff.settings import Settings, TrainingSettings
from evodiff.workers import Task, WorkerPool

STOCK, NARROWED, CHAMPION = "stock U-Net", "narrowed by hand", "champion"
TARGET_RATIO, TARGET_KID = 0.5, 0.005
ROUNDS, CALLS = 15, 10  # of the interleaved latencies
CLOCKS = {"wall": time.perf_counter_ns, "cpu": time.thread_time_ns}
PRELOAD = ["evodiff.pipeline.trial"]
FROZEN = ("minutes", "population", "trial_steps", "search_seed", "share", "choose", "clock", "steps", "samples")
SMOKE = "--datasets digits --minutes .1 --workers 1 --population 4 --trial-steps 5 --steps 20 --seeds 2 --samples 100"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", nargs="+", default=["digits", "photos:16"])
    parser.add_argument("--minutes", type=float, default=20.0, help="of search a dataset, without its preparation")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--population", type=int, default=16)
    parser.add_argument("--trial-steps", type=int, default=TrainingSettings().steps, help="training in the search")
    parser.add_argument("--search-seed", type=int, default=0)
    parser.add_argument(
        "--share", type=float, default=0.45, help="the champion's limits, of what is predicted for the stock net"
    )
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall", help="of the measured latency")
    parser.add_argument("--choose", choices=["fitness", "kid"], default="fitness", help="champion inside the limits")
    parser.add_argument("--steps", type=int, default=2000, help="training from scratch")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/quality"))
    parser.add_argument("--smoke", action="store_true", help=f"prove that it works: {SMOKE}")
    options = parser.parse_args()
    if options.smoke:
        options = parser.parse_args(
            [*SMOKE.split(), "--smoke", "--clock", options.clock, "--out", f"{options.out}-smoke"]
        )
    torch.set_num_threads(1)
    print(" ".join(f"{name}={value}" for name, value in vars(options).items()), flush=True)
    frozen = {name: getattr(options, name) for name in FROZEN}
    if stored(options.out / "options.json", frozen) != frozen:
        parser.error(f"{options.out} was made with other options: {stored(options.out / 'options.json')}.")
    store(options.out / "options.json", frozen)
    try:
        for dataset in options.datasets:
            compare(dataset, options)
    except KeyboardInterrupt:
        raise SystemExit("Stopped. Start again with the same options to go on.") from None


def compare(dataset, options):
    """Search, choose the three networks, train and judge them, and print what came of it for one dataset."""
    folder = options.out / dataset.replace(":", "-")
    settings = Settings(
        cache_dir=options.out / "cache",
        dataset=dataset,
        population=options.population,
        workers=options.workers,
        device="cpu",
        seed=options.search_seed,
        training=TrainingSettings(steps=options.trial_steps),
    )
    print(f"\n{dataset}: {settings!r}", flush=True)
    with (
        ProgressDisplay(Console(soft_wrap=True)) as display,
        WorkerPool(options.workers, device="cpu", preload=PRELOAD) as pool,
    ):
        run = open_run(folder / "run", settings, options.share, pool, display)
        seconds = search(run, pool, 60 * options.minutes, folder / "search.json", display)
        display.say(f"{run.ledger.closed} generations in {seconds / 60:.1f} minutes of search")
        networks = stored(folder / "networks.json") or choose_networks(run, options, display)  # workers are idle
        store(folder / "networks.json", networks)
        scores = train_and_judge(folder, run, networks, options, pool, display)
    print_result(dataset, networks, scores)


def open_run(path, settings, share, pool, display):
    """Open the search, or begin it: its champion is to be within a share of the stock net's predicted costs."""
    if (path / "experiment.json").exists():
        return Run.open(path)
    inputs = gather_inputs(settings, pool, display.stage)
    display.clear()
    shape = ImageShape(*inputs.dataset.shape)
    stock = resolve(zoo(shape)["ddpm_unet"], shape)
    batch = settings.evaluation.serving_batch
    latency = share * predict_ms(operations(stock, batch), inputs.calibration)
    prefer = f"latency_ms<={latency:.4f},memory_mb<={share * memory_mb(stock, batch):.4f}"
    return create_run(settings.model_copy(update={"prefer": prefer}), path, inputs)


def search(run, pool, budget, clock_file, display):
    """Evolve for ``budget`` seconds, those of earlier starts included; return the seconds that the search took.

    No generation is opened that, going by the one before, would end later. The clock is stored after every trial.
    """
    seconds = stored(clock_file, {})  # of each generation
    display.searching("Search")
    while True:
        generation = run.ledger.closed
        expected = seconds.get(str(generation - 1), 0.0)
        if sum(seconds.values()) + expected > budget and not run.ledger.started(generation):
            return sum(seconds.values())
        before, started = seconds.get(str(generation), 0.0), time.monotonic()

        def tick(generation=generation, before=before, started=started):
            seconds[str(generation)] = before + time.monotonic() - started
            store(clock_file, seconds)

        def ended(trial, evaluation, took, tick=tick):
            tick()
            display.trial_ended(trial, evaluation, took)

        watcher = Watcher(display.planned, display.selected, Listener(display.stage, ended))
        if not evolve_generation(run, pool, f"quality-g{generation:04d}", watcher):
            return sum(seconds.values())
        tick()


def choose_networks(run, options, display):
    """Return stock net, narrowed net and champion by role: genome, description, measured latency, costs.

    The champion is chosen as ``evodiff.pipeline.final.champion`` does, but from the whole front where none is inside.
    """
    limits = parse_preference(run.settings["prefer"], [objective.name for objective in run.objectives])
    front = [candidate for candidate in run.evolution().front() if candidate.evaluation.feasible]
    inside = [item for item in front if all(limit.holds(item.evaluation.objectives) for limit in limits)]
    display.say(f"{len(inside)} of {len(front)} candidates of the front are inside {run.settings['prefer']}")
    if options.choose == "fitness":
        best = max(inside or front, key=lambda item: (item.fitness_score or 0.0, item.id))
    else:
        best = min(inside or front, key=lambda item: item.evaluation.objectives["kid"])
    display.say(f"Champion {best.id[:8]}: {best.evaluation.objectives} in the search, fitness {best.fitness_score:.3f}")
    families = narrowed_families(run.shape)
    genomes = {CHAMPION: best.genome, STOCK: zoo(run.shape)["ddpm_unet"]}
    genomes |= {name: genome for family in families for name, genome in family.items()}
    latency = measure_interleaved(genomes, run.shape, run.evaluation.serving_batch, CLOCKS[options.clock], display)
    goal, tried = latency[CHAMPION]["median_ms"], []
    for family in families:
        tried += family
        if min(latency[name]["median_ms"] for name in tried) <= goal:
            break
    closest = min(tried, key=lambda name: abs(latency[name]["median_ms"] - goal))
    for name in tried:
        display.say(f"  {name}: {latency[name]['median_ms']:.3f} ms{' <- closest' if name == closest else ''}")
    chosen = {STOCK: ("ddpm_unet", STOCK), NARROWED: (closest, closest), CHAMPION: (best.id[:8], CHAMPION)}
    return {
        role: {
            "about": about,
            "genome": genomes[name].to_json(),
            "parameters": parameter_count(resolve(genomes[name], run.shape)),
            "memory_mb": memory_mb(resolve(genomes[name], run.shape), run.evaluation.serving_batch),
            **latency[name],
        }
        for role, (about, name) in chosen.items()
    }


def narrowed_families(shape):
    """Return what a hand would try, in order: the stock net at smaller widths, then with fewer and fewer blocks."""
    multipliers = level_multipliers(shape.size)
    one_a_stage = UNetPlan(
        multipliers=multipliers,
        attention_levels=frozenset({len(multipliers) - 1}),
        attention_settings={"heads": ATTENTION_HEADS},
        skips="stage",
    )
    no_attention = replace(one_a_stage, attention_levels=frozenset(), middle_attention=False)
    families = {
        "stock blocks": zoo(shape)["ddpm_unet"],
        "one block a stage": unet(one_a_stage),
        "one block a stage, no attention": unet(no_attention),
        "one level less, no attention": unet(replace(no_attention, multipliers=multipliers[:-1])),
    }
    stock_width = zoo(shape)["ddpm_unet"].parameters.width
    widths = sorted((width for width in GLOBALS["width"] if width <= stock_width), reverse=True)
    return [
        {
            f"{name}, width {width}": repair(replace(genome, parameters=GlobalParameters(width=width)), shape)
            for width in widths
            if name != "stock blocks" or width < stock_width
        }
        for name, genome in families.items()
    ]


def measure_interleaved(genomes, shape, batch, clock, display):
    """Return the latency of each network over rounds in which all take turns: median and quartiles of the rounds."""
    networks = {name: build_network(genome, shape, seed=0).eval() for name, genome in genomes.items()}
    rounds = {name: [] for name in networks}
    wall, cpu = time.perf_counter(), time.thread_time()
    for _ in range(ROUNDS):
        for name, network in networks.items():
            rounds[name].append(measure_latency_ms(network, shape, batch, repeats=CALLS, clock=clock).median_ms)
    core = (time.thread_time() - cpu) / (time.perf_counter() - wall)
    display.say(f"Timed {len(networks)} networks on {core:.0%} of a core{'' if core > 0.95 else ': OTHERS RAN TOO'}")
    quartiles = {name: statistics.quantiles(times, n=4) for name, times in rounds.items()}
    return {
        name: {"low_ms": low, "median_ms": median, "high_ms": high, "share_of_core": core}
        for name, (low, median, high) in quartiles.items()
    }


def train_and_judge(folder, run, networks, options, pool, display):
    """Return the scores by role, one a seed; those that are stored are not made again."""
    tasks, files = [], {}
    for seed in range(options.seeds):
        for role, network in networks.items():
            name = f"{role.replace(' ', '-')}.seed{seed}"
            files[role, seed] = folder / "scores" / f"{name}.json"
            payload = {"run": str(run.path.resolve()), "genome": network["genome"], "seed": seed}
            payload |= {"steps": options.steps, "samples": options.samples}
            payload |= {"weights": str((folder / "weights" / name).resolve())}
            predicted = run.predicted_seconds(ArchitectureGenome.from_json(network["genome"]), options.steps) + 60
            if stored(files[role, seed]) is None:
                tasks.append(Task(name, f"{Path(__file__).stem}:train_and_score", payload, predicted))
    display.say(f"{len(tasks)} of {len(files)} trainings of {options.steps} steps to do")
    for outcome in pool.run(tasks, on_progress=display.stage):
        display.finished(outcome.id)
        if outcome.value is None:
            raise SystemExit(f"{outcome.id}: {outcome.failure or 'interrupted'}. Start again to go on.")
        store(folder / "scores" / f"{outcome.id}.json", outcome.value)
        display.say(f"{outcome.id}: KID {outcome.value['kid']['value']:.4f} after {outcome.seconds:.0f} s")
    return {role: [stored(files[role, seed]) for seed in range(options.seeds)] for role in networks}


def train_and_score(payload, context):
    """Train a network from scratch in a worker, going on from a checkpoint, and judge it by test images."""
    run, weights = Run.open(payload["run"]), Path(payload["weights"])
    training = run.training.model_copy(update={"steps": payload["steps"]})
    train_from_scratch(
        weights,
        run,
        ArchitectureGenome.from_json(payload["genome"]),
        training,
        seed=payload["seed"],
        checkpoint=weights.with_name(f"{weights.name}.checkpoint.safetensors"),
        context=context,
    )
    weights.with_name(f"{weights.name}.checkpoint.safetensors").unlink(missing_ok=True)
    context.report({"stage": "score"})
    return validate(
        load_network(weights)[0],
        run.dataset(),
        run.feature_net("report"),
        training=training,
        evaluation=run.evaluation,
        seed=payload["seed"],
        samples=payload["samples"],
        device=context.device,
    ).to_json()


def print_result(dataset, networks, scores):
    """Print a row a network, then the two verdicts."""
    table = Table("network", "parameters", "latency, ms (quartiles)", "memory, MB", title=f"{dataset}, test images")
    for heading in ("KID of each seed", "mean ± standard error", "right class"):
        table.add_column(heading)
    kids = {role: [score["kid"]["value"] for score in rows] for role, rows in scores.items()}
    for role, network in networks.items():
        found = spread(kids[role])
        right = [score["label_accuracy"] for score in scores[role] if score["label_accuracy"] is not None]
        table.add_row(
            f"{role} ({network['about']})",
            f"{network['parameters']:,}",
            f"{network['median_ms']:.2f} ({network['low_ms']:.2f} to {network['high_ms']:.2f})",
            f"{network['memory_mb']:.2f}",
            " ".join(f"{kid:.4f}" for kid in kids[role]),
            f"{found.mean:.4f} ± {found.standard_error:.4f}",
            f"{statistics.mean(right):.1%}" if right else "-",
        )
    Console(width=160).print(table)
    floor = scores[CHAMPION][0]["kid_floor"]
    print(f"KID of real training images to the test images: {floor['value']:.4f} ± {floor['standard_error']:.4f}")
    ours, stock = networks[CHAMPION], networks[STOCK]
    for what in ("median_ms", "memory_mb"):
        ratio = ours[what] / stock[what]
        print(f"(a) {what} / stock: {ratio:.3f}, target {TARGET_RATIO}: {verdict(ratio <= TARGET_RATIO)}")
    versus = paired_difference(kids[CHAMPION], kids[STOCK])
    upper = paired_difference(kids[CHAMPION], kids[STOCK], level=0.9).high  # one-sided at 95 %
    print(f"(a) KID - stock: {versus.value:+.4f}, 95 % interval {versus.low:+.4f} to {versus.high:+.4f}")
    print(f"    one-sided upper 95 % bound {upper:+.4f}, target {TARGET_KID}: {verdict(upper <= TARGET_KID)}")
    versus = paired_difference(kids[CHAMPION], kids[NARROWED])
    found = "searching is better" if versus.high < 0 else "shrinking is better" if versus.low > 0 else "not told apart"
    print(f"(b) KID - narrowed: {versus.value:+.4f}, 95 % interval {versus.low:+.4f} to {versus.high:+.4f}: {found}")
    print(f"    at {networks[NARROWED]['median_ms'] / ours['median_ms']:.3f} times the champion's latency", flush=True)


def verdict(met):
    return "met" if met else "MISSED"


def stored(path, otherwise=None):
    return json.loads(path.read_text()) if path.exists() else otherwise


def store(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(content, sort_keys=True, indent=1) + "\n")
    temporary.replace(path)


if __name__ == "__main__":
    main()
