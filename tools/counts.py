"""What the shipped code calls and logs, counted by tests/tools/test_cost.py, multiplied by tools/cost.py."""

from punctual_core.lanes import LANES

PAYLOAD_BYTES = 100  # of JSON, in all that follows
MESSAGE_BYTES = 144  # of the JSON of a message, beside its payload
# Of Ingest, for one message. A far one is parked.
INGESTED = {
    "near": {"StartExecution": 1},
    "near, named": {"UpdateItem": 1, "StartExecution": 1},
    "far": {"PutItem": 1},
    "far, named": {"UpdateItem": 1, "PutItem": 1},
    "refused": {"Publish": 1},
    "cancel": {"UpdateItem": 1},
}
# Of an invocation of Ingest, whatever its batch holds; and the bytes of its log, for one message and for ten.
BATCH_CALLS = {"ChangeMessageVisibilityBatch": 1}
INGEST_LOG_BYTES = {1: 218, 10: 254}
# Of a parked event's item, and for each further byte of payload.
ITEM_BYTES = {"far": 865, "far, named": 938}
ITEM_PER_BYTE = 1.22
# Of an execution of Deliver. Bytes at level ALL, with the headers of AWS's answers, which are believed.
DELIVERED = {"whole second": {"getItem": 1, "publish": 1}, "fraction": {"getItem": 1, "invoke": 1, "publish": 1}}
LOG_BYTES = {"whole second": 11061, "fraction": 13333}
LOG_PER_BYTE = 5.01
# Of a sweep that finds nothing, and what each lane with something to start and each started event add. It logs nothing.
SWEEP_CALLS = {"Query": LANES}
LANE_CALLS = {"Query": 1, "UpdateItem": 1, "BatchWriteItem": 1, "DeleteItem": 1}
EVENT_CALLS = {"StartExecution": 1}
# Of an execution of Sweep, beside its ticks. It logs nothing, because its log level is ERROR or lower.
MINUTE_CALLS = {"putItem": 1, "getItem": 1}
MINUTE_WAIT_SECONDS = 62
METRICS = {"Canceled", "Parked", "Refused", "Started", "SweepStarts"}
