"""The Mandelbrot set, painted by all processors into one array.

The picture is made by `motet.empty(..., shared=True)`. Each call of `paint` gets some rows of it and writes
there: no pixel travels.
"""

import argparse
import sys
import time
from functools import partial
from pathlib import Path

import motet
import numpy as np
import png
from numpy.typing import NDArray
from paint import Region, paint

# Rows for one call: few enough that all workers are busy to the end.
ROWS = 4


def whole_number(text: str) -> int:
    """An argument that counts something."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above zero")
    return int(text)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="mandelbrot", description="Paint the Mandelbrot set into a PNG file."
    )
    parser.add_argument("--width", type=whole_number, default=1200, metavar="PIXELS", help="default: 1200")
    parser.add_argument("--height", type=whole_number, default=800, metavar="PIXELS", help="default: 800")
    parser.add_argument(
        "--centre",
        type=complex,
        default=-0.7436447860 + 0.1318252536j,
        metavar="X+Yj",
        help="the point in the middle (default: -0.743644786+0.1318252536j; others as --centre=-1+0j)",
    )
    parser.add_argument("--span", type=float, default=4e-5, help="how wide a part is seen (default: 4e-5)")
    parser.add_argument(
        "--iterations",
        type=whole_number,
        default=1500,
        metavar="N",
        help="most steps of a point (default: 1500)",
    )
    parser.add_argument("--workers", type=whole_number, metavar="N", help="default: one for each processor")
    parser.add_argument("--output", type=Path, default=Path("mandelbrot.png"), metavar="FILE")
    parser.add_argument("--no-progress", action="store_true", help="show no progress")
    parser.add_argument("--compare", action="store_true", help="do it again without workers, and compare")
    return parser.parse_args()


def paint_with_workers(region: Region, workers: int | None, progress: bool) -> tuple[NDArray[np.uint8], int]:
    """The picture, and how many steps it took."""
    picture = motet.empty((region.height, region.width, 3), np.uint8, shared=True)
    tops = range(0, region.height, ROWS)
    parts = [picture[top : top + ROWS] for top in tops]
    call = partial(paint, region=region)
    steps = sum(motet.map(call, parts, tops, workers=workers, ordered=False, progress=progress))
    return picture, steps


def paint_alone(region: Region) -> NDArray[np.uint8]:
    """The picture, painted by this thread."""
    picture = np.empty((region.height, region.width, 3), np.uint8)
    for top in range(0, region.height, ROWS):
        paint(picture[top : top + ROWS], top, region)
    return picture


def main() -> None:
    arguments = parse_arguments()
    region = Region(arguments.centre, arguments.span, arguments.width, arguments.height, arguments.iterations)
    begin = time.perf_counter()
    picture, steps = paint_with_workers(region, arguments.workers, not arguments.no_progress)
    seconds = time.perf_counter() - begin
    png.write(arguments.output, picture)
    pixels = region.width * region.height
    print(f"{region.width} x {region.height} pixels, {steps:,} steps")
    print(f"{seconds:.2f} s, {pixels / seconds:,.0f} pixels a second")
    print(f"written to {arguments.output}")
    if arguments.compare:
        begin = time.perf_counter()
        alone = paint_alone(region)
        alone_seconds = time.perf_counter() - begin
        print(f"without workers {alone_seconds:.2f} s: {alone_seconds / seconds:.2f} times as long")
        if not np.array_equal(alone, picture):
            sys.exit("mandelbrot: the two pictures are not the same")


if __name__ == "__main__":
    main()
