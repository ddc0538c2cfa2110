"""What a space knows of genomes without training, checked where it enters: features, their weights, costs.

:func:`evodiff.engine.testing.check_space` has the same rules for a space before anything is trained.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np

from evodiff.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from evodiff.engine.space import SearchSpace

    Floats = NDArray[np.float64]

G = TypeVar("G")

_REMEDY: Final = "Run evodiff.engine.testing.check_space on the space."


def features_of(space: SearchSpace[G], genomes: Sequence[G], length: int | None = None) -> Floats:
    """Return an (n, d) array of the features of n genomes, by ``space.features_many`` where there is such a method.

    ``length`` is how many features other genomes have; None where there are no others.

    Raises:
        SettingsError: a genome has other features than another, or one that is not finite.
    """
    many = getattr(space, "features_many", None)
    name = f"{space.name}.{'features' if many is None else 'features_many'}"
    found = many(genomes) if many is not None else [space.features(genome) for genome in genomes]
    return _as_array(name, found, (len(genomes), length))


def feature_weights(space: SearchSpace[G], length: int) -> Floats | None:
    """Return a (d,) array of how much each of ``length`` features counts, None where the space does not say.

    Raises:
        SettingsError: there are more or fewer, or one is not finite.
    """
    weigh = getattr(space, "feature_weights", None)
    return None if weigh is None else _as_array(f"{space.name}.feature_weights", weigh(), (length,))


def costs_of(space: SearchSpace[G], genome: G, names: Sequence[str]) -> Mapping[str, float]:
    """Return what is known of a genome without training; ``names`` are objectives that are known of others.

    Raises:
        SettingsError: one of them is not known of this genome.
    """
    costs = space.costs(genome)
    missing = [name for name in names if name not in costs]
    if missing:
        raise SettingsError(
            f"Expected {space.name}.costs to have {missing[0]!r} for every genome, as for others of this run, found"
            f" {sorted(costs) or 'nothing'} for {space.canonical(genome)[:100]}.",
            remedy=_REMEDY,
        )
    return costs


def _as_array(name: str, found: Any, shape: tuple[int | None, ...]) -> Floats:
    """Return what the method ``name`` of a space returned as an array of a shape, in which None is any length.

    Raises:
        SettingsError: it has another shape, or a number is not finite.
    """
    lengths = ", ".join("d" if n is None else str(n) for n in shape)
    expected = f"Expected {name} to return finite numbers of the shape ({lengths}{',' * (len(shape) == 1)})"
    try:
        array = np.asarray(found, dtype=np.float64)
    except (TypeError, ValueError) as error:  # such as rows of different lengths
        raise SettingsError(f"{expected}, found {_rows_of(found)}.", remedy=_REMEDY) from error
    if array.ndim != len(shape) or any(n not in (None, size) for n, size in zip(shape, array.shape, strict=True)):
        raise SettingsError(f"{expected}, found the shape {array.shape}.", remedy=_REMEDY)
    if not np.isfinite(array).all():
        row, *_ = np.argwhere(~np.isfinite(array))
        raise SettingsError(f"{expected}, found {array[tuple(row)]} at {tuple(row.tolist())}.", remedy=_REMEDY)
    return array


def _rows_of(found: Any) -> str:
    try:
        return f"rows of the shapes {sorted({np.shape(row) for row in found})}"
    except (TypeError, ValueError):
        return repr(found)[:100]
