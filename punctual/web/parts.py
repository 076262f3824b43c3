"""What the five parts of the page show, as data. Nothing here knows HTTP or HTML."""

import itertools
import re
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import click
from botocore.exceptions import BotoCoreError, ClientError

from ..executions import Execution
from ..moments import readable, shown
from ..output import plural
from ..parked import Parked, Selection, count_events, parked_events
from ..queues import Queue, ids_in, redrive, report_in, resend
from ..stack import NotConfigured, NotPunctual, Stack, sentence_of
from ..story import Story, ago
from .history import History, event_id, late_ms

# What AWS, its SDK, or the stack may answer instead of data.
PROBLEMS = (ClientError, BotoCoreError, NotPunctual, NotConfigured, click.ClickException)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
# Upper bounds of the bars of lateness, in milliseconds.
LATENESS = (10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 60_000, 3_600_000)
LATE_MS, OVERDUE = 1_000, timedelta(seconds=10)
WIDTHS = [timedelta(minutes=n) for n in (1, 5, 15, 60, 180, 720, 1440, 10080, 43200, 525600)]
BARS, ROWS, MESSAGES = 48, 20, 100
# One request resends or redrives for so long; the page says what is left.
QUEUE_SECONDS = 20
UNIQUE = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|\b\d[\d:.TZ-]{5,}")

type Level = Literal["good", "bad", "unknown", "plain"]


class SharedStack(Stack):
    """A stack for several threads: a session makes one client at a time, and each client is kept."""

    def __init__(self, stack: Stack):
        super().__init__(stack.name, stack.region, stack.profile)
        self._lock, self._clients, self._ids = threading.RLock(), dict[Any, Any](), dict[str, str]()

    def client(self, service: Any, **config: Any) -> Any:
        key = service, *config.items()
        with self._lock:
            if key not in self._clients:
                self._clients[key] = super().client(service, **({"max_pool_connections": 20} | config))
            return self._clients[key]

    def physical_id(self, logical_id: str) -> str:
        if logical_id not in self._ids:
            self._ids[logical_id] = super().physical_id(logical_id)
        return self._ids[logical_id]


def sentence(error: Exception) -> str:
    """What a problem means, for the page."""
    if isinstance(error, ClientError | BotoCoreError):
        return sentence_of(error)
    return error.format_message() if isinstance(error, click.ClickException) else str(error)


@dataclass
class Bar:
    """A bar of a chart: `height` from 0 to 1, and where a click on it leads."""

    label: str
    number: str
    height: float
    title: str
    after: datetime | None = None
    before: datetime | None = None

    @property
    def size(self) -> int:
        """Its height in percent; what is there is seen."""
        return max(round(self.height * 100), 1 if self.height else 0)


# --- Now --------------------------------------------------------------------------------------------------------------


@dataclass
class Figure:
    """A number of the line that says how the stack is. `href` is its list; `complaint` is what is wrong."""

    label: str
    value: str
    href: str
    level: Level = "plain"
    complaint: str = ""
    event: str = ""
    detail: str = ""


def now(stack: Stack, history: History) -> list[Figure]:
    """The figures, read side by side; one that cannot be read says so and keeps none of the others."""

    def alarms() -> list[Figure]:
        name = stack.name.split("/")[1] if "/" in stack.name else stack.name
        pages = stack.client("cloudwatch").get_paginator("describe_alarms")
        found = pages.paginate(AlarmNamePrefix=f"{name}-", StateValue="ALARM", AlarmTypes=["MetricAlarm"])
        names = [alarm["AlarmName"].removeprefix(f"{name}-") for page in found for alarm in page["MetricAlarms"]]
        problem = f"{plural(len(names), 'alarm')} {'rings' if len(names) == 1 else 'ring'}" if names else ""
        level: Level = "bad" if names else "good"
        return [Figure("Alarms", str(len(names)) if names else "none", "#now", level, problem, detail=", ".join(names))]

    def overdue() -> list[Figure]:
        at = datetime.now(UTC)
        late = (e for e in parked_events(stack, Selection(before=at), limit=ROWS) if e.state == "parked")
        if not (event := next(late, None)):
            return [Figure("Oldest overdue", "none", "#pending", "good")]
        is_bad, by = at - event.due > OVERDUE, readable(at - event.due)
        problem = f"{event.id} has been overdue for {by}" if is_bad else ""
        return [Figure("Oldest overdue", by, "#event", "bad" if is_bad else "good", problem, event.id, event.id)]

    def lateness() -> list[Figure]:
        executions, until = history.executions(ago(HOUR))
        delivered = [execution for execution in executions if late_ms(execution) is not None]
        level = stack.parameter("ExecutionLogLevel", "ALL")
        beyond = f"not logged: ExecutionLogLevel is {level}" if level != "ALL" else "none in the last hour"
        if until:
            beyond = f"read back to {until:%H:%M} so far"
        if not delivered:
            return [Figure(name, "none", "#lateness", detail=beyond) for name in ("Last delivery", "Lateness")]
        ended, numbers = delivered[-1].ended_at, percentiles(delivered)
        is_bad = numbers["p99"] > LATE_MS
        problem = f"1 % of the deliveries were {ms(numbers['p99'])} late or more" if is_bad else ""
        value = " · ".join(f"{name} {ms(number)}" for name, number in numbers.items())
        detail = plural(len(delivered), "delivery").replace("deliverys", "deliveries") + " in the last hour"
        return [
            Figure("Last delivery", f"{readable(datetime.now(UTC) - ended)} ago" if ended else "", "#lateness"),
            Figure("Lateness", value, "#lateness", "bad" if is_bad else "good", problem, detail=detail),
        ]

    looks = {
        "Last delivery and lateness": lateness,
        "Oldest overdue": overdue,
        "Dead letters": lambda: [_queued(stack, "Dead letters", "InputDeadLettersUrl")],
        "Undelivered": lambda: [_queued(stack, "Undelivered", "UndeliveredUrl")],
        "Alarms": alarms,
    }

    def look(name: str) -> list[Figure]:
        try:
            return looks[name]()
        except PROBLEMS as error:
            return [Figure(name, "not known", "#now", "unknown", detail=sentence(error))]

    with ThreadPoolExecutor(len(looks)) as pool:
        return [figure for figures in pool.map(look, looks) for figure in figures]


def _queued(stack: Stack, label: str, output: str) -> Figure:
    number = waiting(stack, output)
    problem = f"{plural(number, 'message')} in {output.removesuffix('Url')}" if number else ""
    return Figure(label, f"{number:,}" if number else "none", "#failed", "bad" if number else "good", problem)


def waiting(stack: Stack, output: str) -> int:
    """About how many messages a queue keeps."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    answer = stack.client("sqs").get_queue_attributes(QueueUrl=stack.output(output), AttributeNames=names)
    return sum(int(answer["Attributes"][name]) for name in names)


# --- Pending ----------------------------------------------------------------------------------------------------------


class Count:
    """The parked events of a selection by minute, counted once, in a thread of its own. `number` grows meanwhile."""

    def __init__(self, stack: Stack, selection: Selection):
        self.at, self.number, self.lanes, self.problem = datetime.now(UTC), 0, 0, ""
        self.minutes, self.done, self._is_stopped = Counter[datetime](), threading.Event(), False
        self._stack, self._selection, self._numbers = stack, selection, itertools.count(1)
        threading.Thread(target=self._run, daemon=True).start()

    def stop(self) -> None:
        """Count no further: nobody waits for it."""
        self._is_stopped = True

    def _run(self) -> None:
        try:
            self.minutes, _ = count_events(self._stack, self._selection, self._minute, self._on_lane)
        except PROBLEMS as error:
            self.problem = sentence(error)
        except InterruptedError:
            pass
        self.done.set()

    def _minute(self, due: datetime) -> datetime:
        if self._is_stopped:
            raise InterruptedError
        self.number = next(self._numbers)
        return due.replace(second=0, microsecond=0)

    def _on_lane(self, _: int) -> None:
        self.lanes += 1

    def bars(self, after: datetime | None, before: datetime | None) -> tuple[list[Bar], int]:
        """The part between two times as at most `BARS` bars, and how many events are in none of them."""
        chosen = {m: n for m, n in self.minutes.items() if (not after or m >= after) and (not before or m < before)}
        if not chosen:
            return [], 0
        first, last = after or min(chosen), max(chosen)
        width = next((w for w in WIDTHS if _floor(last, w) - _floor(first, w) < BARS * w), WIDTHS[-1])
        sums = Counter[datetime]()
        for minute, number in chosen.items():
            sums[_floor(minute, width)] += number
        start, most = _floor(min(chosen), width), max(sums.values())
        starts = [start + i * width for i in range(BARS) if start + i * width <= last]
        form = "%H:%M" if width < DAY and last - start < DAY else "%m-%d %H:%M" if width < DAY else "%Y-%m-%d"
        bars = [
            Bar(
                f"{at:{form}}",
                f"{sums[at]:,}",
                sums[at] / most,
                f"{shown(at)[:16]}: {plural(sums[at], 'event')}",
                at,
                at + width,
            )
            for at in starts
        ]
        return bars, sum(chosen.values()) - sum(sums[at] for at in starts)


def _floor(moment: datetime, width: timedelta) -> datetime:
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return epoch + (moment - epoch) // width * width


def next_events(stack: Stack, selection: Selection) -> tuple[list[Parked], datetime | None]:
    """The first events of a selection, and from when on there are more."""
    found = list(itertools.islice(parked_events(stack, selection, ROWS + 1), ROWS + 1))
    return found[:ROWS], found[ROWS].due if len(found) > ROWS else None


# --- One event --------------------------------------------------------------------------------------------------------


def message_of(story: Story) -> dict[str, Any] | None:
    """The message of an event as it was published: of the parked one, or of its last execution."""
    parked = [event for event in story.parked if event.state == "parked"] or story.parked
    if parked:
        return parked[0].event
    inputs = [execution.input for execution in story.executions if "event" in execution.input]
    return {**inputs[-1]["event"], "payload": inputs[-1]["publish"]["Message"]} if inputs else None


# --- Lateness ---------------------------------------------------------------------------------------------------------


@dataclass
class Lateness:
    """Deliveries of a span of time: how many were how late, their course, the slowest ones."""

    number: int = 0
    numbers: dict[str, int] = field(default_factory=dict)
    distribution: list[Bar] = field(default_factory=list)
    course: list[Bar] = field(default_factory=list)
    slowest: list[tuple[str, str, str]] = field(default_factory=list)
    until: datetime | None = None


def lateness(history: History, span: timedelta) -> Lateness:
    """Those of the last hour or day."""
    executions, until = history.executions(ago(span))
    delivered = [execution for execution in executions if late_ms(execution) is not None]
    if not delivered:
        return Lateness(until=until)
    late = {id(execution): late_ms(execution) or 0 for execution in delivered}
    counts = Counter(next((bound for bound in LATENESS if ms_ <= bound), None) for ms_ in late.values())
    top = max(counts.values())
    bounds = [*LATENESS, None]
    bounds = bounds[: max(bounds.index(bound) for bound in counts) + 1]
    bars = [
        Bar(
            f"≤ {ms(bound)}" if bound else "more",
            f"{counts[bound]:,}",
            counts[bound] / top,
            f"{f'at most {ms(bound)}' if bound else 'later'}: {counts[bound]:,}",
        )
        for bound in bounds
    ]
    width, by_time = span / 24, defaultdict[datetime, list[Execution]](list)
    for execution in delivered:
        by_time[_floor(execution.ended_at or ago(span), width)].append(execution)
    maxima = {at: percentiles(group) for at, group in by_time.items()}
    most = max(1, *(numbers["max"] for numbers in maxima.values()))
    start, course = _floor(ago(span), width), []
    for at in (start + i * width for i in range(25)):
        numbers = maxima.get(at)
        told = ", ".join(f"{k} {ms(v)}" for k, v in numbers.items()) if numbers else "no delivery"
        height = max(0, numbers["max"]) / most if numbers else 0
        course.append(Bar(f"{at:%H:%M}", ms(numbers["max"]) if numbers else "", height, f"{at:%H:%M}: {told}"))
    slowest = sorted(delivered, key=lambda execution: -late[id(execution)])[:10]
    rows = [(event_id(e), ms(late[id(e)]), shown(e.ended_at) if e.ended_at else "") for e in slowest]
    return Lateness(len(delivered), percentiles(delivered), bars, course, rows, until)


def percentiles(delivered: Collection[Execution]) -> dict[str, int]:
    """Lateness in milliseconds (nearest rank)."""
    late = sorted(late_ms(execution) or 0 for execution in delivered)
    return {name: late[max(0, -(-len(late) * p // 100) - 1)] for name, p in (("p50", 50), ("p99", 99), ("max", 100))}


def ms(number: int) -> str:
    """Milliseconds, readable."""
    return (
        f"{number} ms" if abs(number) < 1000 else readable(timedelta(milliseconds=number)).replace("0 minutes", "0 min")
    )


# --- Failed -----------------------------------------------------------------------------------------------------------


@dataclass
class Reason:
    """Why events failed: how many, when last, and some of their ids."""

    text: str
    number: int = 0
    last: str = ""
    ids: list[str] = field(default_factory=list)


def failures(history: History, span: timedelta) -> tuple[list[Reason], datetime | None]:
    """Failed and retried executions, and refused messages, by reason, the most frequent first."""
    executions, until = history.executions(ago(span))
    reasons: dict[str, Reason] = {}

    def add(text: str, id: str, at: str) -> None:
        reason = reasons.setdefault(UNIQUE.sub("…", text.replace(id, "…")), Reason(text))
        reason.number, reason.last = reason.number + 1, max(reason.last, at)
        if id not in reason.ids and len(reason.ids) < 10:
            reason.ids.append(id)

    for execution in executions:
        if execution.status != "SUCCEEDED" or "problem" in execution.result:
            text = execution.outcome.partition("; parked again until")[0]
            add(text, event_id(execution), shown(execution.ended_at) if execution.ended_at else "")
    for at, entry in history.refusals(ago(span)):
        add(f"refused: {entry.get('reason')}", str(entry.get("id")), shown(at))
    return sorted(reasons.values(), key=lambda reason: -reason.number), until


QUEUES: dict[str, tuple[str, Callable[..., Any]]] = {
    "resend": ("UndeliveredUrl", resend),
    "redrive": ("InputDeadLettersUrl", redrive),
}


def messages(stack: Stack, action: str) -> list[tuple[str, str, str]]:
    """The first messages of a queue: the id by which each is chosen, why it is there, its text. They are hidden from
    others while they are read."""
    rows = []
    with Queue(stack, stack.output(QUEUES[action][0])) as queue:
        for message in itertools.islice(queue.messages(), MESSAGES):
            report = report_in(message) if action == "resend" else None
            message_id, id = ids_in(message)
            chosen = report["id"] if report else message_id if action == "redrive" else message["MessageId"]
            rows.append((chosen, report["error"] if report else id or "", message["Body"]))
    return rows


def run(stack: Stack, action: str, ids: set[str] | None) -> tuple[int, list[str], bool]:
    """Resend or redrive the chosen messages, or all: how many were, why others were kept, and whether time ran out."""
    output, function = QUEUES[action]
    done, kept, give_up_at = 0, list[str](), time.monotonic() + QUEUE_SECONDS
    with Queue(stack, stack.output(output)) as queue, closing(function(stack, queue, ids)) as attempts:
        for attempt in attempts:
            done += not attempt.kept_because
            if attempt.kept_because:
                kept.append(f"{attempt.event_id} is kept, because {attempt.kept_because}")
            if time.monotonic() > give_up_at:
                return done, kept, True
    return done, kept, False
