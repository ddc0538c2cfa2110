"""A candidate's trained network as a folder that diffusers loads, and images from such a folder."""

from __future__ import annotations

import hashlib
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from evodiff.architecture.genome import ImageShape
from evodiff.architecture.pipeline_folder import WEIGHTS, write_pipeline_folder
from evodiff.errors import CandidateNotFound, LedgerError, SettingsError
from evodiff.pipeline.final import named_candidate, trial_row
from evodiff.pipeline.heritage import inherits
from evodiff.pipeline.scratch import scratch_weights
from evodiff.training.digests import read_weights

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from evodiff.architecture.pipeline import EvolvedPipeline
    from evodiff.pipeline.run import Run

LARGEST_SEED = 2**63 - 1  # a torch generator takes twice that, which leaves room for the images after the first


def export_candidate(run: Run, candidate: str, folder: Path, *, stock: bool = False) -> int:
    """Write a candidate's longest trained network into the new ``folder``; return its training steps.

    Args:
        candidate: id, unique prefix, or ``champion``.
        stock: write a diffusers ``UNet2DModel``, which loads without evodiff.

    Raises:
        CandidateNotFound: there is no such candidate.
        LedgerError: it has no weights from scratch (any more), or ``folder`` is in use.
        InvalidGenome: ``stock`` is asked for and the genome is not one.
    """
    return export_weights(run, trained_folder(run, candidate), folder, stock=stock)


def export_weights(run: Run, source: Path, folder: Path, *, stock: bool = False) -> int:
    """Write the network whose weights are published in ``source``, as :func:`export_candidate` does; raises as it."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise LedgerError(f"{folder} is in use: expected a new or empty folder.", remedy="Give another --out.")
    prediction, noise_schedule = run.training.prediction, run.training.noise_schedule
    if stock:
        from evodiff.architecture.export import export_pipeline  # imports diffusers' pipelines, which takes seconds
        from evodiff.pipeline.trial import load_network

        network, config = load_network(source)
        export_pipeline(network, folder, prediction=prediction, noise_schedule=noise_schedule, stock=True)
        return int(config["steps"])
    from safetensors.numpy import load

    weights, config = read_weights(source)
    write_pipeline_folder(
        folder,
        load(weights),
        config["genome"],
        ImageShape(**config["image_shape"]),
        prediction=prediction,
        noise_schedule=noise_schedule,
    )
    return int(config["steps"])


def exported_digests(run: Run, candidate: str) -> set[str]:
    """Return the SHA-256 of the weights that an export of a candidate has, or had before it was trained for longer.

    None are there where its weights are gone.

    Raises:
        CandidateNotFound: there is no such candidate.
    """
    found = set()
    for place in _trained_places(run, named_candidate(run, candidate)):
        if (place / "config.json").exists():
            with TemporaryDirectory(prefix="evodiff-") as scratch:
                export_weights(run, place, Path(scratch) / "pipeline")
                with (Path(scratch) / "pipeline" / "unet" / WEIGHTS).open("rb") as stream:
                    found.add(hashlib.file_digest(stream, "sha256").hexdigest())
    return found


def trained_folder(run: Run, candidate: str) -> Path:
    """Return the folder of a candidate's weights: those of its long training, else of its trial or its retraining.

    All are from scratch; weights that were inherited are never given away.

    Raises:
        CandidateNotFound: there is no such candidate.
        LedgerError: it has none: they were pruned, or it inherited and was not trained from scratch.
    """
    identifier = named_candidate(run, candidate)
    places = _trained_places(run, identifier)
    for place in places:
        if (place / "config.json").exists():
            return place
    raise LedgerError(
        f"Expected weights of {identifier} from scratch in {places[0]} or {places[1]}, found none.",
        remedy=f"Train it again by: evodiff validate {run.path} {identifier} --steps {run.training.steps}",
    )


def _trained_places(run: Run, identifier: str) -> tuple[Path, Path]:
    row = trial_row(run, identifier)
    trained = scratch_weights(run, identifier) if inherits(row) else run.ledger.weights_folder(row)
    return run.path / "final" / identifier, trained


def sample_folder(
    folder: Path, count: int, *, seed: int = 0, steps: int = 20, guidance: float = 1.0
) -> NDArray[np.uint8]:
    """Generate images from an exported folder, as :func:`sample_pipeline` does.

    Raises:
        CandidateNotFound: the folder holds no exported pipeline.
        LedgerError: it is damaged.
        SettingsError: ``seed`` is none of 0 to ``LARGEST_SEED``.
    """
    return sample_pipeline(load_pipeline(folder), count, seed=seed, steps=steps, guidance=guidance)


def load_pipeline(folder: Path) -> EvolvedPipeline:
    """Return the pipeline of an exported folder, without a progress bar.

    Raises:
        CandidateNotFound: the folder holds no exported pipeline.
        LedgerError: it is damaged.
    """
    if not (folder / "model_index.json").is_file():
        raise CandidateNotFound(
            f"No pipeline in {folder}: expected a folder with model_index.json.",
            remedy="Write one by `evodiff export RUN champion --out DIR`.",
        )
    from evodiff.architecture.pipeline import EvolvedPipeline

    try:
        pipeline: EvolvedPipeline = EvolvedPipeline.from_pretrained(folder)
    except Exception as error:  # what diffusers raises depends on which of its files is damaged, and how
        raise LedgerError(
            f"{folder} is not a pipeline that evodiff can load: {type(error).__name__}: {str(error)[:300]}".rstrip(". ")
            + ".",
            remedy="Export it again by `evodiff export RUN champion --out DIR`.",
        ) from error
    pipeline.set_progress_bar_config(disable=True)  # type: ignore[no-untyped-call] # diffusers has no types
    return pipeline


def sample_pipeline(
    pipeline: EvolvedPipeline,
    count: int,
    *,
    label: int | None = None,
    seed: int = 0,
    steps: int = 20,
    guidance: float = 1.0,
) -> NDArray[np.uint8]:
    """Generate ``count`` images, uint8 (count, height, width, channels), of class ``label``, or classes in turn.

    Image i comes from a generator seeded with ``seed`` + i, so it does not depend on ``count``.

    Raises:
        SettingsError: ``seed`` is none of 0 to ``LARGEST_SEED``.
        ValueError: the network knows no such label.
    """
    import torch

    if not 0 <= seed <= LARGEST_SEED:
        raise SettingsError(f"seed: expected 0 to {LARGEST_SEED}, found {seed}.", remedy="Give a smaller --seed.")

    classes = pipeline.unet.config.get("classes", 0)  # a stock network has none
    labels = [i % classes if label is None else label for i in range(count)] if classes or label is not None else None
    (images,) = pipeline(
        None if labels else count,
        class_labels=labels,
        guidance_scale=guidance if labels else 1.0,
        generator=[torch.Generator().manual_seed(seed + i) for i in range(count)],
        num_inference_steps=steps,
        output_type="np",
        return_dict=False,
    )
    scaled: NDArray[np.uint8] = np.rint(np.asarray(images) * 255).astype(np.uint8)
    return scaled
