"""MiniStack with three corrections to its SNS, with which deliveries, lateness, and the probe are as on AWS, one to the
permissions of SQS, one to its end, and the faults of workflows that the drills need.

The emulator's own Python runs this file in place of `-m ministack`.
"""

import asyncio.constants
import json
import os
import time
from datetime import UTC, datetime
from typing import Any

# In the emulator's environment, not in that of the development tools, which mypy sees.
import hypercorn.asyncio  # type: ignore[import-not-found]
from ministack.app import main  # type: ignore[import-not-found]
from ministack.core import iam_actions  # type: ignore[import-not-found]
from ministack.core.iam_evaluator import pin_request_origin  # type: ignore[import-not-found]
from ministack.services import eventbridge, sns, stepfunctions  # type: ignore[import-not-found]

parse_flat_attributes, build_envelope = sns._parse_message_attributes, sns._build_envelope
publish_for_schedule, serve = eventbridge._dispatch_to_sns, hypercorn.asyncio.serve
extract_iam_action = iam_actions.extract_iam_action
invoke_resource = stepfunctions._invoke_resource


def message_attributes(params: dict[str, Any]) -> Any:
    """A workflow's Publish has an object, which was dropped; an SDK's has `MessageAttributes.entry.N`."""
    attributes = params.get("MessageAttributes")
    return attributes if isinstance(attributes, dict) else parse_flat_attributes(params)


def envelope_with_milliseconds(*arguments: Any) -> Any:
    """SNS's timestamps have milliseconds. These were whole seconds, so that what was on time looked early."""
    text = build_envelope(*arguments)
    *_, is_raw = arguments
    if is_raw:
        return text
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return json.dumps(json.loads(text) | {"Timestamp": now})


def publish_for_schedule_by_tls(*arguments: Any) -> None:
    """A schedule publishes by TLS. Without it the policy of the input queue refuses what is published."""
    pin_request_origin("127.0.0.1", True)
    publish_for_schedule(*arguments)


def permission_of(service: str, *arguments: Any, **options: Any) -> str | None:
    """SQS has no permission for a batch, such as sqs:ChangeMessageVisibilityBatch: that of one message counts
    (docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-api-permissions-reference.html)."""
    action: str | None = extract_iam_action(service, *arguments, **options)
    return action.removesuffix("Batch") if action and service == "sqs" else action


def invoke_or_fail(resource: str, arguments: dict[str, Any]) -> Any:
    """A workflow's call fails, or hangs, as often as the mock configuration says for its resource, topic, or function
    (tools/drills/faults.py)."""
    faults = stepfunctions._sfn_mock_config.get("Faults", {})
    for name in faults.keys() & {resource, arguments.get("TopicArn"), arguments.get("FunctionName")}:
        if faults[name]["calls"]:
            faults[name]["calls"] -= 1
            if error := faults[name]["error"]:
                raise stepfunctions._ExecutionError(error, "Injected")
            time.sleep(3600)
    return invoke_resource(resource, arguments)


# A client that keeps its connection does not answer the end of TLS. Until it does, or for 30 s, no state is written.
asyncio.constants.SSL_SHUTDOWN_TIMEOUT = 1.0


async def serve_and_exit(*arguments: Any) -> None:
    """Serve until SIGTERM, and exit at once: the state is written by then. Otherwise Python would wait for the threads
    that sleep for a Wait state, some of them for a minute."""
    await serve(*arguments)
    os._exit(0)


sns._parse_message_attributes, sns._build_envelope = message_attributes, envelope_with_milliseconds
eventbridge._dispatch_to_sns, hypercorn.asyncio.serve = publish_for_schedule_by_tls, serve_and_exit
stepfunctions._invoke_resource, iam_actions.extract_iam_action = invoke_or_fail, permission_of

if __name__ == "__main__":
    main()
