"""The shipped state machines on a simulated clock: a day of retries takes seconds.

`Clock` runs processes, each of which yields the time at which it goes on (seconds since 1970). `Machine` turns a
definition into such a process. It knows the part of Amazon States Language that the definitions use, as AWS documents
it: `States.ALL` does not match States.DataLimitExceeded, a state's arguments and result may take 256 KiB, Wait takes
whole seconds, and Assign sees the variables as they were before.
"""

import itertools
import json
import math
import random
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from heapq import heappop, heappush
from typing import Any

import jsonata
from punctual_core.limits import MESSAGE_BYTES

# About as long as others measured it.
TRANSITION_SECONDS = 0.01
# Far more than an execution of either machine needs: one that goes in circles fails soon.
MAX_STATES = 2000
# AWS takes 256 KiB. Far less, because an input would be near that, and an overflow fails with an error of its own.
MAX_ASSIGNED_BYTES = 8 * 1024

# Of a state, its retriers, catchers and choices: a field that is not among these would be ignored here, and not by AWS.
FIELDS = {
    *("Type", "Comment", "Next", "End", "Default", "Output", "Assign", "Arguments", "Resource", "TimeoutSeconds"),
    *("Timestamp", "Seconds", "Items", "ItemProcessor", "Choices", "Condition", "Error", "Cause", "Retry", "Catch"),
    *("ErrorEquals", "IntervalSeconds", "BackoffRate", "MaxAttempts", "JitterStrategy"),
}

type Process[Outcome] = Generator[float, None, Outcome]


class Failed(Exception):
    """A task's attempt, or an execution, has failed: `after` so many seconds."""

    def __init__(self, error: str, cause: str = "simulated", after: float = 0):
        super().__init__(error)
        self.error, self.cause, self.after = error, cause, after


class QueryEvaluationError(Exception):
    """An expression has failed, or has no value: States.QueryEvaluationError."""


class Clock:
    """What time it is, and what runs."""

    def __init__(self, now: float):
        self.now = now
        self._processes: list[tuple[float, int, Process]] = []
        self._number = itertools.count()

    @property
    def now_ms(self) -> int:
        return int(1000 * self.now)

    def start(self, process: Process, at: float | None = None) -> None:
        """Run a process from that time on, or from now on."""
        heappush(self._processes, (self.now if at is None else at, next(self._number), process))

    def run(self, until: float, after_each_step: Callable[[], None] = lambda: None) -> None:
        """Run everything that is started, in the order of time."""
        while self._processes and self._processes[0][0] <= until:
            at, _, process = heappop(self._processes)
            self.now = max(self.now, at)
            with suppress(StopIteration):
                self.start(process, next(process))
            after_each_step()

    def side_by_side(self, processes: list[Process]) -> Process[list]:
        """The outcomes of processes that run at the same time."""
        outcomes: list[Any] = [None] * len(processes)
        ahead = [(self.now, number) for number in range(len(processes))]
        while ahead:
            at, number = heappop(ahead)
            if at > self.now:
                yield at
            try:
                heappush(ahead, (next(processes[number]), number))
            except StopIteration as end:
                outcomes[number] = end.value
        return outcomes


@dataclass
class Run:
    """An execution: its states so far, and how it ended."""

    name: str
    started_at: float
    path: list[str] = field(default_factory=list)
    # What each state of the path passed on.
    outputs: list[Any] = field(default_factory=list)
    attempts: list[str] = field(default_factory=list)
    status: str = "RUNNING"
    error: str | None = None
    cause: str | None = None
    output: Any = None
    ended_at: float | None = None

    @property
    def seconds(self) -> float:
        assert self.ended_at is not None
        return self.ended_at - self.started_at


class Machine:
    """A state machine. `call(state, arguments)` does what a task asks for, and returns its result and after how many
    seconds that comes; or it raises `Failed`. Without `chance`, retries wait as long as they may. A Wait for a time
    ends `early` by so many seconds."""

    def __init__(
        self,
        definition: str,
        clock: Clock,
        call: Callable[[str, Any], tuple[Any, float]],
        chance: random.Random | None = None,
        early: float = 0,
    ):
        self._definition, self._clock, self._call, self._chance = json.loads(definition), clock, call, chance
        self._early = early

    def execute(self, run: Run, input: Any) -> Process[None]:
        """An execution, which notes in `run` what it does."""
        context = {"Execution": {"Id": run.name, "Name": run.name, "Input": input}}
        assert self._definition["QueryLanguage"] == "JSONata"
        try:
            run.output = yield from self._run(self._definition, input, context, {}, run)
            run.status = "SUCCEEDED"
        except Failed as failure:
            run.status, run.error, run.cause = "FAILED", failure.error, failure.cause
        run.ended_at = self._clock.now

    def _run(self, machine: dict, input: Any, context: dict, outer: dict, run: Run) -> Process[Any]:
        # An inner machine, that of a Map, reads the variables of the outer one.
        variables = {**outer}
        name = machine["StartAt"]
        while name:
            state = machine["States"][name]
            for part in (state, *(rule for rules in ("Retry", "Catch", "Choices") for rule in state.get(rules, []))):
                assert part.keys() <= FIELDS
            run.path.append(name)
            assert len(run.path) <= MAX_STATES, f"{run.name} does not end"
            yield self._clock.now + TRANSITION_SECONDS
            scope = Scope(variables, {"input": input, "context": context}, self._clock)
            match state["Type"]:
                case "Wait":
                    yield self._wait(state, scope)
                    input, name = scope.leave(state)
                case "Choice":
                    chosen = next((rule for rule in state["Choices"] if scope.value(rule["Condition"]) is True), None)
                    input, name = scope.leave(chosen or state | {"Next": state["Default"]})
                case "Task":
                    task = self._attempts(name, state, scope, run)
                    input, name = yield from self._with_catch(state, scope, task)
                case "Map":
                    assert state["ItemProcessor"]["ProcessorConfig"] == {"Mode": "INLINE"}
                    items = [
                        self._run(state["ItemProcessor"], item, context, variables, run)
                        for item in scope.value(state["Items"])
                    ]
                    outcomes = yield from self._clock.side_by_side(items)
                    input, name = scope.leave(state, result=outcomes)
                case "Pass" | "Succeed":
                    input, name = scope.leave(state)
                case "Fail":
                    raise Failed(state["Error"], scope.value(state["Cause"]))
            run.outputs.append(input)
        return input

    def _wait(self, state: dict, scope: "Scope") -> float:
        if "Seconds" in state:
            seconds = scope.value(state["Seconds"])
            assert seconds == int(seconds) >= 0
            return self._clock.now + seconds
        ends_at = datetime.fromisoformat(scope.value(state["Timestamp"])).timestamp() // 1  # It takes whole seconds.
        return max(self._clock.now, ends_at - self._early)

    def _with_catch(self, state: dict, scope: "Scope", task: Process) -> Process[tuple[Any, str | None]]:
        try:
            return (yield from task)
        except Failed as failure:
            catcher = _matching(state.get("Catch", []), failure.error)
            if not catcher:
                raise
            return scope.leave(catcher, errorOutput={"Error": failure.error, "Cause": failure.cause})

    def _attempts(self, name: str, state: dict, scope: "Scope", run: Run) -> Process[tuple[Any, str | None]]:
        used: dict[int, int] = {}
        while True:
            try:
                return (yield from self._attempt(name, state, scope, run))
            except Failed as failure:
                yield self._clock.now + failure.after
                retrier = _matching(state.get("Retry", []), failure.error)
                count = used.get(id(retrier), 0)
                if not retrier or count >= retrier["MaxAttempts"]:
                    raise
                used[id(retrier)] = count + 1
                delay = retrier["IntervalSeconds"] * retrier.get("BackoffRate", 2) ** count
                if self._chance and retrier.get("JitterStrategy") == "FULL":
                    delay *= self._chance.random()
                yield self._clock.now + delay

    def _attempt(self, name: str, state: dict, scope: "Scope", run: Run) -> Process[tuple[Any, str | None]]:
        try:
            arguments = scope.value(state["Arguments"])
        except QueryEvaluationError as error:
            raise Failed("States.QueryEvaluationError", str(error)) from error
        if _size(arguments) > MESSAGE_BYTES:
            raise Failed("States.DataLimitExceeded")
        run.attempts.append(name)
        result, seconds = self._call(name, arguments)
        if seconds >= state["TimeoutSeconds"]:
            raise Failed("States.Timeout", after=state["TimeoutSeconds"])
        yield self._clock.now + seconds
        return scope.leave(state, result=result)


@dataclass
class Scope:
    """What a state's expressions see. It assigns to `variables`."""

    variables: dict[str, Any]
    states: dict[str, Any]
    clock: Clock

    def value(self, template: Any, **more: Any) -> Any:
        """A JSON value in which every expression is replaced by its value."""
        return self._filled(template, self.variables | {"states": self.states | more})

    def _filled(self, template: Any, variables: dict[str, Any]) -> Any:
        match template:
            case dict():
                return {name: self._filled(value, variables) for name, value in template.items()}
            case list():
                return [self._filled(value, variables) for value in template]
            case str() if template.startswith("{%") and template.endswith("%}"):
                return self._evaluated(template[2:-2], variables)
        return template

    def _evaluated(self, expression: str, variables: dict[str, Any]) -> Any:
        """Of the functions that Step Functions adds to JSONata, `range` is known, which the definitions use."""
        try:
            evaluator = _compiled(expression)
            evaluator.register_lambda("millis", lambda: self.clock.now_ms)
            value = evaluator.evaluate(None, variables)
        except Exception as error:  # The library raises errors of many kinds.
            raise QueryEvaluationError(str(error)) from error
        if value is None:
            raise QueryEvaluationError(f"the expression returned nothing (undefined): {expression}")
        return value

    def leave(self, part: dict, **more: Any) -> tuple[Any, str | None]:
        """Assign and output what a state, its rule or its catcher says. Returns output and next state."""
        assigned = self.value(part.get("Assign", {}), **more)
        output = self.value(part["Output"], **more) if "Output" in part else more.get("result", self.states["input"])
        assert _size(output) <= MESSAGE_BYTES
        assert _size(assigned) <= MAX_ASSIGNED_BYTES
        self.variables.update(assigned)
        return output, part.get("Next")


@cache
def _compiled(expression: str) -> jsonata.Jsonata:
    def range_of(first: float, last: float, step: float) -> list[int]:
        return [*range(math.floor(first), math.floor(last) + 1, math.floor(step))]

    evaluator = jsonata.Jsonata.jsonata(expression)
    evaluator.register_lambda("range", range_of)
    return evaluator


def _matching(rules: list[dict], error: str) -> dict | None:
    """The first retrier or catcher for an error."""
    for rule in rules:
        if error in rule["ErrorEquals"] or (
            rule["ErrorEquals"] == ["States.ALL"] and error != "States.DataLimitExceeded"
        ):
            return rule
    return None


def _size(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())
