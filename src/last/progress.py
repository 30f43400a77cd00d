"""What a person sees while something long goes on, and how it is stopped."""

import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class Interrupted(Exception):
    """The user asked to stop; nothing is lost."""


class Reporter:
    """Answers on standard output; sentences and progress bars on standard error, so that the answers stay clean.

    Args:
        quiet: say nothing.
    """

    def __init__(self, quiet: bool = False):
        self.console = Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)

    def answer(self, result: RenderableType) -> None:
        """Print a line or a table that was asked for, on standard output."""
        console = Console(soft_wrap=True, highlight=False)
        if not console.is_terminal:
            console.width = 200  # in a file or a pipe, a table needs no folding
        console.print(result, markup=False)

    def say(self, sentence: str) -> None:
        """Print a line, above a running bar."""
        self.console.print(sentence, markup=False)

    @contextmanager
    def bar(self, what: str, total: int | None = None) -> Generator[Callable[..., None]]:
        """Show a bar with the time left.

        Yields:
            A function that takes the number done, and the total where that becomes known only then.
        """
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        shown = self.console.is_terminal  # elsewhere a bar leaves nothing but an empty line
        with Progress(*columns, console=self.console, transient=True, disable=not shown) as progress:
            task = progress.add_task(what, total=total)

            def advance(done: int, total: int | None = None) -> None:
                progress.update(task, completed=done)
                if total is not None:
                    progress.update(task, total=total)

            yield advance


@contextmanager
def stop_on_signal(reporter: Reporter, tell: Callable[[], object] = lambda: None) -> Generator[Callable[[], bool]]:
    """Turn the first Ctrl-C, or a request to terminate, into an answer that the loop asks for; the second is one.

    Args:
        reporter: says that it was heard.
        tell: called at the first, for who cannot ask.

    Yields:
        Whether to stop.
    """
    stopping = False

    def handle(number: int, frame: object) -> None:
        nonlocal stopping
        if stopping:
            raise KeyboardInterrupt
        stopping = True
        tell()
        reporter.say("stopping after this step; press Ctrl-C again to leave without saving")

    try:
        old = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # signals belong to the main thread; elsewhere nobody presses Ctrl-C
        old = {}
    try:
        yield lambda: stopping
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
