"""JSON, read and written so that nothing of a message is changed on its way into a report. Pure."""

import math
from collections import Counter
from collections.abc import Iterator
from json import JSONDecoder, dumps
from typing import Any

from .limits import NOT_IN_SQS

# Deeper than any event needs to be, and far from the depth at which Python's JSON reader or writer gives up: at some
# depths a message can be read and not written, so that it could neither be scheduled nor reported.
MAX_NESTING = 100


class Number(float):
    """A number with a fraction or an exponent, which is written with the digits with which it was read."""

    def __new__(cls, text: str) -> "Number":
        number = super().__new__(cls, text)
        if not math.isfinite(number):  # Such as 1e999, which Python would write as something that is not JSON.
            raise TooLarge(text[:32])
        number.text = text
        return number

    text: str


class TooLarge(ValueError):
    """A number that is infinite in Python. The text is its beginning."""


def from_json(text: str) -> tuple[Any, list[str]]:
    """The value of a JSON text, and the names that an object in it, at any depth, has more than once: of such a name
    the last value counts. Raises `TooLarge`, another ValueError if the text is not JSON, or RecursionError."""
    repeated: list[str] = []

    def as_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) < len(pairs):
            repeated.extend(name for name, times in Counter(name for name, _ in pairs).items() if times > 1)
        return value

    decoder = JSONDecoder(object_pairs_hook=as_object, parse_float=Number, parse_constant=_refuse_constant)
    return decoder.decode(text), repeated


def as_json(value: Any) -> str:
    """Compact JSON that SQS and SNS accept, whatever the value: characters that SQS refuses are escaped.

    Everything else stays UTF-8, which is how AWS counts sizes: escaping all that is not ASCII would double the size of
    many texts, and an event that could be scheduled could be too large for its report.
    """
    return NOT_IN_SQS.sub(lambda match: f"\\u{ord(match[0]):04x}", _written(value))


def nesting(value: Any) -> int:
    """How many levels of objects and arrays a JSON value has. Not recursive, so any depth can be counted."""
    depth, level = 0, [value]
    while level := [item for item in level if isinstance(item, dict | list)]:
        depth += 1
        level = [inner for item in level for inner in (item.values() if isinstance(item, dict) else item)]
    return depth


def texts_in(value: Any) -> Iterator[str]:
    """Every string in a JSON value, names included."""
    match value:
        case str():
            yield value
        case dict():
            for name, inner in value.items():
                yield name
                yield from texts_in(inner)
        case list():
            for inner in value:
                yield from texts_in(inner)


def _written(value: Any) -> str:
    # json.dumps writes a float by its value, whatever its class.
    match value:
        case Number():
            return value.text
        case dict():
            return "{" + ",".join(f"{_written(name)}:{_written(inner)}" for name, inner in value.items()) + "}"
        case list():
            return "[" + ",".join(map(_written, value)) + "]"
    return dumps(value, ensure_ascii=False)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
