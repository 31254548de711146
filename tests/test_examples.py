"""The examples run on motet and on plain Python alike, and what they print is true."""

import importlib
import subprocess
import sys
import sysconfig
import zlib
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
MECHANISMS = sorted(path.name for path in EXAMPLES.joinpath("mechanisms").glob("*.py"))
CODE_SEARCH = EXAMPLES / "code_search" / "main.py"
MANDELBROT = EXAMPLES / "mandelbrot" / "main.py"
STANDARD_LIBRARY = Path(sysconfig.get_path("stdlib"))

PLAIN = (sys.executable,)
MOTET = (sys.executable, "-m", "motet", "run")


def run(launcher: tuple[str, ...], program: Path, *arguments: str) -> str:
    """What the program prints; it must end with exit code 0 and print nothing to stderr."""
    finished = subprocess.run(
        [*launcher, str(program), *arguments], capture_output=True, text=True, timeout=300, check=False
    )
    assert (finished.returncode, finished.stderr) == (0, "")
    return finished.stdout


def search(launcher: tuple[str, ...], *arguments: str) -> tuple[dict[str, int], list[str]]:
    """The counts that the code search prints, and its hits, a line each, after the line that counts them."""
    pytest.importorskip("aiohttp", reason="examples/code_search/requirements.txt is not installed")
    output = run(launcher, CODE_SEARCH, "--no-progress", *arguments)
    summary, matches, hits = output.partition(" definitions match ")
    assert matches
    counts: dict[str, int] = {}
    for line in summary.splitlines():
        match line.split():
            case ["files" | "bytes" | "definitions" | "problems" as name, number]:
                counts[name] = int(number.replace(",", ""))
    return counts, [summary.splitlines()[-1] + matches, *hits.splitlines()[1:]]


def test_every_mechanism_is_there() -> None:
    assert MECHANISMS == [
        "asyncio_create_task.py",
        "asyncio_gather.py",
        "process_pool.py",
        "processes.py",
        "thread_pool.py",
        "threads.py",
    ]


@pytest.mark.parametrize("name", MECHANISMS)
def test_mechanism_prints_the_same_on_motet(name: str) -> None:
    program = EXAMPLES / "mechanisms" / name
    plain = run(PLAIN, program)
    assert len(plain.splitlines()) > 3
    assert run(MOTET, program) == plain


def test_philosophers_end_their_dinner() -> None:
    lines = run(PLAIN, EXAMPLES / "philosophers" / "main.py", "--seconds", "0.3").splitlines()
    assert lines[0] == "left first:"
    names = ["Aristotle", "Hypatia", "Plato", "Simone", "Zeno"]
    for number, name in enumerate(names):
        expected = f"  fork {number}: held by thread '{name}'; thread '{names[number - 1]}' waits"
        assert lines[number + 1] == expected
    assert lines[6:] == [
        "  dinner took too long",
        "  eaten: nobody; forks on the table: 5",
        "lower number first:",
        f"  eaten: {', '.join(names)}; forks on the table: 5",
    ]


def test_code_search_finds_the_same_on_motet() -> None:
    plain_counts, plain_hits = search(PLAIN, "--limit", "40", "argument")
    assert plain_counts["files"] == 40
    assert len(plain_hits) > 10
    assert search(MOTET, "--limit", "40", "argument") == (plain_counts, plain_hits)
    assert search(PLAIN, "--pool", "futures", "--limit", "40", "argument") == (plain_counts, plain_hits)


def test_code_search_names_the_file_and_line_of_each_hit() -> None:
    root = STANDARD_LIBRARY / "asyncio"
    counts, hits = search(PLAIN, "--root", str(root), "--word", "semaphore")
    files = [path for path in root.rglob("*.py") if "__pycache__" not in path.parts]
    assert counts["files"] == len(files)
    assert counts["bytes"] == sum(file.stat().st_size for file in files)
    checked = 0
    for hit in hits:
        match hit.split():
            case [_, place, "class" | "function" | "coroutine" as kind, name, *_]:
                path, _, number = place.rpartition(":")
                line = (root / path).read_text(encoding="utf-8").splitlines()[int(number) - 1]
                keyword = {"class": "class", "function": "def", "coroutine": "async def"}[kind]
                assert line.strip().startswith(f"{keyword} {name.rpartition('.')[2]}")
                checked += 1
    assert checked >= 2
    assert hits[1].split()[1:4] == [
        f"locks.py:{line_of(root / 'locks.py', 'class Semaphore')}",
        "class",
        "Semaphore",
    ]


def line_of(file: Path, start: str) -> int:
    lines = file.read_text(encoding="utf-8").splitlines()
    return next(number for number, line in enumerate(lines, 1) if line.startswith(start))


def test_code_search_counts_what_does_not_parse(tmp_path: Path) -> None:
    (tmp_path / "site-packages").mkdir()
    (tmp_path / "site-packages" / "skipped.py").write_text("def semaphore(): pass\n")
    (tmp_path / "odd #name%.py").write_text("def semaphore(): pass\n")
    (tmp_path / "broken.py").write_text("def semaphore(:\n")
    (tmp_path / "null.py").write_bytes(b"\0")
    counts, hits = search(PLAIN, "--root", str(tmp_path))
    assert counts == {"files": 3, "bytes": 39, "definitions": 2, "problems": 2}
    assert hits[0].startswith("1 ")
    assert "odd #name%.py:1" in hits[1]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--root", "no/such/folder"),
        ("--limit", "0"),
        ("--connections", "many"),
        ("one", "--word", "two"),
        ("--word", "?"),
    ],
)
def test_code_search_refuses_what_it_cannot_do(arguments: tuple[str, ...]) -> None:
    pytest.importorskip("aiohttp", reason="examples/code_search/requirements.txt is not installed")
    finished = subprocess.run(
        [*PLAIN, str(CODE_SEARCH), *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert finished.returncode == 2
    assert finished.stderr.splitlines()[-1].startswith("code_search: error: ")


def paint(folder: Path, *arguments: str) -> tuple[list[str], bytes]:
    """What the program prints about a small picture, and the picture's file."""
    file = folder / "picture.png"
    picture = ("--width", "60", "--height", "41", "--iterations", "80", "--output", str(file))
    output = run(PLAIN, MANDELBROT, *picture, "--no-progress", *arguments)
    return output.splitlines(), file.read_bytes()


def pixels(png: bytes) -> tuple[int, int, list[bytes]]:
    """Width, height and rows of a PNG file, each row filtered by differences from the left."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    chunks: dict[bytes, bytes] = {}
    place = 8
    while place < len(png):
        length = int.from_bytes(png[place : place + 4])
        name, data = png[place + 4 : place + 8], png[place + 8 : place + 8 + length]
        assert int.from_bytes(png[place + 8 + length : place + 12 + length]) == zlib.crc32(name + data)
        chunks[name] = data
        place += 12 + length
    width, height = int.from_bytes(chunks[b"IHDR"][:4]), int.from_bytes(chunks[b"IHDR"][4:8])
    raw, rows = zlib.decompress(chunks[b"IDAT"]), []
    for start in range(0, len(raw), 1 + 3 * width):
        assert raw[start] == 1
        row = bytearray(raw[start + 1 : start + 1 + 3 * width])
        for byte in range(3, len(row)):
            row[byte] = (row[byte] + row[byte - 3]) % 256
        rows.append(bytes(row))
    return width, height, rows


def test_mandelbrot_paints_what_one_thread_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numpy = pytest.importorskip("numpy")
    whole = ("--centre=-0.75+0j", "--span", "3")
    printed, file = paint(tmp_path, "--workers", "2", "--compare", *whole)
    assert printed[0].startswith("60 x 41 pixels, ")
    assert printed[-1].startswith("without workers ")
    width, height, rows = pixels(file)
    assert (width, height, len(rows)) == (60, 41, 41)

    monkeypatch.syspath_prepend(str(MANDELBROT.parent))
    painting: Any = importlib.import_module("paint")
    alone = numpy.empty((41, 60, 3), numpy.uint8)
    painting.paint(alone, 0, painting.Region(-0.75 + 0j, 3.0, 60, 41, 80))
    assert rows == [row.tobytes() for row in alone]
    # Black where points stay: the middle does, the corners do not.
    assert rows[20][3 * 30 : 3 * 31] == b"\0\0\0"
    assert rows[0][:3] != b"\0\0\0"
    # The set has the real axis in its middle.
    assert rows == rows[::-1]


def test_mandelbrot_shows_its_progress(tmp_path: Path) -> None:
    pytest.importorskip("numpy")
    command = [
        *PLAIN,
        str(MANDELBROT),
        "--width",
        "20",
        "--height",
        "20",
        "--output",
        str(tmp_path / "p.png"),
    ]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    assert finished.stderr.startswith("motet.map: 5/5 (100%)")
