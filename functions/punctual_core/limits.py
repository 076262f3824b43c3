"""What SNS, SQS and Step Functions accept: sizes, characters, names. Pure."""

import json
import re
from typing import Any

# SNS Publish, StartExecution and every state of an execution take 256 KiB. A failure report carries the event and the
# reason, so 4 KiB stay free for the reason: whatever can be scheduled can be reported.
MESSAGE_BYTES = 256 * 1024
INPUT_BYTES = MESSAGE_BYTES - 4 * 1024

# With more than 10 message attributes SNS silently discards a delivery to a queue that is subscribed with raw delivery
# (docs.aws.amazon.com/sns/latest/dg/sns-message-attributes.html). Two of the ten are Punctual's.
ID_ATTRIBUTE, DATE_ATTRIBUTE = "scheduler-id", "scheduler-date"
MAX_PUBLISHER_ATTRIBUTES = 10 - 2

# Deeper than any event needs to be, and far from the depth at which Python's JSON reader or writer gives up: at some
# depths a message can be read and not written, so that it could neither be scheduled nor reported.
MAX_NESTING = 100

# docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html: any other character is
# InvalidMessageContents. SNS silently discards a delivery that a raw subscriber's queue refuses.
_NOT_IN_SQS = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# SNS accepts a tab in an attribute's value, and the delivery to SQS is lost.
_NOT_PRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f]")

ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
ID_RULE = "must be 1 to 64 characters of A-Z, a-z, 0-9, _ and -"
TOPIC_ARN = re.compile(r"arn:(aws[a-z-]*):sns:([a-z0-9-]+):[0-9]{12}:[A-Za-z0-9_-]{1,256}(\.fifo)?")
# docs.aws.amazon.com/sns/latest/dg/sns-message-attributes.html: name. SNS takes 256 characters, SQS 255.
# Without (?i:...), which JavaScript does not know: the pattern is part of schemas/.
_RESERVED = r"[Aa][Ww][Ss]\.|[Aa][Mm][Aa][Zz][Oo][Nn]\."
ATTRIBUTE_NAME = re.compile(rf"(?!{_RESERVED})(?!\.)(?!.*\.\.)[A-Za-z0-9_.-]{{1,255}}(?<!\.)")
# docs.aws.amazon.com/sns/latest/api/API_Publish.html: Subject, MessageGroupId
SUBJECT = re.compile(r"[!-~][ -~]{0,98}")
GROUP_ID = re.compile(r"[!-~]{1,128}")


def unsendable_character(text: str) -> str | None:
    """The first character that SQS refuses, as in `U+0001`; None if there is none."""
    return _code_point(_NOT_IN_SQS.search(text))


def unprintable_character(text: str) -> str | None:
    """The first control character, as in `U+0009`; None if there is none."""
    return _code_point(_NOT_PRINTABLE.search(text))


def nesting(value: Any) -> int:
    """How many levels of objects and arrays a JSON value has. Not recursive, so any depth can be counted."""
    depth, level = 0, [value]
    while level := [item for item in level if isinstance(item, dict | list)]:
        depth += 1
        level = [inner for item in level for inner in (item.values() if isinstance(item, dict) else item)]
    return depth


def as_json(value: Any) -> str:
    """Compact JSON that SQS and SNS accept, whatever the value: characters that SQS refuses are escaped.

    Everything else stays UTF-8, which is how AWS counts sizes: escaping all that is not ASCII would double the size of
    many texts, and an event that could be scheduled could be too large for its report.
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return _NOT_IN_SQS.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _code_point(match: re.Match[str] | None) -> str | None:
    return f"U+{ord(match[0]):04X}" if match else None
