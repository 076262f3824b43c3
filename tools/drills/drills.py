"""The drills. Each injects a fault, publishes, and ends the fault; its docstring is its title in the results.

The stack runs as it is shipped: no drill changes a setting. Where docs/delivery.md promises how late a fault makes an
event at most, that is the drill's limit.
"""

import math
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from punctual_core.clients import ATTEMPTS
from punctual_core.lanes import lanes

from tools.drills import faults
from tools.drills.proxy import Fault, FaultProxy
from tools.drills.scenes import Scene
from tools.drills.upgrade import upgrade_and_back

# What a delivery takes without a fault, at most, on an emulator that shares a machine with nothing else.
USUAL_SECONDS = 0.5
# A fault of one part lasts this long: all events of its drill are due within half of it.
FAULT_SECONDS = 60
# An event that fails three times within FAULT_SECONDS is parked for up to two minutes after that.
RETRY_PATIENCE_SECONDS = 240
# Kills are so far apart that one ends before the next, and each wave of events meets one: when so many starts of a lane
# have been made.
WAVES, WAVE_SECONDS, WAVE_LANE, STARTS_BEFORE_KILL = 4, 25, 30, 10
# Events of one lane, due at once: enough for an invocation of its own.
CROWD = 200


def no_fault(scene: Scene) -> None:
    """No fault"""
    scene.publish_all()
    scene.settle()


# --- Processes that die -----------------------------------------------------------------------------------------------


def sweeper_killed_in_lane(scene: Scene) -> None:
    """The Sweeper is killed in the middle of a lane, four times"""
    _kill_in_each_wave(scene, "StartExecution", f"{scene.name}-lane", STARTS_BEFORE_KILL)


def sweeper_killed_before_deletes(scene: Scene) -> None:
    """The Sweeper is killed between starting events and deleting them, four times"""
    _kill_in_each_wave(scene, "BatchWriteItem", '"lane-', 0)


def _kill_in_each_wave(scene: Scene, operation: str, text: str, after: int) -> None:
    when = faults.once_in(WAVE_SECONDS / 2, at_most=WAVES, after=after)
    with scene.broken(Fault(faults.kill, {operation}, scene.sweeper, text, when)):
        for lane in lanes()[:WAVES]:
            scene.publish_in_lane(lane, WAVE_LANE, _in_seconds(20))
            scene.publish_all(scene.events // WAVES)
            time.sleep(WAVE_SECONDS)
        scene.settle()


def delegates_lost(scene: Scene) -> None:
    """Of two lanes' own invocations of the Sweeper, one never runs, and one is killed in the middle of its lane"""
    first_lane, second_lane = lanes()[:2]
    lost = Fault(faults.lose_invocation, {"Invoke"}, scene.sweeper, first_lane)
    delegated = Fault(FaultProxy.forward, {"Invoke"}, scene.sweeper, second_lane)

    def is_in_the_middle(number: int) -> bool:
        """Only its own invocation starts events of a lane that was just delegated."""
        return bool(delegated.hits) and number == CROWD // 4

    killed = Fault(faults.kill, {"StartExecution"}, scene.sweeper, f"{scene.name}-{second_lane}", is_in_the_middle)
    with scene.broken(lost, delegated, killed):
        for lane in (first_lane, second_lane):
            scene.publish_in_lane(lane, CROWD, _in_seconds(40))
        scene.settle()


def ingest_killed(scene: Scene) -> None:
    """Ingest is killed in the middle of a batch, four times"""
    when = faults.once_in(WAVE_SECONDS / 2, at_most=WAVES, after=3)
    with scene.broken(Fault(faults.kill_later, {"StartExecution"}, scene.ingest, when=when)):
        for _ in range(WAVES):
            with scene.ingest_stopped():
                scene.publish_all(scene.events // WAVES)
            time.sleep(WAVE_SECONDS)
        scene.settle()


def express_stopped(scene: Scene) -> None:
    """The emulator is stopped with all running executions, and started again with its state"""
    scene.publish_all()
    time.sleep(1)
    scene.stack.restart()
    scene.stack.start_sweep()
    executions = scene.stack.executions(scene.outputs["DeliverArn"])
    failed = [execution["executionArn"] for execution in executions if execution["status"] == "FAILED"]
    ends = (scene.steps.describe_execution(executionArn=execution) for execution in failed)
    scene.ledger.interrupt([end["name"] for end in ends if end.get("error") == "States.ServiceRestart"])
    scene.settle()


# --- Calls that hang --------------------------------------------------------------------------------------------------


def calls_hang(scene: Scene) -> None:
    """One StartExecution of Ingest, one of the Sweeper, and one Query of a lane with events due hang"""
    scene.publish_all()
    lane, executions = _busiest_lane(scene)
    due = min(entry.due for entry in scene.ledger.values() if entry.execution in executions)
    time.sleep(max((due - datetime.now(UTC)).total_seconds() - scene.horizon_seconds, 0))
    near, far = (scene.event(f"{scene.name}-in-{seconds}", _in_seconds(seconds)) for seconds in (4, 20))
    with scene.broken(
        Fault(faults.hang, {"Query"}, scene.sweeper, f'"{lane}"', faults.first(ATTEMPTS)),
        Fault(faults.hang, {"StartExecution"}, scene.ingest, near["payload"], faults.first(ATTEMPTS)),
        Fault(faults.hang, {"StartExecution"}, scene.sweeper, far["payload"], faults.first(ATTEMPTS)),
    ):
        executions += scene.publish([near, far])
        scene.settle()
    scene.ledger.concern(executions)


def publish_hangs(scene: Scene) -> None:
    """One Publish of the workflow hangs"""
    with faults.workflows_broken(scene.stack, scene.target, calls=1):
        scene.publish_all()
        scene.settle()
    scene.expect_failures(faults.TIMEOUT, 1)


def hold_hangs(scene: Scene) -> None:
    """Every call of Hold hangs"""
    soon = _in_seconds(6) + timedelta(milliseconds=100)
    events = [scene.event(f"{scene.name}-{n}", soon + timedelta(seconds=n / 2 + n % 9 / 10)) for n in range(40)]
    hold = scene.lambdas.get_function_configuration(FunctionName=scene.stack.physical_id("Hold"))
    with faults.workflows_broken(scene.stack, hold["FunctionArn"]):
        scene.publish(events)
        scene.settle()
    scene.expect_failures(faults.TIMEOUT)


# --- Throttling, lost responses, SNS ----------------------------------------------------------------------------------


def lane_throttled(scene: Scene) -> None:
    """DynamoDB throttles every call for one lane for a minute"""
    scene.publish_all()
    fault_ends_at = time.monotonic() + FAULT_SECONDS
    lane, _ = _busiest_lane(scene)
    with scene.broken(Fault(faults.throttle, {"Query", "BatchWriteItem"}, scene.sweeper, text=f'"{lane}"')):
        time.sleep(fault_ends_at - time.monotonic())
        held_up = scene.parked()[lane]
    if not held_up:
        scene.problems.append(f"the fault did not delay any event in {lane}")
    scene.settle()
    scene.ledger.concern(held_up)


def calls_fail(scene: Scene) -> None:
    """Of the calls, one in four is throttled, and one in four loses its response; ten batches are left unprocessed"""
    throttled = {"StartExecution", "PutItem", "UpdateItem", "DeleteItem", "Query"}
    with scene.broken(
        Fault(faults.leave_unprocessed, {"BatchWriteItem"}, when=faults.first(10)),
        Fault(faults.throttle, throttled, when=faults.every(4)),
        Fault(faults.lose_answer, when=faults.every(4)),
    ):
        scene.publish_all()
        scene.settle()


def sns_down(scene: Scene) -> None:
    """SNS Publish fails in the workflow for a minute"""
    with faults.workflows_broken(scene.stack, faults.SNS_PUBLISH, faults.SNS_ERROR):
        scene.publish_all()
        time.sleep(FAULT_SECONDS)
    scene.settle(RETRY_PATIENCE_SECONDS)
    scene.expect_failures(faults.SNS_ERROR)


def _in_seconds(seconds: int) -> datetime:
    return datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=seconds)


def _busiest_lane(scene: Scene) -> tuple[str, list[str]]:
    """The lane with the most parked events, and their executions, once all events are parked."""
    scene.wait_for_ingest()
    return max(scene.parked().items(), key=lambda item: len(item[1]))


type Drill = Callable[[Scene], None]
# Each drill, and how many seconds late the events may be that its fault concerns.
DRILLS: dict[Drill, float] = {
    no_fault: math.inf,
    sweeper_killed_in_lane: 10,
    sweeper_killed_before_deletes: 10,
    delegates_lost: 10,
    ingest_killed: 10,
    calls_hang: 8,
    publish_hangs: 8,
    hold_hangs: 1.5 + USUAL_SECONDS,
    lane_throttled: FAULT_SECONDS,
    calls_fail: math.inf,
    sns_down: math.inf,
    express_stopped: math.inf,
    upgrade_and_back: math.inf,
}
