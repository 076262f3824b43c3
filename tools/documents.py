"""Tables in Markdown, as tools print them for documents."""

import re
from collections.abc import Iterable, Sequence

_NUMBER = re.compile(r"[-+]?[\d.]")


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


def _cell(value: object) -> str:
    return str(value).replace("|", r"\|").replace("\n", " ")


def _is_numeric(column: Sequence[str]) -> bool:
    return any(_NUMBER.match(cell) for cell in column) and all(
        cell in ("", "-") or _NUMBER.match(cell) for cell in column
    )
