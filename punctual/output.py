"""How the commands print: tables, or one JSON value for machines (`--json`). Progress and notes go to stderr."""

import json
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from textwrap import indent
from typing import Any, Self

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

# No row is wider, so that none is folded where the output does not go to a terminal.
PIPED_WIDTH = 1_000_000
IS_JSON = "punctual.json"


def plural(number: int, noun: str) -> str:
    """A number of things: 0 events, 1 event, 2,000 events."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


class Output:
    """Where a command prints. `is_json` is the option `--json`."""

    def __init__(self, is_json: bool):
        self.is_json = is_json
        self._is_piped = not (sys.stdout and sys.stdout.isatty())
        # What is printed is data: brackets and colons in it are neither styles nor emoji.
        width = PIPED_WIDTH if self._is_piped else None
        self._console = Console(highlight=False, markup=False, emoji=False, width=width)
        self.width = self._console.width

    @classmethod
    def of_context(cls) -> Self:
        """As the options say."""
        return cls(is_json=bool(click.get_current_context().meta.get(IS_JSON)))

    def json(self, value: Any) -> None:
        """Print a value as JSON."""
        click.echo(json.dumps(value, ensure_ascii=False, indent=2))

    def json_list(self, values: Iterable[Any]) -> None:
        """Print values as a JSON array, each as soon as it is there: all of them may be more than fits in memory."""
        begin = "[\n"
        for value in values:
            click.echo(begin + indent(json.dumps(value, ensure_ascii=False, indent=2), "  "), nl=False)
            begin = ",\n"
        click.echo("[]" if begin == "[\n" else "\n]")

    def line(self, text: str) -> None:
        """Print a line of the result."""
        click.echo(text)

    def note(self, text: str) -> None:
        """Print a line beside the result."""
        click.echo(text, err=True)

    def published(self, value: Any, text: str, *notes: str) -> None:
        """Print a result that took effect: if it cannot be printed (a closed pipe, a full disk), it is still done."""
        try:
            self.json(value) if self.is_json else self.line(text)
            for note in notes:
                self.note(note)
        except OSError as error:
            with suppress(OSError):
                self.note(f"punctual: done, but the result could not be printed ({error.strerror}): {text}")
            give_up_stdout()

    def table(self, table: Table) -> None:
        """Print a table: fitted to the terminal, or with a line for each row where the output goes elsewhere."""
        if not self._is_piped:
            self._console.print(table)
            return
        with self._console.capture() as capture:
            self._console.print(table)
        for line in capture.get().splitlines():
            click.echo(line.rstrip())

    def progress(self) -> Progress:
        """A progress bar on stderr, shown only on a terminal; it disappears when it ends."""
        console, columns = Console(stderr=True), (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def give_up_stdout() -> None:
    """Discard what is still to be printed, so that the interpreter does not fail at its exit."""
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
