"""The seeded bugs: small patches of the source, each a mistake that a Raft can have.

Law: a patch is an exact text and what stands there instead, so a catalogue that no longer fits the
source can't pass unseen. The files beside this one are the catalogue, one for each part of Raft;
`absent.toml` names the mistakes that can't be made yet, and why.

    id          M and its number in the list of mistakes; a letter tells variants of one apart
    breaks      what goes wrong
    file        which file is patched
    old, new    the text that must stand there exactly once, and what replaces it
    caught_by   tests that must notice, as pytest names them; tried in this order
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from string import ascii_lowercase

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
ABSENT = "absent.toml"
MISTAKES = [f"M{number}" for number in range(1, 105)]


@dataclass(slots=True, frozen=True)
class Mutation:
    """One seeded bug."""

    id: str
    breaks: str
    file: str
    old: str
    new: str
    caught_by: tuple[str, ...]

    @property
    def mistake(self) -> str:
        """The id without a variant's letter."""
        return self.id.rstrip(ascii_lowercase)

    def occurrences(self, root: Path) -> int:
        """Count how often the old text stands in the file."""
        return (root / self.file).read_text().count(self.old)

    def patched(self, root: Path) -> str:
        """Return the file's text with the bug in it."""
        text = (root / self.file).read_text()
        assert text.count(self.old) == 1, f"{self.id}: the old text is not unique in {self.file}"
        return text.replace(self.old, self.new)


def load() -> list[Mutation]:
    """Read all mutations, in the order of their numbers."""
    return sorted(read_files(), key=lambda m: (int(m.mistake[1:]), m.id))


def read_files() -> Iterator[Mutation]:
    """Read the files of the catalogue."""
    for path in sorted(HERE.glob("*.toml")):
        if path.name != ABSENT:
            for table in tomllib.loads(path.read_text())["mutation"]:
                yield Mutation(**{**table, "caught_by": tuple(table["caught_by"])})


def absent() -> dict[str, str]:
    """Name the mistakes that can't be made yet, each with its reason."""
    return tomllib.loads((HERE / ABSENT).read_text())


def part_of(everything: list[Mutation], spec: str) -> list[Mutation]:
    """Take part I of N (``"2/5"``, counted from 1): every N-th, so that the parts are alike."""
    found = re.fullmatch(r"(\d+)/(\d+)", spec)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise ValueError(f"{spec!r} is no part; write I/N with 1 <= I <= N")
    return everything[int(found[1]) - 1 :: int(found[2])]
