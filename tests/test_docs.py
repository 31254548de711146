"""The documents tell the truth: their programs run and print what they say, their links lead somewhere.

In README.md and docs/:

- each `python` block is a program. It must end well; where a `text` block follows it at once, that is all it
  prints. With `title="name.py"` it lies under that name beside the document's other programs.
- each `$ motet …` line of a `console` block is run there. It must end well, and the lines that the document
  shows below it must be printed in this order, whatever the numbers in them.
"""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import motet
import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
WITH_LINKS = [*DOCUMENTS, *(ROOT / name for name in ("ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"))]

FENCE = re.compile(r"^```(?P<language>\w+)(?P<options>[^\n]*)\n(?P<body>.*?)^```$\s*", re.M | re.S)
TITLE = re.compile(r'title="([^"]+)"')
LINK = re.compile(r"\]\((?!\w+:)([^)#\s]*)(?:#([^)\s]+))?\)")
NUMBER = re.compile(r"\d[\d.,]*( (s|ms|µs|B|KiB|MiB|GiB)\b|%)?")


@dataclass
class Block:
    """One fenced block of a document; `end` is where the text goes on after it."""

    document: Path
    line: int
    language: str
    title: str
    body: str
    start: int
    end: int

    def __str__(self) -> str:
        return f"{self.document.relative_to(ROOT)}:{self.line}"


def blocks(document: Path) -> Iterator[Block]:
    text = document.read_text(encoding="utf-8")
    for match in FENCE.finditer(text):
        title = TITLE.search(match["options"])
        line = text.count("\n", 0, match.start()) + 1
        name = title[1] if title else ""
        yield Block(document, line, match["language"], name, match["body"], match.start(), match.end())


def programs() -> Iterator[tuple[Block, str | None]]:
    """Each program with what it prints, where the document says so."""
    for document in DOCUMENTS:
        found = list(blocks(document))
        prints = {block.start: block.body for block in found if block.language == "text"}
        for block in found:
            if block.language == "python":
                yield block, prints.get(block.end)


def commands() -> Iterator[tuple[Block, str, list[str]]]:
    """Each command of the documents with the lines that are shown below it."""
    for document in DOCUMENTS:
        for block in blocks(document):
            if block.language == "console":
                for part in re.split(r"^\$ ", block.body, flags=re.M)[1:]:
                    command, _, shown = part.partition("\n")
                    if command.startswith("motet "):
                        yield block, command, [line for line in shown.splitlines() if line.strip()]


def run(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


def save_titled(document: Path, folder: Path) -> None:
    for block in blocks(document):
        if block.title:
            (folder / block.title).write_text(block.body, encoding="utf-8")


PROGRAMS = list(programs())
COMMANDS = list(commands())


@pytest.mark.parametrize(("block", "printed"), PROGRAMS, ids=[str(block) for block, _ in PROGRAMS])
def test_program(block: Block, printed: str | None, tmp_path: Path) -> None:
    save_titled(block.document, tmp_path)
    program = tmp_path / (block.title or "program.py")
    program.write_text(block.body, encoding="utf-8")
    result = run([sys.executable, "-W", "error", program.name], tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    if printed is not None:
        assert result.stdout == printed


@pytest.mark.parametrize(("block", "command", "shown"), COMMANDS, ids=[str(case[0]) for case in COMMANDS])
def test_command(block: Block, command: str, shown: list[str], tmp_path: Path) -> None:
    save_titled(block.document, tmp_path)
    result = run([sys.executable, "-W", "error", "-m", *shlex.split(command)], tmp_path)
    assert result.returncode == 0, result.stderr
    printed = iter([without_numbers(line) for line in (result.stdout + result.stderr).splitlines()])
    for line in shown:
        # Reading on from the last line found: the order counts, lines in between do not.
        assert without_numbers(line) in printed, f"{line!r} is not in\n{result.stdout}{result.stderr}"


def without_numbers(line: str) -> str:
    return " ".join(NUMBER.sub("#", line).split())


def test_the_documents_have_programs_and_commands() -> None:
    shown = {block.document for block, _ in PROGRAMS}
    assert {ROOT / "README.md", ROOT / "docs/getting-started.md", ROOT / "docs/reference.md"} <= shown
    assert any(printed for _, printed in PROGRAMS)
    assert any(lines for _, _, lines in COMMANDS)


def test_without_numbers_keeps_the_words() -> None:
    assert without_numbers("lag p50    1.5 ms,  12% of 3 places") == "lag p# #, # of # places"
    assert without_numbers("loop 1   500.3 ms  greet") != without_numbers("loop 1   500.3 ms  other")


@pytest.mark.parametrize("document", WITH_LINKS, ids=[str(path.relative_to(ROOT)) for path in WITH_LINKS])
def test_links_lead_somewhere(document: Path) -> None:
    for path, anchor in LINK.findall(document.read_text(encoding="utf-8")):
        target = document.parent / path if path else document
        assert target.exists(), path
        if anchor:
            assert anchor in anchors(target), f"{path}#{anchor}"


def anchors(document: Path) -> set[str]:
    """The anchors of a document's headings, as its readers make them."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(encoding="utf-8"), flags=re.M)
    words = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {text.strip().replace(" ", "-") for text in words}


def test_reference_names_every_public_name() -> None:
    reference = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^#+ `motet\.(\w+)", reference, flags=re.M))
    assert named == set(motet.__all__)


def test_reference_names_every_counter() -> None:
    reference = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    loop = motet.new_event_loop()
    counters = loop.statistics()
    loop.close()
    assert set(counters) <= set(re.findall(r"^\| `(\w+)`", reference, flags=re.M))


def test_options_of_motet_run_are_documented() -> None:
    helped = run([sys.executable, "-m", "motet", "run", "--help"], ROOT).stdout
    options = set(re.findall(r"^  .*?(--[\w-]+)", helped, flags=re.M))
    documented = (ROOT / "docs" / "running-programs.md").read_text(encoding="utf-8")
    assert options == set(re.findall(r"^\| `.*?(--[\w-]+)", documented, flags=re.M))


MODULES = ["motet", *(module.name for module in pkgutil.iter_modules(motet.__path__, "motet."))]


def test_examples_in_docstrings() -> None:
    results = [doctest.testmod(importlib.import_module(name)) for name in MODULES if name != "motet.__main__"]
    assert sum(result.failed for result in results) == 0
    assert sum(result.attempted for result in results) > 0
