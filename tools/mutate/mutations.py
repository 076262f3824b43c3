"""The mutants of a file: one small change each."""

import difflib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# mutmut and libcst are in requirements/mutants.txt, an environment without mypy; the one with mypy lacks them.
import libcst as cst  # type: ignore[import-not-found]
import libcst.matchers as m  # type: ignore[import-not-found]
from libcst.metadata import MetadataWrapper, ParentNodeProvider, PositionProvider  # type: ignore[import-not-found]
from mutmut.mutation.mutators import (  # type: ignore[import-not-found]
    mutation_operators,
    operator_arg_removal,
    operator_assignment,
    operator_string,
)

LOG_METHODS = {"debug", "info", "warning", "error", "exception"}
NOT_MUTATED_CALLS = {"len", "isinstance", "cast"}
OPPOSITES = {"max": "min", "min": "max", "any": "all", "all": "any"}


@dataclass(frozen=True)
class Mutant:
    """A changed file. `key` stays the same while neither the line nor the change does; `lines` are those of the
    statement that was changed, the first of which is 1."""

    key: str
    path: Path
    code: str
    before: str
    after: str
    lines: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.path}:{self.lines[0]}\n  - {self.before}\n  + {self.after}"


def mutants_of(root: Path, path: Path) -> list[Mutant]:
    """The mutants of the file at `path` below `root`, in the order of its lines."""
    source = (root / path).read_text()
    wrapper = MetadataWrapper(cst.parse_module(source))
    positions, parents = wrapper.resolve(PositionProvider), wrapper.resolve(ParentNodeProvider)
    found: dict[str, Mutant] = {}
    occurrences: dict[tuple[str, str], int] = {}
    for node in _mutated_nodes(wrapper.module):
        for changed in _changes(node):
            code = wrapper.module.deep_replace(node, changed).code
            if code == source or code in found or not _compiles(code):
                continue
            before, after = _difference(source, code)
            number = occurrences[before, after] = occurrences.get((before, after), -1) + 1
            key = hashlib.sha256(f"{path}\n{before}\n{after}\n{number}".encode()).hexdigest()[:16]
            statement = node
            while not isinstance(statement, cst.SimpleStatementLine | cst.BaseCompoundStatement):
                statement = parents[statement]
            spot = positions[statement]
            # Of a compound statement the header alone: a test that runs the body has run that.
            end = spot.end.line if isinstance(statement, cst.SimpleStatementLine) else spot.start.line
            found[code] = Mutant(key, path, code, before, after, tuple(range(spot.start.line, end + 1)))
    return sorted(found.values(), key=lambda mutant: mutant.lines)


def _mutated_nodes(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """Every node that may be changed: no types, decorators, docstrings, imports, or words of the log."""
    if isinstance(
        node, cst.Annotation | cst.Decorator | cst.Import | cst.ImportFrom | cst.TypeAlias | cst.TypeParameters
    ):
        return
    if m.matches(node, m.Expr(m.SimpleString() | m.ConcatenatedString())):
        return
    if isinstance(node, cst.Call):
        if isinstance(node.func, cst.Name) and node.func.value in NOT_MUTATED_CALLS:
            return
        if m.matches(node.func, m.Attribute(value=m.Name("logger"))) and node.func.attr.value in LOG_METHODS:
            return
    yield node
    for child in node.children:
        yield from _mutated_nodes(child)


def _changes(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    for type, operator in mutation_operators:
        if not isinstance(node, type):
            continue
        changes = list(operator(node))
        if operator is operator_string:  # Another case of the letters tells no more.
            changes = changes[:1]
        if (
            operator is operator_arg_removal
        ):  # An argument that is None, or one that is left out: one of them is enough.
            changes = changes[: len(node.args)] if _is_positional(node) else changes[-len(node.args) :]
        if operator is operator_assignment and m.matches(node.value, m.SimpleString() | m.BaseNumber()):
            continue  # The value is changed by itself.
        yield from changes
    yield from _own_changes(node)


def _is_positional(call: cst.Call) -> bool:
    return len(call.args) == 1 or not any(argument.keyword for argument in call.args)


def _own_changes(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """What mutmut lacks: one exception less, a statement less, a smaller number, the opposite function or condition."""
    match node:
        case cst.ExceptHandler(type=cst.Tuple(elements=elements)):
            for left_out in range(len(elements)):
                kept = [element for number, element in enumerate(elements) if number != left_out]
                yield node.with_deep_changes(node.type, elements=kept)
        case cst.SimpleStatementLine(body=[cst.Expr(value=cst.Call() | cst.Yield()) | cst.Raise()]):
            if not m.matches(node.body[0], m.Expr(m.Call(func=m.Attribute(value=m.Name("logger"))))):
                yield node.with_changes(body=[cst.Pass()])
        case cst.Integer() if node.evaluated_value > 0:
            yield node.with_changes(value=repr(node.evaluated_value - 1))
        case cst.Call(func=cst.Name(value=name)) if name in OPPOSITES:
            yield node.with_deep_changes(node.func, value=OPPOSITES[name])
        case cst.If() | cst.While():
            negated = cst.UnaryOperation(
                cst.Not(), node.test.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
            )
            yield node.with_changes(test=negated)
        case cst.Set(elements=elements) if len(elements) > 1:
            for left_out in range(len(elements)):
                yield node.with_changes(elements=[each for number, each in enumerate(elements) if number != left_out])


def _compiles(code: str) -> bool:
    try:
        compile(code, "mutant", "exec")
    except SyntaxError:
        return False
    return True


def _difference(before: str, after: str) -> tuple[str, str]:
    """The lines that differ, each side in one line."""
    removed, added = [], []
    for line in difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=0):
        if line.startswith("-") and not line.startswith("---"):
            removed.append(line[1:].strip())
        if line.startswith("+") and not line.startswith("+++"):
            added.append(line[1:].strip())
    return " ".join(removed), " ".join(added)
