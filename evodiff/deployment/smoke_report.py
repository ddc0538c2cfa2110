"""What is known of a version once it has passed its smoke test."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from evodiff.deployment.generation import GenerationRequest
from evodiff.errors import EvodiffError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


# Of the sampler, as many as where a client asks for none: the online KID is held against the smoke test's.
SMOKE_STEPS: Final = GenerationRequest.steps


class SmokeTestFailure(EvodiffError, RuntimeError):  # noqa: N818 - reads as the fact it states
    """A version did not pass its smoke test, and takes no traffic."""


class LoadingFailed(EvodiffError, RuntimeError):  # noqa: N818 - reads as the fact it states
    """A version could not be fetched or loaded for a reason that is no fault of its own; later it may do."""


@dataclass(frozen=True)
class SmokeReport:
    """A version that may take traffic.

    ``version`` is RUN/ID, ``digest`` the SHA-256 of its safetensors file, ``experiment`` the identity of its run, None
    where that is not known. ``image_shape`` is (height, width, channels),
    ``classes`` 0 for none. ``peak_rss_bytes`` is the worker's after its largest batch, ``batch_seconds`` the median
    time of a whole batch. ``kid`` and its standard error are those of ``images`` images to the run's validation images,
    ``recorded_kid`` what the search measured; all None where the run's feature net or data are not at hand. ``seconds``
    is what it all took.
    """

    version: str
    digest: str
    image_shape: tuple[int, int, int]
    classes: int
    parameters: int
    images: int
    peak_rss_bytes: int
    batch_seconds: float
    seconds: float
    kid: float | None = None
    kid_standard_error: float | None = None
    recorded_kid: float | None = None
    experiment: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {**asdict(self), "image_shape": list(self.image_shape)}


@dataclass(frozen=True, eq=False)
class Gallery:
    """The images of a smoke test: uint8 (n, height, width, channels), of seeds 0, 1, ... and the classes in turn."""

    images: NDArray[np.uint8]
    classes: int

    def label(self, seed: int) -> int | None:
        """Return the label of the image of a seed, None without classes."""
        return seed % self.classes if self.classes else None
