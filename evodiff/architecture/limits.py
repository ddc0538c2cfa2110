"""What a genome may grow to: the image shape it must serve, and caps on parameters and floating-point operations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from evodiff.architecture import cost
from evodiff.architecture.graph import ResolvedGenome, resolve
from evodiff.errors import InvalidGenome

if TYPE_CHECKING:
    from evodiff.architecture.genome import ArchitectureGenome, ImageShape


@dataclass(frozen=True)
class Limits:
    """Caps on one network for images of ``shape``; ``None`` means no cap.

    ``max_flops`` counts one forward pass of one image, a multiply-add as two operations.
    """

    shape: ImageShape
    max_parameters: int | None = None
    max_flops: float | None = None

    def excess(self, resolved: ResolvedGenome) -> float:
        """Return the larger of parameters and operations as a share of their caps: above 1 is over the cap."""
        shares = [0.0]
        if self.max_parameters is not None:
            shares.append(cost.parameter_count(resolved) / self.max_parameters)
        if self.max_flops is not None:
            shares.append(cost.flops(resolved) / self.max_flops)
        return max(shares)

    def admits(self, child: ArchitectureGenome, *parents: ArchitectureGenome) -> bool:
        """Return whether ``child``, which must resolve, is under the caps.

        A child of parents that are over the caps themselves (warm starts, tightened caps) need only be no larger
        than the largest of them, so that evolution can walk back under the caps.
        """
        size = self.excess(resolve(child, self.shape))
        return size <= 1 or any(size <= self.excess(resolve(parent, self.shape)) for parent in parents)

    def check(self, genome: ArchitectureGenome) -> None:
        """Check a genome that came from outside.

        Raises:
            InvalidGenome: it makes no network for ``shape``, or one over the caps.
        """
        resolved = resolve(genome, self.shape)
        if self.max_parameters is not None and cost.parameter_count(resolved) > self.max_parameters:
            raise InvalidGenome(
                "Too many parameters",
                where="genome",
                expected=f"at most {self.max_parameters:,}",
                found=f"{cost.parameter_count(resolved):,}",
                remedy="Lower parameters.width, remove layers, or raise max_parameters.",
            )
        if self.max_flops is not None and cost.flops(resolved) > self.max_flops:
            raise InvalidGenome(
                "Too many operations",
                where="genome",
                expected=f"at most {self.max_flops:.3g} floating-point operations an image",
                found=f"{cost.flops(resolved):.3g}",
                remedy="Lower parameters.width, raise parameters.patch, remove layers, or raise max_flops.",
            )
