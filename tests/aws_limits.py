"""What AWS refuses and moto does not: limits in the service models that botocore does not check, and documented ones.

botocore checks names, types, required parameters and minima. Its models also have maxima and enumerations.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

from botocore.model import OperationModel, Shape

KIB = 1024


def violations(operation: OperationModel, parameters: dict[str, Any]) -> list[str]:
    """What AWS would refuse in a call, each as a sentence."""
    found = [*_of_shape(operation.input_shape, parameters, operation.name)]
    if check := DOCUMENTED.get(operation.name):
        found += [f"{operation.name}: {what}" for what in check(parameters)]
    return found


def _of_shape(shape: Shape, value: Any, path: str) -> Iterator[str]:
    """Where a value has more than its shape allows."""
    most, allowed = shape.metadata.get("max"), shape.metadata.get("enum")
    size = value if isinstance(value, int | float) else len(value) if hasattr(value, "__len__") else 0
    if most is not None and size > most:
        yield f"{path} has {size}, of which {most} are allowed"
    if allowed and value not in allowed:
        yield f"{path} is {value!r}, which is not one of {allowed}"
    if shape.name == "AttributeValue" and value.get("NULL") is False:
        yield f"{path}: DynamoDB's NULL is always true"
    match shape.type_name:
        case "structure":
            for name, inner in value.items():
                yield from _of_shape(shape.members[name], inner, f"{path}.{name}")
        case "list":
            for inner in value:
                yield from _of_shape(shape.member, inner, f"{path}[]")
        case "map":
            for inner in value.values():
                yield from _of_shape(shape.value, inner, f"{path}{{}}")


def _batch_write_item(parameters: dict[str, Any]) -> Iterator[str]:
    # API_BatchWriteItem: at most 25 requests in all, and no two for the same item.
    requests = [request for table in parameters["RequestItems"].values() for request in table]
    if len(requests) > 25:
        yield f"{len(requests)} requests, of which 25 are allowed"
    if len({repr(request) for request in requests}) < len(requests):
        yield "two requests for one item"


def _start_execution(parameters: dict[str, Any]) -> Iterator[str]:
    # API_StartExecution: 262,144 bytes in UTF-8. With logs in CloudWatch, a name has only these characters.
    if len(parameters["input"].encode()) > 256 * KIB:
        yield "input of more than 256 KiB"
    if not re.fullmatch(r"[0-9A-Za-z_-]{1,80}", parameters["name"]):
        yield f"name {parameters['name']!r}"


def _put_item(parameters: dict[str, Any]) -> Iterator[str]:
    # Service quotas of DynamoDB: an item has at most 400 KB, names included; a sort key 1,024 bytes.
    sizes = [len(name.encode()) + len(str(*value.values()).encode()) for name, value in parameters["Item"].items()]
    if sum(sizes) > 400 * KIB:
        yield f"an item of {sum(sizes)} bytes"


def _publish(parameters: dict[str, Any]) -> Iterator[str]:
    # API_Publish: message and attributes have 256 KiB together. sns-message-attributes: at most 10 reach a queue.
    attributes = parameters.get("MessageAttributes", {})
    sizes = [
        len(name.encode()) + sum(len(str(part).encode()) for part in value.values())
        for name, value in attributes.items()
    ]
    if len(parameters["Message"].encode()) + sum(sizes) > 256 * KIB:
        yield "a message of more than 256 KiB"
    if not parameters["Message"]:
        yield "an empty message"
    if len(attributes) > 10:
        yield f"{len(attributes)} attributes"
    if len(parameters.get("Subject", "")) >= 100:
        yield "a subject of 100 characters"


def _send_message(parameters: dict[str, Any]) -> Iterator[str]:
    # The queues of the stack take what SNS takes. API_SendMessage: some characters are refused.
    if len(parameters["MessageBody"].encode()) > 256 * KIB:
        yield "a message of more than 256 KiB"
    if re.search("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", parameters["MessageBody"]):
        yield "a character that SQS refuses"


def _change_message_visibility(parameters: dict[str, Any]) -> Iterator[str]:
    if not 0 <= parameters["VisibilityTimeout"] <= 43_200:  # API_ChangeMessageVisibility
        yield f"a visibility timeout of {parameters['VisibilityTimeout']} s"


def _change_message_visibility_batch(parameters: dict[str, Any]) -> Iterator[str]:
    # API_ChangeMessageVisibilityBatch: at most ten entries, whose ids differ.
    entries = parameters["Entries"]
    if not 1 <= len({entry["Id"] for entry in entries}) == len(entries) <= 10:
        yield f"{len(entries)} entries"
    for entry in entries:
        yield from _change_message_visibility(entry)


def _receive_message(parameters: dict[str, Any]) -> Iterator[str]:
    if not 1 <= parameters.get("MaxNumberOfMessages", 1) <= 10:  # API_ReceiveMessage
        yield f"{parameters['MaxNumberOfMessages']} messages"
    if not 0 <= parameters.get("WaitTimeSeconds", 0) <= 20:
        yield f"a wait of {parameters['WaitTimeSeconds']} s"


def _invoke(parameters: dict[str, Any]) -> Iterator[str]:
    if len(parameters.get("Payload", "")) > 256 * KIB:  # Lambda's quotas: an asynchronous payload.
        yield "a payload of more than 256 KiB"


DOCUMENTED: dict[str, Callable[[dict[str, Any]], Iterator[str]]] = {
    "BatchWriteItem": _batch_write_item,
    "ChangeMessageVisibility": _change_message_visibility,
    "ChangeMessageVisibilityBatch": _change_message_visibility_batch,
    "Invoke": _invoke,
    "Publish": _publish,
    "PutItem": _put_item,
    "ReceiveMessage": _receive_message,
    "SendMessage": _send_message,
    "StartExecution": _start_execution,
}
