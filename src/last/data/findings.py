"""What a check finds, counted as it goes."""

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """One kind of fault.

    Attributes:
        severity: an ``error`` spoils training or loses clips, a ``warning`` may.
        message: what is wrong, in words.
        count: how many clips, files, classes or subjects it concerns.
        example: the first of them.
    """

    severity: Severity
    message: str
    count: int
    example: str

    def __str__(self) -> str:
        return f"{self.severity}: {self.message}: {self.count:,}, such as {self.example}"


class Findings:
    """Counts faults by kind and keeps the first example of each, so that memory does not grow with a set."""

    def __init__(self) -> None:
        self._found: dict[tuple[Severity, str], tuple[int, str]] = {}

    def add(self, severity: Severity, message: str, example: str, count: int = 1) -> None:
        """Count a fault of a kind, or several at once."""
        before, first = self._found.get((severity, message), (0, example))
        self._found[severity, message] = (before + count, first)

    def listed(self) -> list[Finding]:
        """All kinds, errors first."""
        found = [Finding(*kind, *counted) for kind, counted in self._found.items()]
        return sorted(found, key=lambda finding: finding.severity)
