"""Mutants of a JSON value: each key and item removed, and each scalar changed."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

type Path = tuple[str | int, ...]
type Change = tuple[str, Any]

# Stands for what is not there.
REMOVED = object()


@dataclass(frozen=True)
class Mutant:
    """One change: `id` says where and what, `group` which part of the subject it is in. `files` has the new text of
    each changed file, by its path in the repository."""

    id: str
    group: str
    files: dict[str, str]


class Mutator:
    """Finds the changes of a value. `changes_of(path, value)` gives those of one kind of subject, besides or instead of
    the general ones; `skip(path)` says what is left alone, with everything in it."""

    def __init__(
        self,
        changes_of: Callable[[Path, Any], Iterable[Change] | None],
        skip: Callable[[Path], bool],
        keep: Callable[[Path], bool],
    ):
        """`keep` says which keys are changed, but not removed."""
        self._changes_of, self._skip, self._keep = changes_of, skip, keep
        self._seen: set[int] = set()

    def changes(self, value: Any, path: Path = ()) -> Iterator[tuple[Path, str, Any]]:
        """Every change in `value`, which is at `path`: where, what it does in words, and the new value or REMOVED."""
        if self._skip(path) or (isinstance(value, dict | list) and id(value) in self._seen):
            return
        if isinstance(value, dict | list):  # An alias is changed once.
            self._seen.add(id(value))
        own = self._changes_of(path, value)
        for what, new in own if own is not None else general_changes(value):
            yield path, what, new
        if own is not None and not isinstance(value, dict | list):
            return
        items: Iterable[tuple[str | int, Any]] = ()
        if isinstance(value, dict):
            items = value.items()
        elif isinstance(value, list):
            items = enumerate(value)
        for key, item in items:
            inner = (*path, key)
            if not self._skip(inner) and not self._keep(inner):
                yield inner, "removed", REMOVED
            yield from self.changes(item, inner)


def general_changes(value: Any) -> Iterator[Change]:
    """The changes of a scalar, whatever it means."""
    match value:
        case bool():
            yield f"-> {str(not value).lower()}", not value
        case int():
            yield f"{value} -> {value + 1}", value + 1
            if value > 0:
                yield f"{value} -> {value - 1}", value - 1
        case str() if value.isdecimal():
            yield f"{value} -> {int(value) + 1}", str(int(value) + 1)
        case str():
            yield f"{shortened(value)} -> {shortened(value + 'X')}", value + "X"


def changed(root: Any, path: Path, new: Any) -> Any:
    """`root` with `new` at `path`, or without what is there. The original stays as it is.

    What YAML's aliases make several places share is changed in all of them, as a change of the file would.
    """
    if not path:
        return new
    parent = root
    for key in path[:-1]:
        parent = parent[key]
    own = parent.copy()
    if new is REMOVED:
        del own[path[-1]]
    else:
        own[path[-1]] = new
    return _replaced(root, parent, own)


def _replaced(value: Any, old: Any, new: Any) -> Any:
    """`value` with `new` wherever it has the object `old`."""
    if value is old:
        return new
    if isinstance(value, dict):
        return {key: _replaced(item, old, new) for key, item in value.items()}
    if isinstance(value, list):
        return [_replaced(item, old, new) for item in value]
    return value


def unlike(mutants: Iterable[Mutant]) -> Iterator[Mutant]:
    """The mutants without those that make the same change as an earlier one."""
    seen: set[tuple[tuple[str, str], ...]] = set()
    for mutant in mutants:
        files = tuple(mutant.files.items())
        if files not in seen:
            seen.add(files)
            yield mutant


def shortened(value: Any) -> str:
    """A value on a part of a line."""
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else f"{text[:28]}...{text[-28:]}"


def named(path: Path) -> str:
    """A path as text, such as `Resources.InputQueue.Properties.VisibilityTimeout`."""
    return ".".join(map(str, path))
