"""The frozen feature net of a dataset: images to 64 standardised features, and to class probabilities.

``search`` nets judge candidates; the ``report`` net of a dataset has another architecture and another seed, and no
search ever sees it. How they are trained: :mod:`evodiff.evaluation.feature_training`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from evodiff.data.dataset import read_metadata
from evodiff.engine.storage import FolderStorage
from evodiff.errors import LedgerError, SettingsError
from evodiff.evaluation.feature_networks import FEATURES, VARIANTS, Variant, build_feature_network
from evodiff.evaluation.feature_training import Progress, in_chunks, train_network

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from evodiff.data.dataset import ImageDataset

FORMAT: Final = "evodiff-feature-net-1"

VERSION: Final = 2
"""Counts changes of architecture or training, so that a cache never hands out a net of another kind."""

_BOUND: Final = 4.0
_NETWORK, _CLASSIFIER = "network.", "classifier."


@dataclass(frozen=True, eq=False)
class FeatureNet:
    """A trained, frozen feature net.

    Attributes:
        variant: ``search`` or ``report``.
        shape: (channels, size, classes) of the images it knows; classes is 0 where it learned no labels.
        dataset: digest of the dataset it was trained on.
        accuracy: share of validation images of which it finds the label, None without labels.
        explained: share of the variance of the validation images' description that its features explain.
        digest: SHA-256 of its file.
        content: its file.
        path: where it was read from, None if nowhere.
    """

    variant: Variant
    shape: tuple[int, int, int]
    dataset: str
    accuracy: float | None
    explained: float
    digest: str
    content: bytes
    path: Path | None
    _network: nn.Module
    _classifier: nn.Linear | None
    _mean: NDArray[np.float64]
    _deviation: NDArray[np.float64]

    def __repr__(self) -> str:
        return f"FeatureNet({self.variant!r}, shape={self.shape}, accuracy={self.accuracy}, digest={self.digest[:16]})"

    def features(self, images: Tensor | NDArray[Any]) -> NDArray[np.float64]:
        """Turn (n, channels, size, size) images in [-1, 1] into (n, 64) features, on the CPU.

        Features are standardised by mean and deviation of the training images, then bounded softly, z to 4 tanh(z/4),
        so that no single wild image rules the cubic kernel of KID.

        Raises:
            ValueError: the images are of another shape.
        """
        raw = self._raw(images).double().numpy()
        bounded: NDArray[np.float64] = _BOUND * np.tanh((raw - self._mean) / self._deviation / _BOUND)
        return bounded

    def probabilities(self, images: Tensor | NDArray[Any]) -> NDArray[np.float64]:
        """Probability of each class for (n, channels, size, size) images in [-1, 1]: (n, classes).

        Raises:
            ValueError: the images are of another shape, or the net was trained without labels.
        """
        if self._classifier is None:
            raise ValueError("this feature net was trained without labels: it knows no classes")
        scores = in_chunks(self._classifier, self._raw(images))
        return np.asarray(scores.double().softmax(dim=1).numpy(), dtype=np.float64)

    def save(self, path: Path | str) -> bool:
        """Publish its file; return False, and leave the file alone, where one exists."""
        path = Path(path)
        return FolderStorage(path.parent).publish(path.name, self.content)

    @classmethod
    def load(cls, path: Path | str) -> FeatureNet:
        """Read a net from its file.

        Raises:
            LedgerError: the file is missing, damaged or of another format.
        """
        path = Path(path)
        try:
            return cls.from_bytes(path.read_bytes(), path=path)
        except (OSError, SafetensorError, ValueError, KeyError, RuntimeError) as error:
            raise LedgerError(
                f"Expected a feature net in {path}, but it cannot be read: {error}.",
                remedy="Restore the file from where the run was made; what else is stored is intact.",
            ) from error

    @classmethod
    def from_bytes(cls, content: bytes, *, path: Path | None = None) -> FeatureNet:
        """Build a net out of the content of its file.

        Raises:
            ValueError: it is of another format. Other errors of reading pass as they are.
        """
        tensors = load_tensors(content)
        about = read_metadata(content)
        if about.get("format") != FORMAT:
            raise ValueError(f"expected format {FORMAT!r}, found {about.get('format')!r}")
        channels, size, classes = about["shape"]
        with torch.random.fork_rng(devices=[]):  # the weights drawn here are overwritten: take no random number for it
            network = build_feature_network(about["variant"], channels, size)
            classifier = nn.Linear(FEATURES, classes) if classes else None
        network.load_state_dict(_below(tensors, _NETWORK))
        network.eval().requires_grad_(False)
        if classifier is not None:
            classifier.load_state_dict(_below(tensors, _CLASSIFIER))
            classifier.requires_grad_(False)
        return cls(
            variant=about["variant"],
            shape=(channels, size, classes),
            dataset=about["dataset"],
            accuracy=about["accuracy"],
            explained=about["explained"],
            digest=hashlib.sha256(content).hexdigest(),
            content=content,
            path=path,
            _network=network,
            _classifier=classifier,
            _mean=tensors["mean"].numpy(),
            _deviation=tensors["deviation"].numpy(),
        )

    def _raw(self, images: Tensor | NDArray[Any]) -> Tensor:
        batch = torch.as_tensor(images).detach().to("cpu", torch.float32)
        channels, size, _ = self.shape
        if batch.ndim != 4 or tuple(batch.shape[1:]) != (channels, size, size) or len(batch) == 0:
            raise ValueError(f"images: expected (n, {channels}, {size}, {size}), n > 0, found {tuple(batch.shape)}")
        return in_chunks(self._network, batch)


def train_feature_net(
    dataset: ImageDataset, *, variant: Variant, seed: int = 0, progress: Progress | None = None
) -> FeatureNet:
    """Train the feature net of a dataset on its training part: a few seconds at 8 pixels, some twenty at 32.

    Args:
        dataset: with labels of two classes or more it learns them; without, it learns to describe the images.
        variant: ``search`` or ``report``.
        seed: another seed gives another net; the two variants draw different numbers from one seed.
        progress: told (done, total) steps.

    Raises:
        SettingsError: unknown variant.
    """
    if variant not in VARIANTS:
        raise SettingsError(
            f"Unknown feature net: expected one of {list(VARIANTS)}, found {variant!r}.", remedy="Name one of these."
        )
    trained = train_network(dataset, variant=variant, seed=seed, progress=progress)
    tensors = {_NETWORK + name: value for name, value in trained.network.state_dict().items()}
    channels, size, classes = dataset.shape
    if trained.classifier is None:
        classes = 0
    else:
        tensors |= {_CLASSIFIER + name: value for name, value in trained.classifier.state_dict().items()}
    tensors |= {"mean": trained.mean, "deviation": trained.deviation}
    about = {
        "format": FORMAT,
        "version": VERSION,
        "variant": variant,
        "seed": seed,
        "shape": (channels, size, classes),
        "dataset": dataset.digest,
        "accuracy": trained.accuracy,
        "explained": trained.explained,
    }
    # One metadata key only: safetensors writes several in no fixed order.
    return FeatureNet.from_bytes(save_tensors(tensors, metadata={"evodiff": json.dumps(about, sort_keys=True)}))


def load_or_train(
    cache_dir: Path | str, dataset: ImageDataset, variant: Variant, progress: Progress | None = None
) -> FeatureNet:
    """Fetch the net of (dataset digest, variant, version) from ``cache_dir``, or train it and publish it there.

    Of several processes that train it at once the first to end wins, and all return its net. A damaged file is
    replaced.

    Raises:
        LedgerError: the cache cannot be written.
    """
    cache = FolderStorage(Path(cache_dir))
    name = f"feature_nets/{dataset.digest}.{variant}.{VERSION}.safetensors"
    path = Path(cache_dir) / name
    if path.exists():
        try:
            return FeatureNet.load(path)
        except LedgerError:
            cache.replace(name, train_feature_net(dataset, variant=variant, progress=progress).content)
            return FeatureNet.load(path)
    cache.publish(name, train_feature_net(dataset, variant=variant, progress=progress).content)
    return FeatureNet.load(path)


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
