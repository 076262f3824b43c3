"""What tools print for documents: tables in Markdown, and where and when something was measured."""

import os
import platform
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime


def markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown. Columns are aligned right if all their cells begin with a number."""
    columns = list(zip(heads, *rows, strict=True))
    rule = ["---:" if all(re.match(r"[-+]?\d", cell) for cell in cells) else "---" for _, *cells in columns]
    head, *body = zip(*columns, strict=True)
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *body))


def conditions() -> str:
    """The date and this machine, as a figure has to state them."""
    machine = f"{os.cpu_count()} cores ({platform.machine()}), {platform.system()}, Python {platform.python_version()}"
    return f"{datetime.now(UTC):%Y-%m-%d}, {machine}"
