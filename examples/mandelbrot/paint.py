"""The colours of a part of the Mandelbrot set. Runs in the workers."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Once a point is so far out (squared), the colour between two steps can be told.
FAR = 256.0
# Red, green and blue are the same wave, shifted.
SHIFTS = np.array([0.0, 0.55, 1.0])


@dataclass(frozen=True, slots=True)
class Region:
    """Which part of the plane is seen, in how many pixels; how many steps make a point count as inside."""

    centre: complex
    span: float
    width: int
    height: int
    iterations: int

    def points(self, top: int, rows: int) -> NDArray[np.complex128]:
        """The points of so many rows of pixels, from row `top` on."""
        step = self.span / self.width
        across = (np.arange(self.width) - (self.width - 1) / 2) * step
        down = (np.arange(top, top + rows) - (self.height - 1) / 2) * step
        return (self.centre + across[np.newaxis, :] - 1j * down[:, np.newaxis]).ravel()


def paint(part: NDArray[np.uint8], top: int, region: Region) -> int:
    """Paint some rows of the picture, the first of which is row `top`; returns the steps that it took."""
    points = region.points(top, len(part))
    escapes = np.zeros(len(points))
    where = np.arange(len(points))
    z = np.zeros_like(points)
    steps = 0
    for step in range(region.iterations):
        z = z * z + points
        steps += len(z)
        distance = z.real**2 + z.imag**2
        far = distance > FAR
        if far.any():
            escapes[where[far]] = step + 1 - np.log2(np.log(distance[far]) / 2)
            near = ~far
            z, points, where = z[near], points[near], where[near]
            if not len(z):
                break
    part[:] = colours(escapes).reshape(part.shape)
    return steps


def colours(escapes: NDArray[np.float64]) -> NDArray[Any]:
    """A colour for each time of escape; black for the points that stay."""
    waves = 0.5 - 0.5 * np.cos(2.2 * np.sqrt(escapes)[:, np.newaxis] / 3 + SHIFTS)
    waves[escapes == 0] = 0
    return (255 * waves).astype(np.uint8)
