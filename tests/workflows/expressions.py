"""The expressions of a state machine: JSONata as Step Functions evaluates it."""

import math
import threading
from collections.abc import Callable
from functools import cache
from typing import Any

import jsonata


class QueryEvaluationError(Exception):
    """An expression has failed, or has no value: States.QueryEvaluationError."""


def evaluate(expression: str, variables: dict[str, Any], **functions: Callable) -> Any:
    """The value of an expression, with or without `{% %}`.

    Of the functions that Step Functions adds to JSONata, those are known that the definitions use. `functions` replaces
    functions by name, such as `millis`.
    """
    source = expression.removeprefix("{%").removesuffix("%}")
    try:
        evaluator = _compiled(source, threading.get_ident())
        for name, function in ({"range": _range} | functions).items():
            evaluator.register_lambda(name, function)
        value = evaluator.evaluate(None, variables)
    except Exception as error:  # The library raises errors of many kinds.
        raise QueryEvaluationError(str(error)) from error
    if value is None:
        raise QueryEvaluationError(f"the expression returned nothing (undefined): {source}")
    return value


def fill(template: Any, variables: dict[str, Any], **functions: Callable) -> Any:
    """A JSON value in which every expression is replaced by its value."""
    match template:
        case dict():
            return {name: fill(value, variables, **functions) for name, value in template.items()}
        case list():
            return [fill(value, variables, **functions) for value in template]
        case str() if template.startswith("{%") and template.endswith("%}"):
            return evaluate(template, variables, **functions)
    return template


def _range(first: float, last: float, step: float) -> list[int]:
    return [*range(math.floor(first), math.floor(last) + 1, math.floor(step))]


@cache
def _compiled(source: str, thread: int) -> jsonata.Jsonata:
    return jsonata.Jsonata.jsonata(source)
