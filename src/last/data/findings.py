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
        others: the next examples, where each is another fault.
    """

    severity: Severity
    message: str
    count: int
    example: str
    others: tuple[str, ...] = ()

    def __str__(self) -> str:
        kind = f"{self.severity}: {self.message}: {self.count:,}"
        if not self.others:
            return f"{kind}, such as {self.example}"
        shown = (self.example, *self.others)
        more = self.count - len(shown)
        return "\n  ".join([kind, *shown, *([f"and {more:,} more"] if more else [])])


class Findings:
    """Counts faults by kind and keeps the first examples of each, so that memory does not grow with a set."""

    def __init__(self) -> None:
        self._found: dict[tuple[Severity, str], tuple[int, tuple[str, ...]]] = {}

    def add(self, severity: Severity, message: str, example: str, count: int = 1, keep: int = 1) -> None:
        """Count a fault of a kind, or several at once, and keep the example if there are fewer than so many."""
        before, examples = self._found.get((severity, message), (0, ()))
        self._found[severity, message] = (before + count, (*examples, example)[:keep])

    def listed(self) -> list[Finding]:
        """All kinds, errors first."""
        found = [Finding(*kind, count, examples[0], examples[1:]) for kind, (count, examples) in self._found.items()]
        return sorted(found, key=lambda finding: finding.severity)
