"""The index: definitions, with a full-text index over their names and docstrings, in SQLite."""

import math
import re
import sqlite3
import sys
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from parse import ParsedFile

SCHEMA = """
CREATE TABLE file (
    id INTEGER PRIMARY KEY, path TEXT NOT NULL, module TEXT NOT NULL, importers INTEGER DEFAULT 0
);
CREATE TABLE import (file INTEGER NOT NULL REFERENCES file, module TEXT NOT NULL);
CREATE VIRTUAL TABLE definition USING fts5(
    whole, words, docstring, kind UNINDEXED, name UNINDEXED, file UNINDEXED, line UNINDEXED,
    tokenize = 'porter unicode61'
);
"""

# A module that many others import is likelier to be the one that is meant.
COUNT_IMPORTERS = """
UPDATE file SET importers = (
    SELECT count(DISTINCT import.file) FROM import
    WHERE import.module = file.module AND import.file != file.id
);
"""

# Definitions that bear the very name come first. bm25 is negative, the best match lowest; a word in a name
# outweighs one in the docstring.
SEARCH = """
SELECT file.path, definition.line, definition.kind, definition.name, definition.docstring
FROM definition JOIN file ON file.id = definition.file
WHERE definition MATCH ?
ORDER BY
    lower(definition.whole) != lower(?),
    bm25(definition, 8.0, 8.0, 1.0) * popularity(file.importers),
    file.path, definition.line, definition.name
"""

WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


@dataclass(frozen=True, slots=True)
class Hit:
    """One definition that matches, and where it stands."""

    path: str
    line: int
    kind: str
    name: str
    docstring: str


class Store:
    """The database. One thread at a time may use it."""

    def __init__(self, database: str) -> None:
        self.seconds = 0.0
        try:
            self._connection = sqlite3.connect(database, check_same_thread=False)
            self._connection.executescript(SCHEMA)
        except sqlite3.OperationalError as error:
            sys.exit(
                f"code_search: no index made in {database}: {error}; "
                "it takes a folder that can be written and an SQLite with FTS5"
            )
        self._connection.create_function("popularity", 1, lambda importers: 1 + math.log1p(importers))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._connection.close()

    def add(self, parsed: ParsedFile) -> None:
        """Store one file's definitions and imports."""
        started = time.thread_time()
        execute, execute_many = self._connection.execute, self._connection.executemany
        names = (parsed.path, parsed.module)
        file = execute("INSERT INTO file (path, module) VALUES (?, ?)", names).lastrowid
        execute_many("INSERT INTO import VALUES (?, ?)", [(file, module) for module in parsed.imports])
        execute_many(
            "INSERT INTO definition VALUES (?, ?, ?, ?, ?, ?, ?)",
            [(*name_words(d.name), d.docstring, d.kind, d.name, file, d.line) for d in parsed.definitions],
        )
        self.seconds += time.thread_time() - started

    def finish(self) -> None:
        """Count who imports whom, once all files are there, and commit."""
        started = time.thread_time()
        self._connection.execute("CREATE INDEX import_by_module ON import (module)")
        self._connection.execute(COUNT_IMPORTERS)
        self._connection.commit()
        self.seconds += time.thread_time() - started

    def search(self, words: str) -> list[Hit]:
        """Definitions that hold all of the words, the best first."""
        query = " ".join('"' + word.replace('"', '""') + '"' for word in words.split())
        return [Hit(*row) for row in self._connection.execute(SEARCH, (query, words))]


def name_words(name: str) -> tuple[str, str]:
    """The last part of a qualified name, whole and split: `BoundedSemaphore` is found as `semaphore` too."""
    own_name = name.rpartition(".")[2]
    return own_name, WORD_START.sub(" ", own_name)
