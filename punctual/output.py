"""How the commands print: tables, or one JSON value for machines (`--json`). Progress and notes go to stderr."""

import json
from collections.abc import Iterable
from textwrap import indent
from typing import Any, Self

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table


class Output:
    """Where a command prints. `is_json` is the option `--json`."""

    def __init__(self, is_json: bool):
        self.is_json = is_json
        self._console = Console(highlight=False, soft_wrap=True)

    @classmethod
    def of_context(cls) -> Self:
        """As the options before the command say."""
        return cls(is_json=bool(click.get_current_context().find_root().params.get("json")))

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

    def table(self, table: Table) -> None:
        """Print a table."""
        self._console.print(table)

    def progress(self, *, beside_output: bool = False) -> Progress:
        """A progress bar on stderr, shown only on a terminal; it disappears when it ends.

        beside_output: not if stdout is a terminal too, because the output appears there meanwhile.
        """
        console = Console(stderr=True)
        is_hidden = not console.is_terminal or (beside_output and self._console.is_terminal)
        columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
        return Progress(*columns, console=console, transient=True, disable=is_hidden)
