"""What the shipped code calls and logs, counted by tests/tools/test_cost.py, multiplied by tools/cost.py."""

from dataclasses import dataclass

from punctual_core.lanes import LANES


@dataclass(frozen=True)
class Count:
    """What one message makes Ingest do, or one execution of Deliver do: calls by their names, and bytes.

    Item and log bytes are those of PAYLOAD_BYTES of JSON, and how much each further byte of payload adds.
    """

    calls: dict[str, int]
    item_bytes: int = 0
    item_per_byte: float = 0
    log_bytes: int = 0  # at level ALL; with the headers of AWS's answers, which are believed
    log_per_byte: float = 0
    error_log_bytes: int = 0  # at levels ERROR and FATAL


PAYLOAD_BYTES = 100
# Of the JSON of a message beside its payload.
MESSAGE_BYTES = 144
INGESTED = {
    "near": Count({"StartExecution": 1}),
    "near, named": Count({"UpdateItem": 1, "StartExecution": 1}),
    "far": Count({"PutItem": 1}, 865, 1.22),
    "far, named": Count({"UpdateItem": 1, "PutItem": 1}, 938, 1.22),
    "refused": Count({"Publish": 1}),
    "cancel": Count({"UpdateItem": 1}),
}
DELIVERED = {
    "whole second": Count({"getItem": 1, "publish": 1}, 0, 0, 11061, 5.01),
    "fraction": Count({"getItem": 1, "invoke": 1, "publish": 1}, 0, 0, 13333, 5.01),
    "canceled": Count({"getItem": 1}, 0, 0, 7829, 3.34),
    "not delivered": Count({"getItem": 1, "publish": 2}, 0, 0, 14646, 6.68, 1512),
}
# Of an invocation of Ingest, whatever its batch holds.
INGEST_CALLS = {"ChangeMessageVisibilityBatch": 1}
# Of a sweep that finds nothing, and what each lane with something to start and each started event add.
SWEEP_CALLS = {"Query": LANES}
LANE_CALLS = {"Query": 1, "UpdateItem": 1, "BatchWriteItem": 1, "DeleteItem": 1}
EVENT_CALLS = {"StartExecution": 1}
# Of an execution of Sweep, beside its ticks; it logs nothing, because its log level is ERROR or lower.
MINUTE_CALLS = {"putItem": 1, "getItem": 1}
MINUTE_WAIT_SECONDS = 62
# Bytes that an invocation of Ingest logs, for one message and for ten: its metrics. A sweep that finds nothing logs
# nothing.
INGEST_LOG_BYTES = {1: 218, 10: 254}
METRICS = {"Canceled", "Parked", "Refused", "Started", "SweepStarts"}
