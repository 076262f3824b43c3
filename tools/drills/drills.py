"""The drills. Each injects a fault, publishes, and ends the fault; its docstring is its title in the results.

The stack runs as it is shipped: no drill changes a setting. Where docs/delivery.md promises how late a fault makes an
event at most, that is the drill's limit.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from punctual_core.clients import READ_SECONDS
from punctual_core.lanes import lanes

from tools.drills.faults import (
    SNS_ERROR,
    Fault,
    KillDelegate,
    every,
    first,
    hang,
    hang_publish,
    kill,
    kill_later,
    leave_unprocessed,
    lose_answer,
    lose_invocation,
    once_in,
    run_test_case,
    sns_unavailable,
    throttle,
)
from tools.drills.scenes import Scene
from tools.drills.upgrade import upgrade_and_back

# How late events may be that the fault does not concern. Promised is no more than without a fault, but an emulator that
# shares a machine with the drill takes a second or two where AWS takes milliseconds.
UNCONCERNED_SECONDS = 3
# What a delivery takes without a fault, at most, on an emulator that shares a machine with nothing else.
USUAL_SECONDS = 0.5
# A call makes so many attempts (punctual_core.clients), and each hangs.
ATTEMPTS = 3
# A fault of one part lasts this long: all events of its drill are due within half of it.
FAULT_SECONDS = 60
# An event that fails three times within FAULT_SECONDS is parked for up to two minutes after that.
RETRY_PATIENCE_SECONDS = 240
# Kills are so far apart that one ends before the next, and each wave of events meets one: when so many starts of a lane
# have been made.
WAVES, WAVE_SECONDS, WAVE_LANE, STARTS_BEFORE_KILL = 4, 25, 30, 10
# Events of one lane, due at once: enough for an invocation of its own.
CROWD = 200
BURST = 5000  # events
BURST_PATIENCE_SECONDS = 900


@dataclass(frozen=True)
class Drill:
    """What a drill does, and how late its events may be, unless it sets limits of its own."""

    run: Callable[[Scene], None]
    limit_seconds: float | None

    @property
    def name(self) -> str:
        """Its name on the command line."""
        return self.run.__name__.replace("_", "-")

    @property
    def title(self) -> str:
        return (self.run.__doc__ or "").strip()


DRILLS: list[Drill] = []


def drill(limit_seconds: float | None = None) -> Callable[[Callable[[Scene], None]], Callable[[Scene], None]]:
    """Add a function to the drills."""

    def add(run: Callable[[Scene], None]) -> Callable[[Scene], None]:
        DRILLS.append(Drill(run, limit_seconds))
        return run

    return add


@drill()
def no_fault(scene: Scene) -> None:
    """No fault"""
    scene.publish_all()
    scene.settle()


# --- Processes that die -----------------------------------------------------------------------------------------------


@drill(limit_seconds=10)
def sweeper_killed_in_lane(scene: Scene) -> None:
    """The Sweeper is killed in the middle of a lane, four times"""
    _kill_in_each_wave(scene, "StartExecution", f"{scene.name}-lane", STARTS_BEFORE_KILL)


@drill(limit_seconds=10)
def sweeper_killed_before_deletes(scene: Scene) -> None:
    """The Sweeper is killed between starting events and deleting them, four times"""
    _kill_in_each_wave(scene, "BatchWriteItem", '"lane-', 0)


def _kill_in_each_wave(scene: Scene, operation: str, text: str, after: int) -> None:
    when = once_in(WAVE_SECONDS / 2, at_most=WAVES, after=after)
    with scene.broken(Fault(kill, {operation}, scene.sweeper, text, when)):
        for lane in lanes()[:WAVES]:
            scene.publish_in_lane(lane, WAVE_LANE, _in_seconds(20))
            scene.publish_all(scene.events // WAVES)
            time.sleep(WAVE_SECONDS)
        scene.settle()


@drill(limit_seconds=10)
def delegated_lane_lost(scene: Scene) -> None:
    """A lane's own invocation of the Sweeper is accepted and never runs"""
    with scene.broken(Fault(lose_invocation, {"Invoke"}, scene.sweeper)):
        scene.publish_in_lane(lanes()[0], CROWD, _in_seconds(40))
        scene.settle()


@drill(limit_seconds=10)
def delegated_lane_killed(scene: Scene) -> None:
    """A lane's own invocation of the Sweeper is killed in the middle of the lane"""
    delegate = KillDelegate(after=CROWD // 4)
    with scene.broken(
        Fault(delegate.watch, {"Invoke"}, scene.sweeper), Fault(delegate.kill, {"StartExecution"}, scene.sweeper)
    ):
        scene.publish_in_lane(lanes()[0], CROWD, _in_seconds(40))
        scene.settle()
    if not delegate.kills:
        scene.problems.append("no delegate was killed")


@drill(limit_seconds=10)
def ingest_killed(scene: Scene) -> None:
    """Ingest is killed in the middle of a batch, four times"""
    when = once_in(WAVE_SECONDS / 2, at_most=WAVES, after=3)
    with scene.broken(Fault(kill_later, {"StartExecution"}, scene.ingest, when=when)):
        for _ in range(WAVES):
            with scene.ingest_stopped():
                scene.publish_all(scene.events // WAVES)
            time.sleep(WAVE_SECONDS)
        scene.settle()


@drill()
def express_stopped(scene: Scene) -> None:
    """The emulator is stopped with all running executions, and started again with its state"""
    scene.publish_all()
    time.sleep(1)
    scene.stack.restart()
    scene.stack.start_sweep()
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


# --- Calls that hang --------------------------------------------------------------------------------------------------


@drill()
def starts_hang(scene: Scene) -> None:
    """One StartExecution of Ingest and one of the Sweeper hang"""
    scene.publish_all()  # The fifth event is parked; one more is due soon.
    near = scene.event(f"{scene.name}-near", _in_seconds(4))
    parked = f"{scene.name}-0-0004"
    hanging = [entry.execution for entry in scene.ledger if entry.key == parked]
    with scene.broken(
        Fault(hang, {"StartExecution"}, scene.sweeper, text=hanging[0], when=first(ATTEMPTS)),
        Fault(hang, {"StartExecution"}, scene.ingest, text=near["payload"], when=first(ATTEMPTS)),
    ):
        scene.publish([near])
        scene.settle()
    hanging += [entry.execution for entry in scene.ledger if entry.key == near["payload"]]
    _limit(scene, 8, hanging)


@drill()
def query_hangs(scene: Scene) -> None:
    """One Query of a lane with events due hangs"""
    scene.publish_all()
    lane, executions = _busiest_lane(scene)
    due = min(entry.due for entry in scene.ledger if entry.execution == executions[0])
    time.sleep(max((due - datetime.now(UTC)).total_seconds() - scene.horizon_seconds, 0))
    with scene.broken(Fault(hang, {"Query"}, scene.sweeper, text=f'"{lane}"', when=first(ATTEMPTS))):
        scene.settle()
    _limit(scene, 8, executions)


@drill(limit_seconds=8)
def publish_hangs(scene: Scene) -> None:
    """One Publish of the workflow hangs"""
    hang_publish(scene.stack, scene.target)
    scene.publish_all()
    scene.settle()
    failures = scene.failed_attempts("States.Timeout")
    if failures != 1:
        scene.problems.append(f"{failures} attempts to publish hung, instead of one")


@drill(limit_seconds=1.5 + USUAL_SECONDS)
def hold_hangs(scene: Scene) -> None:
    """Every process of Hold is stopped, so that its calls hang"""
    soon = _in_seconds(6) + timedelta(milliseconds=100)
    with scene.frozen(scene.stack.physical_id("Hold")):
        events = [scene.event(f"{scene.name}-{n}", soon + timedelta(seconds=n / 2 + n % 9 / 10)) for n in range(40)]
        scene.publish(events)
        scene.settle()


# --- Throttling, lost responses, SNS ----------------------------------------------------------------------------------


@drill()
def lane_throttled(scene: Scene) -> None:
    """DynamoDB throttles every call for one lane for a minute"""
    scene.publish_all()
    fault_ends_at = time.monotonic() + FAULT_SECONDS
    lane, _ = _busiest_lane(scene)
    with scene.broken(Fault(throttle, {"Query", "BatchWriteItem"}, scene.sweeper, text=f'"{lane}"')):
        time.sleep(fault_ends_at - time.monotonic())
        held_up = scene.parked()[lane]
    if not held_up:
        scene.problems.append(f"the fault did not delay any event in {lane}")
    scene.settle()
    _limit(scene, FAULT_SECONDS, held_up)


@drill()
def calls_throttled(scene: Scene) -> None:
    """Every second call is throttled, and the first ten batches of deletes are left unprocessed"""
    batches = Fault(leave_unprocessed, {"BatchWriteItem"}, when=first(10))
    operations = {"StartExecution", "PutItem", "UpdateItem", "DeleteItem", "Query"}
    with scene.broken(batches, Fault(throttle, operations, when=every(2))):
        scene.publish_all()
        scene.settle()


@drill()
def responses_lost(scene: Scene) -> None:
    """Every third call takes effect, but its response is lost"""
    with scene.broken(Fault(lose_answer, when=every(3))):
        scene.publish_all()
        scene.settle()


@drill()
def sns_down(scene: Scene) -> None:
    """SNS Publish fails in the workflow for a minute"""
    with scene.proxy.inject(Fault(run_test_case, {"StartExecution"})):
        with sns_unavailable(scene.stack, scene.outputs["DeliverArn"]):
            scene.publish_all()
            time.sleep(FAULT_SECONDS)
        scene.settle(RETRY_PATIENCE_SECONDS)
    failures = scene.failed_attempts(SNS_ERROR)
    if not failures:
        scene.problems.append("no attempt to publish failed")
    scene.notes.append(f"{failures} attempts to publish failed")


# --- The whole --------------------------------------------------------------------------------------------------------


@drill()
def burst(scene: Scene) -> None:
    """5,000 events due in the same second"""
    due, slow_before = _in_seconds(90), scene.proxy.slow_calls
    scene.publish([scene.event(f"burst-{number:05}", due) for number in range(BURST)])
    scene.settle(BURST_PATIENCE_SECONDS)
    slow = scene.proxy.slow_calls - slow_before
    scene.notes.append(f"the emulator took more than {READ_SECONDS} s for {slow} calls, so the functions repeated them")


@drill()
def upgrade(scene: Scene) -> None:
    """An upgrade from the last release, and back, while events flow"""
    upgrade_and_back(scene)


def _in_seconds(seconds: int) -> datetime:
    return datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=seconds)


def _busiest_lane(scene: Scene) -> tuple[str, list[str]]:
    """The lane with the most parked events, and their executions, once all events are parked."""
    scene.wait_for_ingest()
    return max(scene.parked().items(), key=lambda item: len(item[1]))


def _limit(scene: Scene, seconds: float, concerned: list[str]) -> None:
    """Limit the lateness of the executions that the fault concerns, and that of all others."""
    scene.ledger.limit(UNCONCERNED_SECONDS)
    scene.ledger.limit(seconds, concerned)
    others = [entry.execution for entry in scene.ledger if entry.execution not in concerned]
    late, others_late = scene.ledger.latest_seconds(concerned), scene.ledger.latest_seconds(others)
    scene.notes.append(
        f"the fault concerned {len(concerned)} events, at most {late:.1f} s late (limit: {seconds} s); "
        f"the others were at most {others_late:.1f} s late (limit: {UNCONCERNED_SECONDS} s)"
    )
