"""Documents as the tests read them: headings, links, tables, code, and words.

Parsed as GitHub does it, with markdown-it: CommonMark and tables.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from tools.cloudformation import ROOT

# The parts that tools write (tools/documents.py).
GENERATED = re.compile(r"<!-- (?P<name>.+?): begin -->.*?<!-- (?P=name): end -->", re.DOTALL)
_PARSER = MarkdownIt("commonmark").enable("table")
_HTML_TARGET = re.compile(r'\b(?:href|src)="([^"]+)"')
_HTML_ANCHOR = re.compile(r'\b(?:id|name)="([^"]+)"')


@dataclass(frozen=True)
class Cell:
    """One cell of a table: its Markdown, and the texts that are set as code in it."""

    text: str
    codes: tuple[str, ...]

    @property
    def code(self) -> str:
        """The first text that is set as code; the whole text if there is none."""
        return self.codes[0] if self.codes else self.text


@dataclass(frozen=True)
class Table:
    """A table: the heading that it stands under, and its rows by column."""

    heading: str
    columns: tuple[str, ...]
    rows: tuple[dict[str, Cell], ...]

    def __str__(self) -> str:
        return f"table ({', '.join(self.columns)}) under '{self.heading}'"


@dataclass(frozen=True)
class CodeBlock:
    """A block of code: the heading that it stands under, its language, its text, and the number of its first line."""

    heading: str
    language: str
    text: str
    line: int


@dataclass(frozen=True)
class Document:
    """A Markdown file of the repository."""

    path: Path

    def __str__(self) -> str:
        return str(self.path.relative_to(ROOT))

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def _tokens(self) -> list[Token]:
        return _PARSER.parse(self.text)

    @cached_property
    def headings(self) -> list[str]:
        """The text of each heading, without its markup."""
        return [
            _plain(content)
            for opening, content in zip(self._tokens, self._tokens[1:], strict=False)
            if opening.type == "heading_open"
        ]

    @cached_property
    def anchors(self) -> set[str]:
        """What a link may name after `#`: GitHub's names of the headings, and anchors written in HTML."""
        found: set[str] = set()
        for heading in self.headings:
            slug = name = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
            number = 0
            while name in found:
                number += 1
                name = f"{slug}-{number}"
            found.add(name)
        return found | {name for token in self._html for name in _HTML_ANCHOR.findall(token.content)}

    @cached_property
    def links(self) -> list[str]:
        """The target of each link and image."""
        inline = [child for token in self._tokens for child in token.children or []]
        links = [str(token.attrs["href"]) for token in inline if token.type == "link_open"]
        images = [str(token.attrs["src"]) for token in inline if token.type == "image"]
        return links + images + [target for token in self._html for target in _HTML_TARGET.findall(token.content)]

    @cached_property
    def tables(self) -> list[Table]:
        return list(_tables(self._tokens))

    @cached_property
    def code_blocks(self) -> list[CodeBlock]:
        blocks, heading = [], ""
        for token, following in zip(self._tokens, [*self._tokens[1:], None], strict=True):
            if token.type == "heading_open" and following:
                heading = _plain(following)
            if token.type in ("fence", "code_block"):
                first_line = token.map[0] + 1 if token.map else 0
                blocks.append(CodeBlock(heading, token.info.split(" ")[0], token.content, first_line))
        return blocks

    @cached_property
    def inline_codes(self) -> list[str]:
        """Every text that is set as code within a line."""
        return [
            child.content for token in self._tokens for child in token.children or [] if child.type == "code_inline"
        ]

    def table(self, heading: str, first_column: str) -> Table:
        """The table under that heading whose first column has that name."""
        found = [table for table in self.tables if table.heading == heading and table.columns[0] == first_column]
        assert len(found) == 1, (
            f"{self} needs exactly one table under the heading '{heading}' whose first column is '{first_column}', and "
            f"has {len(found)}. If it was renamed on purpose, rename it in tests/docs as well."
        )
        return found[0]

    def blocks(self, heading: str, language: str) -> list[str]:
        """The texts of the code blocks under that heading in that language."""
        return [block.text for block in self.code_blocks if (block.heading, block.language) == (heading, language)]

    def words(self, *, with_tables: bool) -> int:
        """The number of words in headings, paragraphs, and lists, and in tables if asked for.

        A word is a text between spaces with a letter or digit in it; code within a line counts, the target of a link
        does not. Not counted: code blocks, HTML, pictures, and what tools write between `begin` and `end` comments.
        """
        count, in_table = 0, False
        for token in _PARSER.parse(GENERATED.sub("", self.text)):
            in_table = token.type == "table_open" or (in_table and token.type != "table_close")
            if token.type == "inline" and (with_tables or not in_table):
                count += sum(any(map(str.isalnum, word)) for word in _plain(token).split())
        return count

    @cached_property
    def _html(self) -> list[Token]:
        inline = [child for token in self._tokens for child in token.children or []]
        return [token for token in [*self._tokens, *inline] if token.type in ("html_block", "html_inline")]


def documents() -> list[Document]:
    """Every document that people read, wherever it stands."""
    patterns = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "docs/*.md", "examples/README.md")
    patterns += ("tools/README.md", "tools/*/README.md")
    return [Document(path) for pattern in patterns for path in sorted(ROOT.glob(pattern))]


def document(path: str) -> Document:
    """The document at that path in the repository."""
    return Document(ROOT / path)


def _plain(token: Token) -> str:
    """The text of an inline token, as a reader sees it."""
    shown = {"text": lambda child: child.content, "code_inline": lambda child: child.content}
    breaks = {"softbreak": " ", "hardbreak": " "}
    return "".join(
        shown[child.type](child) if child.type in shown else breaks.get(child.type, "")
        for child in token.children or []
    )


def _tables(tokens: list[Token]) -> Iterator[Table]:
    heading, rows, row = "", [], []
    for token, following in zip(tokens, [*tokens[1:], None], strict=True):
        match token.type:
            case "heading_open" if following:
                heading = _plain(following)
            case "table_open":
                rows = []
            case "tr_open":
                row = []
            case "th_open" | "td_open" if following:
                codes = [child.content for child in following.children or [] if child.type == "code_inline"]
                row.append(Cell(following.content, tuple(codes)))
            case "tr_close":
                rows.append(row)
            case "table_close":
                columns = tuple(cell.text.replace("`", "") for cell in rows[0])
                body = tuple(dict(zip(columns, cells, strict=False)) for cells in rows[1:])
                yield Table(heading, columns, body)
