"""Ingest and time: a batch is hidden while it is processed, what failed is retried soon, a slow call fails alone."""

import os
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from unittest.mock import patch

import pytest
from punctual_core import ingest
from punctual_core.visibility import Visibility, hide_seconds

from tests.conftest import LambdaContext, event, record
from tests.functions.conftest import LATER, SOON, batch, executions, handle, named


def visibility_changes(cloud) -> list[list[int]]:
    """The visibility timeouts of each request for a batch, in order."""
    asked = cloud.asked("ChangeMessageVisibilityBatch")
    return [[entry["VisibilityTimeout"] for entry in call["Entries"]] for call in asked]


@pytest.fixture
def slow(cloud, monkeypatch):
    """Makes the starts of some events wait until they may go on. At the end all threads have ended: none disturbs the
    next test."""
    may_go_on, waiting, before = threading.Event(), [], set(threading.enumerate())

    def make(name: str) -> tuple[threading.Event, list[str]]:
        def start(called: str) -> None:
            if called.startswith(name):
                waiting.append(called)
                may_go_on.wait(60)

        monkeypatch.setattr(ingest, "ingest", replace(ingest.ingest, workflow=executions(start)))
        return may_go_on, waiting

    yield make
    may_go_on.set()
    for thread in set(threading.enumerate()) - before:
        thread.join()


class Clock:
    """The time that the handler reads, in seconds: nothing but its waiting takes any. Before it waits, all calls but
    the `slow` ones have ended."""

    def __init__(self, slow: int = 1):
        self.now, self.slow = 0.0, slow

    def monotonic(self) -> float:
        return self.now

    def wait(self, acts, timeout):
        wait_for(lambda: sum(not act.done() for act in acts) <= self.slow)
        pending = {act for act in acts if not act.done()}
        self.now += timeout if pending else 0
        return SimpleNamespace(not_done=pending)


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(ingest, "time", clock)
    monkeypatch.setattr(ingest, "wait", clock.wait)
    return clock


def wait_for(condition) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_a_batch_is_hidden_for_7_seconds_and_retried_after_2_in_one_request_each(cloud):
    """If its process is killed, its messages are processed again 7 s later, and not after the queue's three minutes."""
    cloud.fail("StartExecution")
    assert len(handle(*batch(datetime.now(UTC)))) == 10
    for call, seconds in zip(cloud.asked("ChangeMessageVisibilityBatch"), (7, 2), strict=True):
        assert call["QueueUrl"] == os.environ["INPUT_QUEUE_URL"] and len({each["Id"] for each in call["Entries"]}) == 10
        entries = {(each["ReceiptHandle"], each["VisibilityTimeout"]) for each in call["Entries"]}
        assert entries == {("a-receipt-handle", seconds)}


def test_a_batch_is_hidden_before_it_is_done_and_its_messages_are_processed_side_by_side(cloud, slow):
    """The events of a batch start while SQS is asked: each start would wait for the request, the request for none. With
    fewer than ten threads not all of them would wait."""
    may_go_on, waiting = slow("order")
    ask = ingest.visibility.hide

    def hide(records):
        ask(records)
        assert not cloud.starts
        wait_for(lambda: len(waiting) == 10)
        may_go_on.set()
        wait_for(lambda: len(cloud.starts) == 10)

    with patch.object(Visibility, "hide", side_effect=hide):
        assert handle(*batch(datetime.now(UTC))) == []


def test_a_batch_that_takes_longer_is_hidden_every_3_seconds(cloud, slow, clock):
    """So that a message that is being processed is not received by another process: at 0, 3 ... 24 s, until the handler
    answers. Those that are done are hidden, too: they are deleted after the answer."""
    slow("order-1")
    handle(*batch(datetime.now(UTC), 2))
    assert visibility_changes(cloud) == [[7, 7]] * 9 + [[2]]


@pytest.mark.parametrize(("receives", "seconds"), [(1, 7), (3, 7), (4, 14), (5, 28), (9, 448), (10, 600), (999, 600)])
def test_a_message_that_comes_back_again_and_again_is_hidden_longer(cloud, receives, seconds):
    """One that kills its process at every receive is received 1,000 times in a week, and not in two hours."""
    handle(record(event(datetime.now(UTC) + LATER), receives=receives))
    assert visibility_changes(cloud) == [[seconds]]
    assert sum(map(hide_seconds, range(1, 1001))) > timedelta(days=6.8).total_seconds()


@pytest.mark.parametrize(("receives", "delay"), [(1, 2), (2, 4), (3, 8), (9, 512), (10, 600), (11, 600), (999, 600)])
def test_a_failed_message_is_retried_after_2_4_8_and_at_most_600_seconds(cloud, receives, delay):
    """Its retry time is the last change, so no renewal overwrites it; the message that was done has none."""
    cloud.fail("StartExecution", when=named("failing"))
    now = datetime.now(UTC)
    failing = record(event(now + SOON, id="failing"), receives=receives)
    assert handle(record(event(now + SOON)), failing) == [failing["messageId"]]
    assert visibility_changes(cloud)[-1] == [delay] and len(visibility_changes(cloud)) == 2


@pytest.mark.parametrize("fault", ["fail", "lose_answer"])
def test_a_message_whose_visibility_cannot_be_changed_is_still_retried(cloud, fault):
    """By the queue; whether SQS refuses or does not answer. It is asked once a time: the next renewal is a retry."""
    cloud.fail("StartExecution")
    getattr(cloud, fault)("ChangeMessageVisibilityBatch")
    failed = record(event(datetime.now(UTC) + SOON))
    assert handle(failed) == [failed["messageId"]]
    assert len(cloud.calls("ChangeMessageVisibilityBatch")) == 2


@pytest.mark.parametrize(("left", "waits"), [(30, 25), (12.5, 7.5)])
def test_a_slow_call_fails_its_message_alone(cloud, slow, clock, capsys, left, waits):
    """One start gets no answer until the invocation's time is up: the handler answers 5 s before that, with that
    message as failed and to be retried in 2 seconds; the other nine are done, and not repeated."""
    slow("order-4")
    records = batch(datetime.now(UTC))
    answer = ingest.handler({"Records": records}, LambdaContext(seconds_left=left))
    assert answer == {"batchItemFailures": [{"itemIdentifier": records[4]["messageId"]}]}
    assert clock.now == waits and visibility_changes(cloud)[-1] == [2]
    started = {start.input["id"] for start in cloud.starts}
    assert started == {f"order-{number}" for number in range(10)} - {"order-4"}
    assert '"Failed":[1.0]' in capsys.readouterr().out


@pytest.mark.parametrize("left", [5, 1])
def test_an_invocation_without_time_answers_at_once(cloud, slow, clock, left):
    """It does not wait, and never for a negative time."""
    slow("order")
    answer = ingest.handler({"Records": batch(datetime.now(UTC), 1)}, LambdaContext(seconds_left=left))
    assert len(answer["batchItemFailures"]) == 1
    assert clock.now == 0 and visibility_changes(cloud) == [[2]]


def test_a_batch_does_not_wait_for_the_threads_of_an_earlier_one(cloud, slow, clock):
    """Ten calls of the former invocation still hang: they take no thread from this one."""
    slow("order")
    clock.slow = 10
    assert len(handle(*batch(datetime.now(UTC)))) == 10
    clock.slow = 0
    assert handle(*(record(event(datetime.now(UTC) + SOON, id=f"next-{number}")) for number in range(10))) == []
