"""Mutants of the definitions of the state machines: of every Retry, Catch, error name, timeout, transition, condition,
argument and expression.
"""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tools.mutants.mutations import Change, Mutant, Mutator, changed, named, shortened, unlike
from tools.mutants.mutations import Path as Place

FOLDER = "statemachines"
WORDING = {"Comment", "QueryLanguage", "ProcessorConfig"}
# Without these there is no state machine.
ESSENTIAL = {"Type", "Resource", "StartAt", "States", "ItemProcessor", "Choices", "Default", "Condition", "Next", "End"}
ESSENTIAL |= {"Arguments", "Items", "Seconds", "Timestamp"}

# In expressions, each with what somebody might have written instead.
OPERATORS = [
    (r" >= ", [" > ", " < "]),
    (r" > ", [" >= ", " < "]),
    (r" < ", [" <= ", " > "]),
    (r" != ", [" = "]),
    (r"(?<![!:<>]) = ", [" != "]),
    (r" and ", [" or "]),
    (r" \+ ", [" - "]),
    (r" - ", [" + "]),
    (r" \* ", [" / "]),
    (r" / ", [" * "]),
    (r" % ", [" / "]),
    (r"\$not\(", ["("]),
    (r"\$min\(", ["$max("]),
    (r"\$floor\(", ["$ceil("]),
    (r"\$exists\([^()]*\)", ["true", "false"]),
    (r"\$count\(", ["$sum("]),
    (r"\$substring\(", ["$substringBefore("]),
]
ERRORS = {"States.ALL": ["States.TaskFailed"]}


def mutants(root: Path) -> Iterator[Mutant]:
    """Every mutant of the definitions in a checkout."""
    yield from unlike(_mutants(root))


def _mutants(root: Path) -> Iterator[Mutant]:
    for file in sorted((root / FOLDER).glob("*.asl.json")):
        definition = json.loads(file.read_text(encoding="utf-8"))
        machine = file.name.split(".")[0]
        subject = _Subject(definition)
        mutator = Mutator(subject.changes_of, _is_skipped, _is_kept)
        for place, what, new in mutator.changes(definition):
            text = json.dumps(changed(definition, place, new), ensure_ascii=False, indent=2)
            yield Mutant(f"{machine}: {named(place)}: {what}", machine, {f"{FOLDER}/{file.name}": text})


class _Subject:
    """One definition, and what may be changed in it."""

    def __init__(self, definition: dict[str, Any]):
        self._definition = definition
        text = json.dumps(definition)
        self._placeholders = sorted({*re.findall(r"\$\{\w+\}", text)})

    def changes_of(self, place: Place, value: Any) -> Iterable[Change] | None:
        """The changes of a value; None for the general ones."""
        key = next((key for key in reversed(place) if isinstance(key, str)), "")
        match value:
            case list() if key in ("Retry", "Catch", "Choices") and len(value) > 1:
                return [
                    (f"{n} and {n + 1} swapped", [*value[:n], value[n + 1], value[n], *value[n + 2 :]])
                    for n in range(len(value) - 1)
                ]
            case dict() | list() | bool():
                return None
            case int() if key == "TimeoutSeconds":
                return [(f"{value} -> {new}", new) for new in dict.fromkeys((2 * value, 20 * value))]
            case str() if key in ("Next", "Default", "StartAt"):
                return [(f"-> {other}", other) for other in self._neighbors(place, value)]
            case str() if key == "ErrorEquals":
                return [(f"{value} -> {other}", other) for other in ERRORS.get(value, [value + "X"])]
            case str() if key in ("Type", "JitterStrategy"):
                return [(f"{value} -> NONE", "NONE")] if key == "JitterStrategy" else ()
            case str() if value.startswith("{%"):
                return _changes_of_expression(value)
            case str() if value in self._placeholders:
                others = [other for other in self._placeholders if other != value]
                return [(f"{value} -> {other}", other) for other in others[:1]]
        return None

    def _neighbors(self, place: Place, state: str) -> list[str]:
        """Up to two other states of the same machine."""
        machine = self._definition
        if "ItemProcessor" in place:
            for key in place[: place.index("ItemProcessor") + 1]:
                machine = machine[str(key)]
        names = list(machine["States"])
        where = names.index(state)
        around = [names[(where + 1) % len(names)], names[where - 1]]
        return [other for other in dict.fromkeys(around) if other != state]


def _changes_of_expression(expression: str) -> Iterator[Change]:
    """Each operator, number, name and text in an expression changed."""
    for pattern, replacements in OPERATORS:
        for found in re.finditer(pattern, expression):
            for new in replacements:
                yield f"{_seen(found)} -> {new.strip()}", _replaced(found, new)
    for found in re.finditer(r"(?<![\w.'])\d+(?![\w'])", expression):
        yield f"{_seen(found)} -> {int(found[0]) + 1}", _replaced(found, str(int(found[0]) + 1))
    for found in re.finditer(r"(?<=\.)[a-zA-Z_]\w*\b(?! *\()(?!\.)", expression):
        yield f"{_seen(found)} misspelled", _replaced(found, found[0] + "X")
    for found in re.finditer(r"'[^']*'", expression):
        yield f"{_seen(found)} changed", _replaced(found, f"'{found[0][1:-1]}X'")


def _seen(found: re.Match[str]) -> str:
    return f"{shortened(found[0].strip())} at {found.start()}"


def _replaced(found: re.Match[str], new: str) -> str:
    return found.string[: found.start()] + new + found.string[found.end() :]


def _is_skipped(place: Place) -> bool:
    return bool(place) and place[-1] in WORDING


def _is_kept(place: Place) -> bool:
    # A state's name is not an essential word, but a machine without the state is not small a change.
    return place[-1] in ESSENTIAL or (len(place) > 1 and place[-2] == "States")
