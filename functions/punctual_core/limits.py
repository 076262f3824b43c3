"""What SNS, SQS and Step Functions accept: sizes, characters, names. Pure."""

import re

# SNS Publish, StartExecution and every state of an execution take 256 KiB. A failure report carries the event and the
# reason, so 4 KiB stay free for the reason: whatever can be scheduled can be reported.
MESSAGE_BYTES = 256 * 1024
INPUT_BYTES = MESSAGE_BYTES - 4 * 1024

# With more than 10 message attributes SNS silently discards a delivery to a queue that is subscribed with raw delivery
# (docs.aws.amazon.com/sns/latest/dg/sns-message-attributes.html). Two of the ten are Punctual's, or three for a named
# event.
MAX_ATTRIBUTES = 10
ID_ATTRIBUTE, DATE_ATTRIBUTE, REVISION_ATTRIBUTE = "scheduler-id", "scheduler-date", "scheduler-revision"
# docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-message-metadata.html: Number. A queue could
# refuse others. Digits, and the exponents between which a number's size has to be.
MAX_NUMBER_DIGITS, NUMBER_EXPONENTS = 38, range(-128, 127)

# docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html: any other character is
# InvalidMessageContents. SNS silently discards a delivery that a raw subscriber's queue refuses.
NOT_IN_SQS = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
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
    return _code_point(NOT_IN_SQS.search(text))


def unprintable_character(text: str) -> str | None:
    """The first control character, as in `U+0009`; None if there is none."""
    return _code_point(_NOT_PRINTABLE.search(text))


def _code_point(match: re.Match[str] | None) -> str | None:
    return f"U+{ord(match[0]):04X}" if match else None
