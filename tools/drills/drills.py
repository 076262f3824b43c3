"""The drills. Each injects a fault, publishes, and ends the fault; its docstring is its title in the report."""

import math
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from punctual_core.clients import READ_SECONDS

from tools.drills.faults import (
    SNS_ERROR,
    Act,
    Fault,
    LimitedWrites,
    delay,
    every,
    fail,
    first,
    forward,
    hang,
    kill,
    leave_unprocessed,
    lose_answer,
    run_test_case,
    sns_unavailable,
    throttle,
)
from tools.drills.scenes import PATIENCE_SECONDS, Scene

Drill = Callable[[Scene], None]

# An event that fails three times within FAULT_SECONDS is parked for up to 120 s after that.
RETRY_PATIENCE_SECONDS = 240
BURST = 5000  # events
BURST_PATIENCE_SECONDS = 900
# A fault of one part lasts this long: all events of its drill are due within half of it.
FAULT_SECONDS = 60
# By how much one lane's fault may delay the events of the other lanes: a sweep interval.
OTHER_LANES_LIMIT = timedelta(seconds=5)
# The Sweeper needs some 120 within ten seconds.
DELETES_PER_SECOND = 1


def name_of(drill: Drill) -> str:
    """The drill's name on the command line."""
    return drill.__name__.replace("_", "-")


def title_of(drill: Drill) -> str:
    """What the drill does, for the report."""
    return (drill.__doc__ or "").strip()


def no_fault(scene: Scene) -> None:
    """No fault"""
    scene.publish_all()
    scene.settle()


# --- Throttling and lost responses ------------------------------------------------------------------------------------


def start_throttled_at_first(scene: Scene) -> None:
    """StartExecution throttles the first 60 calls"""
    with scene.broken(Fault(throttle, {"StartExecution"}, when=first(60))):
        scene.publish_all()
        scene.settle()


def start_throttled_by_half(scene: Scene) -> None:
    """StartExecution throttles every second call"""
    with scene.broken(Fault(throttle, {"StartExecution"}, when=every(2))):
        scene.publish_all()
        scene.settle()


def dynamodb_throttled(scene: Scene) -> None:
    """DynamoDB throttles every second call and leaves the first ten batches of deletes unprocessed"""
    operations = {"PutItem", "UpdateItem", "DeleteItem", "Query"}
    batches = Fault(leave_unprocessed, {"BatchWriteItem"}, when=first(10))
    with scene.broken(Fault(throttle, operations, when=every(2)), batches):
        scene.publish_all()
        scene.settle()


def deletes_throttled(scene: Scene) -> None:
    """DynamoDB processes one delete of a parked event a second, for a minute"""
    limit = LimitedWrites(DELETES_PER_SECOND)
    with scene.broken(Fault(limit, {"BatchWriteItem"}, scene.sweeper)):
        scene.publish_all()
        time.sleep(FAULT_SECONDS)
    if not limit.refused:
        scene.problems.append("no delete was refused")
    scene.notes.append(f"{limit.refused} deletes were refused, those of repeated attempts included")
    scene.settle()


def responses_lost(scene: Scene) -> None:
    """Every third call takes effect, but its response is lost"""
    with scene.broken(Fault(lose_answer, when=every(3))):
        scene.publish_all()
        scene.settle()


def sns_fails(scene: Scene) -> None:
    """SNS Publish fails in the workflow for a minute"""
    with scene.proxy.inject(Fault(run_test_case, {"StartExecution"}, f"{scene.stack_name}-")):
        with sns_unavailable(scene.stack, scene.outputs["DeliverArn"]):
            scene.publish_all()
            time.sleep(FAULT_SECONDS)
        scene.settle(RETRY_PATIENCE_SECONDS)
    scene.enter_undelivered()
    failures = scene.failed_attempts(SNS_ERROR)
    if not failures:
        scene.problems.append("no attempt to publish failed")
    scene.notes.append(f"{failures} attempts to publish failed")


# --- One lane ---------------------------------------------------------------------------------------------------------


def lane_queries_throttled(scene: Scene) -> None:
    """The queries of one lane are throttled for a minute"""
    _break_one_lane(scene, throttle)


def lane_queries_hang(scene: Scene) -> None:
    """The queries of one lane get no response for a minute"""
    _break_one_lane(scene, hang)


def _break_one_lane(scene: Scene, act: Act) -> None:
    """The fault begins as soon as all events are parked, in the lane with the most of them."""
    scene.publish_all()
    fault_ends_at = time.monotonic() + FAULT_SECONDS
    scene.wait_for_ingest()
    parked = scene.parked()
    lane = max(parked, key=lambda lane: len(parked[lane]))
    with scene.broken(Fault(act, {"Query"}, scene.sweeper, text=f'"{lane}"')):
        time.sleep(fault_ends_at - time.monotonic())
        held_up = scene.parked()[lane]
    if not held_up:
        scene.problems.append(f"the fault did not delay any event in {lane}")
    scene.ledger.limit_lateness(OTHER_LANES_LIMIT, except_for=held_up)
    scene.settle()
    scene.notes.append(
        f"{len(held_up)} events waited for the end of the fault; "
        f"those of the other lanes were at most {scene.ledger.latest_limited.total_seconds():.1f} s late "
        f"(limit: {OTHER_LANES_LIMIT.total_seconds():.0f} s)"
    )


# --- Ingest -----------------------------------------------------------------------------------------------------------


def ingest_killed(scene: Scene) -> None:
    """Ingest is killed three times in the middle of a batch"""
    with (
        scene.visibility_timeout(10),
        scene.broken(Fault(kill, {"StartExecution"}, scene.ingest, when=every(7, at_most=3))),
    ):
        with scene.ingest_stopped():
            scene.publish_all()
        scene.settle()


def poison_messages(scene: Scene) -> None:
    """Ingest cannot process some messages for 20 s, and others are not events"""
    count = math.ceil(scene.events / 20)
    poison = f"{scene.name}-poison"
    with scene.broken(Fault(fail, {"StartExecution", "PutItem"}, scene.ingest, text=poison)):
        with scene.ingest_stopped():
            scene.publish_all()
            date = (datetime.now(UTC) + timedelta(seconds=5)).isoformat()
            event = {"date": date, "target": scene.target, "user": "drill"}
            scene.publish([event | {"payload": f"{poison}-{number}"} for number in range(count)])
            scene.publish_garbage([f"{scene.name} not an event {number}" for number in range(count)])
        time.sleep(20)
    scene.settle()


def messages_received_twice(scene: Scene) -> None:
    """SQS hands out messages again while Ingest is still processing them"""
    slow = Fault(delay(2.5), {"StartExecution", "PutItem"}, scene.ingest, when=every(15, at_most=6))
    with scene.visibility_timeout(1), scene.broken(slow):
        with scene.ingest_stopped():
            scene.publish_all()
        scene.settle()


# --- Sweeper ----------------------------------------------------------------------------------------------------------


def sweeper_killed_before_delete(scene: Scene) -> None:
    """The Sweeper is killed twice between starting events and deleting them"""
    with scene.broken(Fault(kill, {"BatchWriteItem"}, scene.sweeper, when=first(2))):
        scene.publish_all()
        scene.settle()


def sweeper_killed_in_lane(scene: Scene) -> None:
    """The Sweeper is killed twice in the middle of a lane"""
    with scene.broken(Fault(kill, {"StartExecution"}, scene.sweeper, when=every(20, at_most=2))):
        scene.publish_all()
        scene.settle()


def sweeps_overlap(scene: Scene) -> None:
    """Four Sweep executions run at once, and each StartExecution takes 0.2 s"""
    with scene.broken(Fault(delay(0.2), {"StartExecution"}, scene.sweeper)):
        scene.publish_all()
        for _ in range(3):  # in addition to the Clock's own
            scene.start_sweep()
        scene.settle()


def no_sweep(scene: Scene) -> None:
    """No sweep for three minutes"""
    function = scene.physical_id("Sweeper")
    scene.lambdas.put_function_concurrency(FunctionName=function, ReservedConcurrentExecutions=0)
    with scene.proxy.inject(Fault(forward, function=scene.sweeper)) as any_call:
        scene.publish_all()
        time.sleep(180)
    if any_call.hits:
        scene.problems.append(f"the Sweeper ran, and made {any_call.hits} calls")
    scene.lambdas.delete_function_concurrency(FunctionName=function)
    scene.settle()


# --- Topics -----------------------------------------------------------------------------------------------------------


def target_deleted(scene: Scene) -> None:
    """The target topics are deleted before the events are due"""
    scene.publish_all()
    scene.delete_topics(scene.target, scene.fifo_target)
    scene.settle()


def target_and_failure_topic_deleted(scene: Scene) -> None:
    """The target topics and the events' failure topic are deleted"""
    scene.publish_all()
    scene.delete_topics(scene.target, scene.fifo_target, scene.failure_topic)
    scene.settle()


def every_topic_deleted(scene: Scene) -> None:
    """The target topics, the events' failure topic and the stack's failure topic are deleted"""
    stack_topic = scene.outputs["FailureTopicArn"]
    scene.publish_all()
    scene.delete_topics(scene.target, scene.fifo_target, scene.failure_topic, stack_topic)
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while scene.ledger.open and time.monotonic() < give_up_at:
        scene.enter_undelivered()
        time.sleep(1)
    scene.settle()
    scene.enter_undelivered()
    scene.sns.create_topic(Name=stack_topic.rsplit(":", 1)[-1])  # for the next drill; the ARN is the same


# --- The whole --------------------------------------------------------------------------------------------------------


def emulator_restarted(scene: Scene) -> None:
    """The emulator is stopped, and started again with its state"""
    scene.publish_all()
    time.sleep(1)
    scene.stack.restart()
    scene.start_sweep()
    interrupted = [
        execution["name"]
        for execution in scene.stack.executions(scene.outputs["DeliverArn"])
        if execution["status"] == "FAILED"
        and scene.steps.describe_execution(executionArn=execution["executionArn"]).get("error")
        == "States.ServiceRestart"
    ]
    scene.ledger.interrupt(interrupted)
    scene.notes.append(f"{len(interrupted)} executions were running inside the emulator when it was stopped")
    scene.settle()


def burst(scene: Scene) -> None:
    """5,000 events due in the same second"""
    scene.events = BURST
    started_at = time.monotonic()
    due = (datetime.now(UTC) + timedelta(seconds=90)).replace(microsecond=0)
    scene.publish(
        [
            {"payload": f"burst-{number:05}", "target": scene.target, "user": "drill", "date": due.isoformat()}
            for number in range(BURST)
        ]
    )
    scene.notes.append(f"published within {time.monotonic() - started_at:.0f} s")
    slow_before = scene.proxy.slow_calls
    scene.settle(BURST_PATIENCE_SECONDS)
    slow = scene.proxy.slow_calls - slow_before
    scene.notes.append(
        f"the emulator took more than {READ_SECONDS} s to respond to {slow} calls, so the functions made them again"
    )


# Two stacks in one emulator run their drills at the same time.
SIDE_BY_SIDE: dict[str, list[Drill]] = {
    "left": [
        no_fault,
        start_throttled_at_first,
        start_throttled_by_half,
        dynamodb_throttled,
        deletes_throttled,
        responses_lost,
        ingest_killed,
        messages_received_twice,
        sweeper_killed_before_delete,
        sweeper_killed_in_lane,
        sweeps_overlap,  # last: its Sweep executions go on for a minute, or until the emulator ends
    ],
    "right": [
        no_sweep,
        lane_queries_throttled,
        lane_queries_hang,
        sns_fails,
        poison_messages,
        target_deleted,
        target_and_failure_topic_deleted,
        every_topic_deleted,
    ],
}
# These need the whole machine.
ALONE: list[Drill] = [emulator_restarted, burst]
