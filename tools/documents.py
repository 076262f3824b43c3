"""Tables in Markdown, as tools print them for documents."""

import re
from collections.abc import Iterable, Sequence


def markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown. Columns are aligned right if all their cells begin with a number."""
    columns = list(zip(heads, *rows, strict=True))
    rule = ["---:" if all(re.match(r"[-+]?\d", cell) for cell in cells) else "---" for _, *cells in columns]
    head, *body = zip(*columns, strict=True)
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *body))
