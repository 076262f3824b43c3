"""What tools write into documents: tables in Markdown, the marked parts that hold them, and the machine they ran on.

A marked part is enclosed in two comments, which a reader of the rendered document does not see:

    <!-- goals: begin -->
    <!-- goals: end -->
"""

import os
import platform
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

_NUMBER = re.compile(r"[-+]?[\d.]")


class MarkerError(ValueError):
    """A document lacks the markers of a part, or has them more than once or in the wrong order."""


def markdown_table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table in Markdown. Columns after the first are aligned right if all their cells begin with a number or are
    empty or "-".

    Raises ValueError for a row that has more or fewer cells than there are heads.
    """
    head = [_cell(name) for name in heads]
    body = [[_cell(value) for value in row] for row in rows]
    for row in body:
        if len(row) != len(head):
            raise ValueError(f"A row has {len(row)} cells, but the table has {len(head)} columns: {row}")
    columns = list(zip(*body, strict=True)) or [()] * len(head)
    rule = ["---:" if number and _is_numeric(column) else "---" for number, column in enumerate(columns)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *body))


def replace_marked(document: Path, name: str, text: str) -> None:
    """Replace what the document has between `<!-- name: begin -->` and `<!-- name: end -->`.

    Raises MarkerError, with the document unchanged, unless it has each marker exactly once and in this order.
    """
    try:
        changed = with_marked(document.read_text(encoding="utf-8"), name, text)
    except MarkerError as error:
        raise MarkerError(f"{document}: {error}") from None
    document.write_text(changed, encoding="utf-8")


def with_marked(document: str, name: str, text: str) -> str:
    """The text of a document, with `text` in place of what it has between the markers of `name`.

    Raises MarkerError as replace_marked does.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    for marker in (begin, end):
        if (count := document.count(marker)) != 1:
            raise MarkerError(f"expected the marker {marker} once, found it {count} times")
    before, rest = document.split(begin)
    if end not in rest:
        raise MarkerError(f"{end} is before {begin}")
    after = rest.split(end)[1]
    return f"{before}{begin}\n\n{text.strip()}\n\n{end}{after}"


def this_machine() -> str:
    """The processors, system, and Python of this machine, to be named beside figures."""
    return f"{os.cpu_count()} cores ({platform.machine()}), {platform.system()}, Python {platform.python_version()}"


def _cell(value: object) -> str:
    return str(value).replace("|", r"\|").replace("\n", " ")


def _is_numeric(column: Sequence[str]) -> bool:
    return any(_NUMBER.match(cell) for cell in column) and all(
        cell in ("", "-") or _NUMBER.match(cell) for cell in column
    )
