"""What the parts of the page show, as data. Nothing here knows HTTP or HTML."""

import itertools
import re
import time
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Container
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import click
from botocore.exceptions import BotoCoreError, ClientError

from ..moments import readable, shown
from ..output import plural
from ..parked import Selection, parked_events
from ..queues import Queue, ids_in, redrive, report_in, resend
from ..stack import NotConfigured, NotPunctual, Stack, sentence_of
from ..story import ago
from .reading import Ended, History, floor

# What AWS, its SDK, or the stack may answer instead of data.
PROBLEMS = (ClientError, BotoCoreError, NotPunctual, NotConfigured, click.ClickException)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
# Upper bounds of the bars of lateness, in milliseconds.
LATENESS = (10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 60_000, 3_600_000)
PERCENTILES = {"p50": 50, "p99": 99, "max": 100}
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
    """A number of the line that says how the stack is. It leads to `href`, its list. `complaint` is what is wrong."""

    value: str
    href: str
    complaint: str = ""
    detail: str = ""
    is_known: bool = True


def now(stack: Stack, history: History) -> dict[str, Any]:
    """The figures, read side by side; one that cannot be read says so and keeps none of the others."""
    with ThreadPoolExecutor() as pool:
        looks = {
            "Lateness": pool.submit(_lateness, stack, history),
            "Oldest overdue": pool.submit(_overdue, stack),
            "Dead letters": pool.submit(_waiting, stack, "InputDeadLettersUrl"),
            "Undelivered": pool.submit(_waiting, stack, "UndeliveredUrl"),
            "Alarms": pool.submit(_alarms, stack),
        }
    return {"figures": {name: _figure(look) for name, look in looks.items()}, "at": f"{datetime.now(UTC):%H:%M:%S}"}


def _figure(look: Future[Figure]) -> Figure:
    try:
        return look.result()
    except PROBLEMS as error:
        return Figure("not known", "#now", detail=sentence_of(error), is_known=False)


def _lateness(stack: Stack, history: History) -> Figure:
    known, level = lateness(history, "hour"), stack.parameter("ExecutionLogLevel", "ALL")
    late, last = known["percentiles"], known["last"]
    detail = "no delivery in the last hour" if level == "ALL" else f"not logged: ExecutionLogLevel is {level}"
    if last:
        detail = f"in the last hour; last delivery {readable(ago(timedelta()) - last)} ago"
    if known["begin"]:
        detail += f"; read back to {known['begin']:%H:%M} so far"
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
    return Figure(by, "#pending", complaint, event.id)


def _waiting(stack: Stack, output: str) -> Figure:
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    answer = stack.client("sqs").get_queue_attributes(QueueUrl=stack.output(output), AttributeNames=names)
    number = sum(int(answer["Attributes"][name]) for name in names)
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


def lateness(history: History, period: str) -> dict[str, Any]:
    """How late the deliveries of the last hour or day were: distribution, course, and the slowest ones."""
    span = DAY if period == "day" else HOUR
    ended, begin = history.since(ago(span))
    delivered = sorted((e.late_ms, e) for e in ended if e.late_ms is not None)
    late, labels = [late_ms for late_ms, _ in delivered], [*(f"≤ {ms(bound)}" for bound in LATENESS), "more"]
    counts, width = Counter(bisect_left(LATENESS, late_ms) for late_ms in late), span / 24
    latest = Counter({floor(e.at, width): late_ms for late_ms, e in delivered})  # The latest of each comes last.
    periods, titles = [floor(ago(span), width) + i * width for i in range(25)], {at: ms(n) for at, n in latest.items()}
    return {
        "begin": begin,
        "last": max((e.at for _, e in delivered), default=None),
        "number": len(late),
        # By nearest rank.
        "percentiles": {name: late[-(-len(late) * p // 100) - 1] for name, p in PERCENTILES.items() if late},
        "distribution": [Bar(label, counts[i], f"{label}: {counts[i]:,}") for i, label in enumerate(labels)],
        "course": [Bar(f"{at:%H:%M}", latest[at], f"{at:%H:%M}: {titles.get(at, 'no delivery')}") for at in periods],
        "slowest": delivered[: -SLOWEST - 1 : -1],
    }


def ms(number: int) -> str:
    """Milliseconds, readable."""
    return f"{number:,} ms" if number < 10_000 else readable(timedelta(milliseconds=number))


def failed(history: History) -> dict[str, Any]:
    """What failed in the last day by reason, the most frequent one and its latest failure first."""
    ended, begin = history.since(ago(DAY))
    groups = defaultdict[str, list[Ended]](list)
    for e in reversed([e for e in ended if e.problem]):
        groups[UNIQUE.sub("…", e.problem.replace(e.id, "…"))].append(e)
    return {"reasons": sorted(groups.values(), key=len, reverse=True), "begin": begin}


def messages(stack: Stack, action: str) -> dict[str, Any]:
    """The first messages of a queue: the id by which each is chosen, why it is there, its text. They are hidden from
    others while they are read."""
    rows = []
    with Queue(stack, stack.output(QUEUES[action][0])) as queue:
        for message in itertools.islice(queue.messages(), MESSAGES):
            report, (message_id, id) = report_in(message), ids_in(message)
            chosen, why = (report["id"], report["error"]) if report else (message_id, id or "")
            rows.append((chosen, why, message["Body"]))
    return {"action": action, "rows": rows}


def run(stack: Stack, action: str, ids: Container[str] | None) -> dict[str, Any]:
    """Resend or redrive the chosen messages, or all: how many were, why others were kept, whether time ran out, and
    what the queue has then."""
    output, function = QUEUES[action]
    done, problems, has_more, give_up_at = 0, list[str](), False, time.monotonic() + QUEUE_SECONDS
    with Queue(stack, stack.output(output)) as queue, closing(function(stack, queue, ids)) as attempts:
        for attempt in attempts:
            done += not attempt.kept_because
            if attempt.kept_because:
                problems.append(f"{attempt.id} is kept, because {attempt.kept_because}")
            if has_more := time.monotonic() > give_up_at:
                break
    return messages(stack, action) | {"done": done, "problems": problems, "has_more": has_more}
