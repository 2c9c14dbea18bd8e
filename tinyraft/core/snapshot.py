"""What a snapshot stands for (dissertation 5.1, figure 5.3)."""

from __future__ import annotations

from dataclasses import dataclass

from tinyraft.core.configuration import Configuration
from tinyraft.core.entry import Index, Term


@dataclass(slots=True, frozen=True)
class Snapshot:
    """The state after the committed entry *index*, and the configuration in force there.

    Attributes:
        index: The last entry that it takes the place of.
        term: That entry's term.
        configuration: The last one at or below *index*, the removed ids with it.
        configuration_index: Where its entry stood.
        time_us: The time of the entry *index*; no later entry may have an earlier one.
        digest: Of the outcomes up to *index*, as the shell rolls it; None where it is unknown.
    """

    index: Index
    term: Term
    configuration: Configuration
    configuration_index: Index
    time_us: int = 0
    digest: int | None = None
