"""The drills' faults: which calls they happen to, and what the caller gets."""

import json

import pytest

from tools.drills import faults
from tools.drills.faults import Answer, Call, Fault, LimitedWrites, every, first, leave_unprocessed, throttle

WRITES = [{"DeleteRequest": {"Key": {"due": {"S": str(number)}}}} for number in range(10)]


def call(operation: str = "Query", function: str = "stack-Sweeper-1", service: str = "dynamodb", **arguments) -> Call:
    return Call(service, operation, function, 1, {}, "/", json.dumps(arguments).encode())


def delete(requests: list) -> Call:
    return call("BatchWriteItem", RequestItems={"parked": requests})


class Emulator:
    """Processes every write, and remembers the calls."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def forward(self, call: Call) -> Answer:
        self.calls.append(call)
        return Answer(200, {"x-amz-crc32": "1"}, b'{"UnprocessedItems": {}}')


@pytest.fixture
def emulator() -> Emulator:
    return Emulator()


@pytest.fixture
def clock(monkeypatch):
    """Sets the time that the faults see."""

    def set_to(seconds: float) -> None:
        monkeypatch.setattr(faults.time, "monotonic", lambda: seconds)

    set_to(0)
    return set_to


def unprocessed(answer: Answer) -> list:
    return json.loads(answer.body)["UnprocessedItems"].get("parked", [])


def test_a_fault_happens_to_calls_of_its_operations_functions_and_text():
    fault = Fault(throttle, {"Query"}, "Sweeper", '"lane-07"')
    assert fault.matches(call(lane="lane-07"))
    assert not fault.matches(call(lane="lane-08"))
    assert not fault.matches(call("PutItem", lane="lane-07"))
    assert not fault.matches(call(function="stack-Ingest-1", lane="lane-07"))
    assert (fault.calls, fault.hits) == (1, 1)


def test_a_fault_without_restrictions_happens_to_every_call():
    fault = Fault(throttle)
    assert fault.matches(call())
    assert fault.matches(call("PutItem"))


def test_a_fault_can_happen_to_the_first_calls_only():
    fault = Fault(throttle, when=first(2))
    assert [fault.matches(call()) for _ in range(4)] == [True, True, False, False]
    assert (fault.calls, fault.hits) == (4, 2)


def test_a_fault_can_happen_to_every_third_call_a_limited_number_of_times():
    fault = Fault(throttle, when=every(3, at_most=2))
    hits = [number for number in range(1, 13) if fault.matches(call())]
    assert hits == [3, 6]


def test_throttling_is_an_error_in_the_format_of_the_service(emulator):
    assert json.loads(throttle(emulator, call()).body)["__type"] == "ThrottlingException"
    assert b"<Code>ThrottlingException</Code>" in throttle(emulator, call(service="sns")).body
    assert emulator.calls == []


def test_a_batch_can_be_left_unprocessed(emulator):
    answer = leave_unprocessed(emulator, delete(WRITES))
    assert answer.status == 200
    assert unprocessed(answer) == WRITES
    assert emulator.calls == []


def test_limited_writes_process_what_the_rate_allows_and_return_the_others(emulator, clock):
    limit = LimitedWrites(per_second=4)
    clock(1)
    answer = limit(emulator, delete(WRITES))
    assert [sent.arguments["RequestItems"]["parked"] for sent in emulator.calls] == [WRITES[:4]]
    assert unprocessed(answer) == WRITES[4:]
    assert limit.refused == 6


def test_limited_writes_fail_a_batch_of_which_nothing_can_be_processed(emulator, clock):
    limit = LimitedWrites(per_second=4)
    answer = limit(emulator, delete(WRITES))
    assert (answer.status, json.loads(answer.body)["__type"]) == (400, "ProvisionedThroughputExceededException")
    assert emulator.calls == []
    assert limit.refused == 10


def test_limited_writes_below_the_rate_are_all_processed(emulator, clock):
    limit = LimitedWrites(per_second=20)
    clock(1)
    assert unprocessed(limit(emulator, delete(WRITES))) == []
    assert limit.refused == 0


def test_limited_writes_save_up_a_second_at_most(emulator, clock):
    limit = LimitedWrites(per_second=4)
    clock(60)
    assert len(unprocessed(limit(emulator, delete(WRITES)))) == 6


def test_limited_writes_accumulate_below_one_a_second(emulator, clock):
    limit = LimitedWrites(per_second=0.5)
    clock(1)
    assert limit(emulator, delete(WRITES)).status == 400
    clock(2)
    assert len(unprocessed(limit(emulator, delete(WRITES)))) == 9


def test_a_changed_response_does_not_carry_the_checksum_of_the_original(emulator, clock):
    limit = LimitedWrites(per_second=4)
    clock(1)
    assert "x-amz-crc32" not in limit(emulator, delete(WRITES)).headers


def test_an_execution_can_be_started_with_mocked_responses(emulator):
    faults.run_test_case(emulator, call("StartExecution", service="states", stateMachineArn="arn:deliver", name="a"))
    assert emulator.calls[0].arguments == {"stateMachineArn": "arn:deliver#SnsUnavailable", "name": "a"}
