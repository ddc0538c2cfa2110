"""Where things lie in an archive, and what they are called.

::

    dvc.yaml  generations.yaml  dvc.lock
    archive/datasets/DATASET/dataset.json            name, size and digest
    archive/datasets/DATASET/dataset.safetensors
    archive/feature_nets/NET/feature_net.json        variant, dataset and digest
    archive/feature_nets/NET/feature_net.safetensors
    archive/EXPERIMENT/experiment.json               what the run froze
    archive/EXPERIMENT/inputs/                       operator times, warm start
    archive/EXPERIMENT/g0003/inputs/                 what came from outside; recorded.json
    archive/EXPERIMENT/g0003/plan.jsonl
    archive/EXPERIMENT/g0003/evaluations/            evaluations.jsonl, result.json, history.json, weights/ID.r0/
    archive/EXPERIMENT/g0003/metrics.json

A dataset and a feature net are called by their name and the first digits of their digest.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evodiff.engine.encoding import digest as content_digest
from evodiff.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = "archive"
DATASETS = "datasets"
FEATURE_NETS = "feature_nets"
DATASET_FILE = "dataset.safetensors"
FEATURE_NET_FILE = "feature_net.safetensors"
RECORDED = "recorded.json"

# With these the names of stages have at most 122 letters: evaluations@EXPERIMENT-g0003, feature_net@DATASET-...
_LONGEST_EXPERIMENT = 104
_LONGEST_DATASET = 77

# The nets that a run rests on: their name among its digests, and what they are for.
NET_VARIANTS = {"feature_net": "search", "report_feature_net": "report"}


def experiment_key(run_name: str) -> str:
    """Return what an archive calls a run.

    Raises:
        SettingsError: the name is taken by something else in an archive.
    """
    key = _key(run_name, _LONGEST_EXPERIMENT)
    if key in (DATASETS, FEATURE_NETS):
        raise SettingsError(
            f"A run called {run_name!r} cannot be archived: the archive keeps its {key} there.",
            remedy="Rename the folder of the run.",
        )
    return key


def dataset_key(name: str, digest: str) -> str:
    """Return what an archive calls a version of a dataset; a folder is called by its last part."""
    kind, _, argument = name.partition(":")
    return f"{_key(Path(argument).name if kind == 'folder' else name, _LONGEST_DATASET)}-{digest[:12]}"


def feature_net_key(dataset: str, variant: str, digest: str) -> str:
    """Return what an archive calls a feature net of the dataset with this key."""
    return f"{dataset}-{variant}-{digest[:12]}"


def run_dataset_key(experiment: Mapping[str, Any]) -> str:
    """Return the key of the dataset that an ``experiment.json`` froze."""
    settings = experiment["settings"]
    return dataset_key(settings["dataset"]["name"], settings["digests"]["dataset"])


def run_feature_net_key(experiment: Mapping[str, Any], name: str = "feature_net") -> str:
    """Return the key of a feature net, by its name among the digests that an ``experiment.json`` froze."""
    digest = experiment["settings"]["digests"][name]
    return feature_net_key(run_dataset_key(experiment), NET_VARIANTS[name], digest)


def generation_key(experiment: str, generation: int) -> str:
    """Return what ``generations.yaml`` calls a generation."""
    return f"{experiment}-{generation_folder(generation)}"


def generation_folder(generation: int) -> str:
    """Return the folder of a generation below that of its experiment."""
    return f"g{generation:04d}"


def history_file(generation: int) -> str:
    """Return the file, below the experiment's folder, that stands for everything before a generation."""
    return "experiment.json" if generation == 0 else f"{generation_folder(generation - 1)}/evaluations/history.json"


def _key(name: str, most: int) -> str:
    """Return a name in the letters that DVC allows in the name of a stage, cut to ``most``; digits tell cut ones apart.

    YAML writes a longer name of a stage in another way, which would make ``dvc.lock`` something else to read.
    """
    key = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-") or "unnamed"
    return key if len(key) <= most else f"{key[: most - 13]}-{content_digest(name.encode())[:12]}"
