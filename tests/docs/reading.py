"""Documents as the tests read them: tables, blocks of code, and code within a line."""

import re
from dataclasses import dataclass

from tools.cloudformation import ROOT

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`]+)`")


class Cell(str):
    """One cell of a table: its Markdown."""

    @property
    def codes(self) -> list[str]:
        """The texts that are set as code."""
        return _CODE.findall(self)

    @property
    def code(self) -> str:
        """The first text that is set as code; the whole text if there is none."""
        return self.codes[0] if self.codes else self


class Table(list[dict[str, Cell]]):
    """A table's rows, each with its cells by column."""

    @property
    def names(self) -> set[str]:
        """What is set as code in the first column."""
        return {code for row in self for code in next(iter(row.values())).codes}


@dataclass(frozen=True)
class Document:
    """A Markdown file of the repository, or a section of it."""

    path: str
    text: str

    def __str__(self) -> str:
        return self.path

    @property
    def blocks(self) -> list[tuple[str, str]]:
        """The language and the text of each block of code."""
        return _BLOCK.findall(self.text)

    @property
    def inline_codes(self) -> list[str]:
        """Every text that is set as code within a line."""
        return _CODE.findall(_BLOCK.sub("", self.text))

    def section(self, heading: str) -> "Document":
        """What stands under a heading, up to the next heading of any level."""
        [found] = re.findall(rf"^#+ {heading}\n(.*?)(?=^#|\Z)", self.text, re.MULTILINE | re.DOTALL)
        return Document(self.path, found)

    def table(self, heading: str) -> Table:
        """The first table under that heading."""
        rows = re.search(r"(?:^\|.*\n)+", self.section(heading).text, re.MULTILINE)
        assert rows, f"{self} has no table under the heading '{heading}'."
        cells = [[Cell(cell.strip()) for cell in row.strip("|").split(" | ")] for row in rows[0].splitlines()]
        columns, _, *body = cells
        return Table(dict(zip(columns, row, strict=True)) for row in body)


def document(path: str) -> Document:
    """The document at that path in the repository."""
    return Document(path, (ROOT / path).read_text(encoding="utf-8"))


def documents() -> list[Document]:
    """Every document that people read, wherever it stands."""
    patterns = ("*.md", "docs/*.md", "examples/**/README.md", "tools/**/README.md")
    paths = [path for pattern in patterns for path in sorted(ROOT.glob(pattern))]
    return [document(str(path.relative_to(ROOT))) for path in paths]
