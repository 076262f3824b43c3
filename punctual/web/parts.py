"""What the parts of the page show, as data. Nothing here knows HTTP or HTML."""

import itertools
import re
import time
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Container, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, NamedTuple

import click
from botocore.exceptions import BotoCoreError, ClientError

from ..moments import readable, shown
from ..output import plural
from ..parked import Selection, parked_events
from ..queues import Queue, ids_in, redrive, report_in, resend
from ..stack import NotConfigured, NotPunctual, Stack, sentence_of
from ..story import Story, ago
from .reading import Ended, History, floor

# What AWS, its SDK, or the stack may answer instead of data.
PROBLEMS = (ClientError, BotoCoreError, NotPunctual, NotConfigured, click.ClickException)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
# Upper bounds of the bars of lateness, in milliseconds.
LATENESS = (10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 60_000, 3_600_000)
MAX_LATE_MS, MAX_OVERDUE = 1_000, timedelta(seconds=10)
MINUTE, *WIDER = (timedelta(minutes=n) for n in (1, 5, 15, 60, 180, 720, 1440, 10080, 43200, 525600))
BARS, ROWS, MESSAGES, SLOWEST = 48, 20, 100, 10
# One request resends or redrives for so long; the page says that there are more.
QUEUE_SECONDS = 20
# What differs between failures for the same reason: MessageIds and times.
UNIQUE = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|\b\d[\d:.TZ-]{5,}")
QUEUES = {"resend": ("UndeliveredUrl", resend), "redrive": ("InputDeadLettersUrl", redrive)}


class Bar(NamedTuple):
    """A bar of a chart, and the times (UTC) between which a click on it leads."""

    label: str
    number: int
    title: str
    after: datetime | None = None
    before: datetime | None = None


class Figure(NamedTuple):
    """A number of the line that says how the stack is. It leads to `href`, its list, or to an `event`. `complaint` is
    what is wrong."""

    value: str
    href: str
    complaint: str = ""
    detail: str = ""
    event: str = ""
    is_known: bool = True


def now(stack: Stack, history: History) -> dict[str, Any]:
    """The figures, read side by side; one that cannot be read says so and keeps none of the others."""
    looks: dict[str, Callable[[], Figure]] = {
        "Lateness": partial(_lateness, stack, history),
        "Oldest overdue": partial(_overdue, stack),
        "Dead letters": partial(_waiting, stack, "InputDeadLettersUrl"),
        "Undelivered": partial(_waiting, stack, "UndeliveredUrl"),
        "Alarms": partial(_alarms, stack),
    }

    def look(name: str) -> Figure:
        try:
            return looks[name]()
        except PROBLEMS as error:
            return Figure("not known", "#now", detail=sentence_of(error), is_known=False)

    with ThreadPoolExecutor(len(looks)) as pool:
        figures = dict(zip(looks, pool.map(look, looks), strict=True))
    return {"figures": figures, "at": f"{datetime.now(UTC):%H:%M:%S}"}


def _lateness(stack: Stack, history: History) -> Figure:
    ended, begin = history.since(ago(HOUR))
    delivered = [(e.at, e.late_ms) for e in ended if e.late_ms is not None]
    late, level = percentiles(late_ms for _, late_ms in delivered), stack.parameter("ExecutionLogLevel", "ALL")
    detail = "no delivery in the last hour" if level == "ALL" else f"not logged: ExecutionLogLevel is {level}"
    if delivered:
        detail = f"in the last hour; last delivery {readable(ago(timedelta()) - delivered[-1][0])} ago"
    if begin:
        detail += f"; read back to {begin:%H:%M} so far"
    complaint = f"1 % of the deliveries were {ms(late['p99'])} late or more" if late.get("p99", 0) > MAX_LATE_MS else ""
    value = "\n".join(f"{name} {ms(number)}" for name, number in late.items())
    return Figure(value or "none", "#lateness", complaint, detail)


def _overdue(stack: Stack) -> Figure:
    at = datetime.now(UTC)
    events = parked_events(stack, Selection(before=at), ROWS)
    if not (event := next((event for event in events if event.state == "parked"), None)):
        return Figure("none", "#pending")
    by = readable(at - event.due)
    complaint = f"{event.id} has been overdue for {by}" if at - event.due > MAX_OVERDUE else ""
    return Figure(by, "#event", complaint, event.id, event.id)


def _waiting(stack: Stack, output: str) -> Figure:
    number = waiting(stack, output)
    complaint = f"{plural(number, 'message')} in {output.removesuffix('Url')}" if number else ""
    return Figure(f"{number or 'none'}", "#failed", complaint)


def _alarms(stack: Stack) -> Figure:
    prefix = f"{stack.name.split('/')[1] if '/' in stack.name else stack.name}-"
    pages = stack.client("cloudwatch").get_paginator("describe_alarms")
    found = pages.paginate(AlarmNamePrefix=prefix, StateValue="ALARM", AlarmTypes=["MetricAlarm"])
    names = [alarm["AlarmName"].removeprefix(prefix) for page in found for alarm in page["MetricAlarms"]]
    complaint = f"{plural(len(names), 'alarm')} {'rings' if len(names) == 1 else 'ring'}" if names else ""
    return Figure(f"{len(names) or 'none'}", "#now", complaint, ", ".join(names))


def bars(minutes: Counter[datetime], selection: Selection) -> tuple[list[Bar], int]:
    """The counts by minute between the selection's times as at most `BARS` bars, and how many events are later."""
    after, before = selection.after and floor(selection.after, MINUTE), selection.before
    chosen = sorted(m for m in minutes if (not after or m >= after) and (not before or m < before))
    if not chosen:
        return [], 0
    first, last = chosen[0], chosen[-1]
    totals = [0, *itertools.accumulate(minutes[minute] for minute in chosen)]
    width = next((w for w in (MINUTE, *WIDER) if floor(last, w) - floor(first, w) < BARS * w), WIDER[-1])
    start, found = floor(first, width), list[Bar]()
    form = "%Y-%m-%d" if width >= DAY else "%m-%d %H:%M" if last - start >= DAY else "%H:%M"
    for at in (start + i * width for i in range(min(BARS, (last - start) // width + 1))):
        number = totals[bisect_left(chosen, at + width)] - totals[bisect_left(chosen, at)]
        found.append(Bar(f"{at:{form}}", number, f"{shown(at)[:16]}: {plural(number, 'event')}", at, at + width))
    return found, totals[-1] - sum(bar.number for bar in found)


def next_events(stack: Stack, selection: Selection, skip: int) -> dict[str, Any]:
    """The next events of a selection, without the first `skip`; if there are more, after which time, and how many of
    that time to skip."""
    events, more = list(parked_events(stack, selection, skip + ROWS + 1)), {}
    if len(events) > skip + ROWS:
        due = events[-1].due
        more = {"after": due.isoformat(), "skip": sum(event.due == due for event in events) - 1}
    return {"events": events[skip : skip + ROWS], "more": more}


def message_of(story: Story) -> dict[str, Any] | None:
    """The message of an event as it was published: of the parked one, or of its last execution."""
    if story.parked:
        return min(story.parked, key=lambda event: event.state != "parked").event
    inputs = [execution.input for execution in story.executions if "event" in execution.input]
    return {**inputs[-1]["event"], "payload": inputs[-1]["publish"]["Message"]} if inputs else None


def lateness(history: History, span: timedelta) -> dict[str, Any]:
    """How late the deliveries of the last hour or day were: distribution, course, and the slowest ones."""
    (ended, begin), width, labels = history.since(ago(span)), span / 24, [*(f"≤ {ms(b)}" for b in LATENESS), "more"]
    delivered = [(e.late_ms, e) for e in ended if e.late_ms is not None]
    counts = Counter(bisect_left(LATENESS, late_ms) for late_ms, _ in delivered)
    latest = defaultdict[datetime, int](int)
    for late_ms, e in delivered:
        latest[floor(e.at, width)] = max(latest[floor(e.at, width)], late_ms)
    periods, titles = [floor(ago(span), width) + i * width for i in range(25)], {at: ms(n) for at, n in latest.items()}
    return {
        "begin": begin,
        "number": len(delivered),
        "percentiles": percentiles(late_ms for late_ms, _ in delivered),
        "distribution": [Bar(labels[i], counts[i], labels[i]) for i in range(max(counts, default=-1) + 1)],
        "course": [Bar(f"{at:%H:%M}", latest[at], f"{at:%H:%M}: {titles.get(at, 'no delivery')}") for at in periods],
        "slowest": sorted(delivered, reverse=True)[:SLOWEST],
    }


def percentiles(numbers: Iterable[int]) -> dict[str, int]:
    """By nearest rank; empty if there are no numbers."""
    late = sorted(numbers)
    return {name: late[-(-len(late) * p // 100) - 1] for name, p in (("p50", 50), ("p99", 99), ("max", 100)) if late}


def ms(number: int) -> str:
    """Milliseconds, readable."""
    return f"{number:,} ms" if number < 10_000 else readable(timedelta(milliseconds=number))


def failed(stack: Stack, history: History) -> dict[str, Any]:
    """What failed in the last day by reason, the most frequent one and its latest failure first; and how many messages
    each queue keeps."""
    ended, begin = history.since(ago(DAY))
    groups = defaultdict[str, list[Ended]](list)
    for e in reversed([e for e in ended if e.problem]):
        groups[UNIQUE.sub("…", e.problem.replace(e.id, "…"))].append(e)
    queues = [(action, output.removesuffix("Url"), waiting(stack, output)) for action, (output, _) in QUEUES.items()]
    return {"reasons": sorted(groups.values(), key=len, reverse=True), "begin": begin, "queues": queues}


def waiting(stack: Stack, output: str) -> int:
    """About how many messages a queue keeps."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    answer = stack.client("sqs").get_queue_attributes(QueueUrl=stack.output(output), AttributeNames=names)
    return sum(int(answer["Attributes"][name]) for name in names)


def messages(stack: Stack, action: str) -> dict[str, Any]:
    """The first messages of a queue: the id by which each is chosen, why it is there, its text. They are hidden from
    others while they are read."""
    rows = []
    with Queue(stack, stack.output(QUEUES[action][0])) as queue:
        for message in itertools.islice(queue.messages(), MESSAGES):
            report = report_in(message) if action == "resend" else None
            message_id, id = ids_in(message)
            chosen = report["id"] if report else message_id if action == "redrive" else message["MessageId"]
            rows.append((chosen, report["error"] if report else id or "", message["Body"]))
    return {"action": action, "rows": rows}


def run(stack: Stack, action: str, ids: Container[str] | None) -> tuple[int, list[str], bool]:
    """Resend or redrive the chosen messages, or all: how many were, why others were kept, and whether time ran out."""
    output, function = QUEUES[action]
    done, kept, give_up_at = 0, list[str](), time.monotonic() + QUEUE_SECONDS
    with Queue(stack, stack.output(output)) as queue, closing(function(stack, queue, ids)) as attempts:
        for attempt in attempts:
            done += not attempt.kept_because
            kept += [f"{attempt.id} is kept, because {attempt.kept_because}"] if attempt.kept_because else []
            if time.monotonic() > give_up_at:
                return done, kept, True
    return done, kept, False
