"""What an input message means: the message format, and the rules of time.

Pure: no AWS, no clock. `parse` turns the text of one SNS message into an `Event` or a `Cancel`, or raises `Refused`
with one readable sentence. Everything that can be wrong with an event is found here, so that nothing behind this
module has to check again.
"""

import json
import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, ValidationInfo, model_validator

# SNS Publish, StartExecution and every state of a workflow take 256 KiB. A failure report carries the event and the
# reason, so 4 KiB stay free for the reason: whatever can be scheduled can be reported.
MESSAGE_BYTES = 256 * 1024
INPUT_BYTES = MESSAGE_BYTES - 4 * 1024

# SNS drops a message with more than 10 attributes, without a word, where a queue is subscribed with raw delivery
# (docs.aws.amazon.com/sns/latest/dg/sns-message-attributes.html). Two of the ten are ours.
ID_ATTRIBUTE, DATE_ATTRIBUTE = "scheduler-id", "scheduler-date"
PUBLISHERS_ATTRIBUTES = 10 - 2

# A Wait state truncates to whole seconds. For a date with a fraction the workflow wakes at least this long before it is
# due and a function sleeps the rest: time enough for that function's cold start.
HOLD_LEAD = timedelta(seconds=0.5)
# At least this long before it is due, and less than a second more, an event asks whether it is still wanted: at a whole
# second, too. Publishers are promised two seconds: the rest is for a cancel's way through topic, queue and Ingest.
CUTOFF_LEAD = timedelta(seconds=0.5)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
CALENDAR_END = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)

# datetime.fromisoformat takes any character between date and time, cuts a fraction after six digits, and reads 18.5,
# which is half past six, as half a second past. So a fraction follows seconds, here.
_CLOCK = r"[0-9]{2}(:?[0-9]{2}(:?[0-9]{2}([.,](?P<fraction>[0-9]+))?)?)?"
ISO_8601 = re.compile(rf"[0-9W-]{{7,10}}([T ]{_CLOCK}(Z|[+-][0-9]{{2}}(:?[0-5][0-9])?)?)?")
NOT_ISO_8601 = "must be an ISO 8601 date and time, such as 2026-12-24T18:00:00Z"
ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
TOPIC_ARN = re.compile(r"arn:(aws[a-z-]*):sns:([a-z0-9-]+):[0-9]{12}:[A-Za-z0-9_-]{1,256}(\.fifo)?")
# docs.aws.amazon.com/sns/latest/dg/sns-message-attributes.html: name
ATTRIBUTE_NAME = re.compile(r"(?i:(?!aws\.|amazon\.))(?!\.)(?!.*\.\.)[A-Za-z0-9_.-]{1,256}(?<!\.)")
# docs.aws.amazon.com/sns/latest/api/API_Publish.html: Subject, MessageGroupId
SUBJECT = re.compile(r"[!-~][ -~]{0,98}")
GROUP_ID = re.compile(r"[!-~]{1,128}")


@dataclass(frozen=True)
class Rules:
    """What one stack accepts, beyond the format: its own input topic is no target, which topics may be published to
    (ARN patterns with `*` and `?`, as in IAM), and whether an event must say whom to contact."""

    input_topic: str
    allowed_topics: tuple[str, ...]
    user_required: bool = True

    def objection_to(self, topic: str) -> str | None:
        """Why this stack can't publish to the topic with this ARN, as the end of a sentence; None if it can."""
        match, own = TOPIC_ARN.fullmatch(topic), TOPIC_ARN.fullmatch(self.input_topic)
        if not match:
            return "must be the ARN of an SNS topic"
        if match.group(1, 2) != own.group(1, 2):
            return f"must be a topic of this Region ({own[2]}): SNS does not publish across Regions"
        if topic == self.input_topic:
            return "must not be the scheduler's input topic"
        if not any(re.fullmatch(_as_regex(pattern), topic) for pattern in self.allowed_topics):
            return "is not a topic that this scheduler may publish to (TargetTopicArns)"
        return None


class Refused(Exception):
    """An input message that is not an event. `error` is one readable sentence, `event` the message as received (the
    JSON value, or the text if it is none), `id` what to call it, `failure_topic` its own one if that can be used."""

    def __init__(self, error: str, event: Any, id: str, failure_topic: str | None = None):
        super().__init__(error)
        self.error, self.event, self.id, self.failure_topic = error, event, id, failure_topic


@dataclass(frozen=True)
class Event:
    """An accepted event. `revision` is the SNS MessageId of the message it came in, `id` the publisher's name for it or
    else the revision, `due` a time in UTC, `input` the JSON input of its Deliver workflow."""

    id: str
    revision: str
    due: datetime
    input: str

    @property
    def is_named(self) -> bool:
        return self.id != self.revision

    @property
    def execution_name(self) -> str:
        """What the console finds the execution by: the id, and for a named event the start of its revision. At most 80
        of `[0-9A-Za-z_-]`, which is what StartExecution takes when CloudWatch Logs are on."""
        return f"{self.id}-{self.revision[:8]}" if self.is_named else self.id


@dataclass(frozen=True)
class Cancel:
    """The publisher's word that the event called `id` is no longer wanted."""

    id: str
    revision: str


def parse(text: str, message_id: str, rules: Rules) -> Event | Cancel:
    """Read one message of the input topic: its text and its SNS MessageId. Raises `Refused` if it is neither an event
    nor a cancel."""
    try:
        message = json.loads(text, parse_float=_finite, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise Refused("the message is not JSON", text, message_id) from None
    if not isinstance(message, dict):
        raise Refused("the message is not a JSON object", message, message_id)
    model = _CancelMessage if "cancel" in message else _EventMessage
    try:
        _require_utf_8(message)
        fields = model.model_validate(message, context=rules)
        return fields.to_cancel(message_id) if "cancel" in message else fields.to_event(message, message_id)
    except ValidationError as invalid:
        error = _most_telling_error(invalid)
    except ValueError as unfit:
        error = str(unfit)
    raise Refused(error, message, _id_of(message) or message_id, _failure_topic_of(message, rules))


def instant(moment: datetime) -> str:
    """A time in UTC as ISO 8601: in whole seconds, the only form that a Wait state honours, or else in microseconds."""
    return moment.replace(tzinfo=None).isoformat() + "Z"


def as_json(value: Any) -> str:
    """Compact JSON. Text stays UTF-8, which is how AWS counts it, unless it can't be encoded: then it is escaped."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    try:
        text.encode()
    except UnicodeEncodeError:
        text = json.dumps(value, separators=(",", ":"))
    return text


# --- The two kinds of message -----------------------------------------------------------------------------------------
# A validator's ValueError is the end of a sentence that begins with the field's name.


def _date(text: str) -> datetime:
    match = ISO_8601.fullmatch(text)
    if not match:
        raise ValueError(NOT_ISO_8601)
    if len(match["fraction"] or "") > 6:
        raise ValueError("must not be finer than a microsecond")
    try:
        moment = datetime.fromisoformat(text)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except ValueError as impossible:
        if "isoformat" in str(impossible):  # the shape is wrong; otherwise such as "month must be in 1..12"
            raise ValueError(NOT_ISO_8601) from None
        raise ValueError(f"is not a date that exists: {str(impossible).split(',')[0]}") from None
    except OverflowError:
        moment = None
    if moment is None or moment > CALENDAR_END:
        raise ValueError("must be in the years 1 to 9999, in UTC")
    return moment


def _topic(arn: str, info: ValidationInfo) -> str:
    if objection := info.context.objection_to(arn):
        raise ValueError(objection)
    return arn


def _standard(arn: str) -> str:
    if arn.endswith(".fifo"):
        raise ValueError("must be a standard topic")
    return arn


def _matching(pattern: re.Pattern, otherwise: str) -> AfterValidator:
    def check(text: str) -> str:
        if not pattern.fullmatch(text):
            raise ValueError(otherwise)
        return text

    return AfterValidator(check)


def _attributes(attributes: dict[str, str]) -> dict[str, str]:
    if len(attributes) > PUBLISHERS_ATTRIBUTES:
        raise ValueError(f"must not be more than {PUBLISHERS_ATTRIBUTES}: SNS takes 10, and 2 are the scheduler's own")
    for name, value in attributes.items():
        if name in (ID_ATTRIBUTE, DATE_ATTRIBUTE):
            raise ValueError(f"must not contain {name}, which is the scheduler's own")
        if not ATTRIBUTE_NAME.fullmatch(name):
            raise ValueError(f"must have names that SNS takes, unlike '{_shown(name)}'")
        if not value:
            raise ValueError(f"must not be empty, unlike '{_shown(name)}'")
    return attributes


_Id = Annotated[str, _matching(ID, "must be 1 to 64 characters of A-Z, a-z, 0-9, _ and -")]
_Topic = Annotated[str, AfterValidator(_topic)]


class _CancelMessage(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, title="cancel")

    cancel: _Id

    def to_cancel(self, message_id: str) -> Cancel:
        return Cancel(self.cancel, message_id)


class _EventMessage(BaseModel):
    # The order is that in which problems are told. A default of None is not a valid value: null is not "absent".
    model_config = ConfigDict(extra="forbid", strict=True)

    date: Annotated[str, AfterValidator(_date)]
    payload: str
    target: _Topic
    user: str = None
    failure_topic: Annotated[_Topic, AfterValidator(_standard)] = None
    id: _Id = None
    subject: Annotated[
        str, _matching(SUBJECT, "must be less than 100 printable ASCII characters, and not begin with a space")
    ] = None
    attributes: Annotated[dict[str, str], AfterValidator(_attributes)] = None
    message_group_id: Annotated[
        str, _matching(GROUP_ID, "must be 1 to 128 letters, digits and punctuation marks of ASCII")
    ] = None

    @model_validator(mode="after")
    def _names_a_user(self, info: ValidationInfo) -> "_EventMessage":
        if self.user is None and info.context.user_required:
            raise ValueError("user is required")
        return self

    def to_event(self, message: dict, message_id: str) -> Event:
        """The event, with its workflow's input. `date` was made a time by its validator."""
        id, due = self.id or message_id, self.date
        # Long-past dates would underflow below; any past date is as late as any other.
        at = max(due, EPOCH)
        input = {
            "id": id,
            "revision": message_id,
            "due": instant(due),
            "cutoff_at": instant(_floor(at - CUTOFF_LEAD)),
            "due_rounded_up_at": instant(_ceil(at)),
            "publish": self._publish_arguments(id, message_id),
            # The payload travels once: a failure report puts it back.
            "event": {name: value for name, value in message.items() if name != "payload"},
        }
        if at.microsecond:
            input["wake_at"] = instant(_floor(at - HOLD_LEAD))
        text = as_json(input)
        if (size := len(text.encode())) > INPUT_BYTES:
            raise ValueError(f"payload is too large: with its envelope {size} bytes, of which {INPUT_BYTES} would fit")
        return Event(id, message_id, due, text)

    def _publish_arguments(self, id: str, message_id: str) -> dict:
        """The arguments of SNS Publish, ready to use."""
        attributes = {**(self.attributes or {}), ID_ATTRIBUTE: id, DATE_ATTRIBUTE: instant(self.date)}
        arguments = {
            "TopicArn": self.target,
            "Message": self.payload,
            "MessageAttributes": {
                name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()
            },
        }
        if self.subject is not None:
            arguments["Subject"] = self.subject
        if self.message_group_id is not None:
            arguments["MessageGroupId"] = self.message_group_id
        if self.target.endswith(".fifo"):
            arguments.setdefault("MessageGroupId", id)
            # Not the id alone: a replacement within SNS's five minutes is another message.
            arguments["MessageDeduplicationId"] = id if id == message_id else f"{id}-{message_id}"
        return arguments


# --- Saying what is wrong ---------------------------------------------------------------------------------------------


def _most_telling_error(invalid: ValidationError) -> str:
    """One sentence for the first problem: what is missing, then what is wrong, then what is unknown."""
    errors = invalid.errors(include_url=False, include_input=False)
    errors.sort(key=lambda error: error["type"] != "missing")  # sort is stable: otherwise in the order of the fields
    error = errors[0]
    field = ".".join(_shown(str(part)) for part in error["loc"] if part != "[key]")
    match error["type"]:
        case "missing":
            return f"{field} is required"
        case "extra_forbidden":
            unknown = [_shown(error["loc"][0]) for error in errors if error["type"] == "extra_forbidden"]
            told = ", ".join(unknown[:5]) + (", ..." if unknown[5:] else "")
            return f"cancel must stand alone, without {told}" if invalid.title == "cancel" else f"unknown field: {told}"
        case "string_type":
            return f"{field} must be a string"
        case "dict_type":
            return f"{field} must be an object of strings"
        case "value_error":
            return f"{field} {error['ctx']['error']}".strip()
    return f"{field}: {error['msg']}"


def _require_utf_8(message: dict) -> None:
    """JSON can escape half a surrogate pair, which no encoding can carry on."""
    for field, value in message.items():
        try:
            json.dumps([field, value], ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError(f"{_shown(field)} can't be encoded as UTF-8") from None


def _shown(name: str) -> str:
    """A publisher's word, fit for one line of any log."""
    return name.encode("unicode_escape").decode()[:64]


def _id_of(message: dict) -> str | None:
    id = message.get("id")
    return id if isinstance(id, str) and ID.fullmatch(id) else None


def _failure_topic_of(message: dict, rules: Rules) -> str | None:
    topic = message.get("failure_topic")
    usable = isinstance(topic, str) and not rules.objection_to(topic) and not topic.endswith(".fifo")
    return topic if usable else None


def _finite(text: str) -> float:
    """1e999 is infinite to Python, and would stand as `Infinity` in the report, which is no JSON."""
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{text} is too large")
    return number


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _as_regex(pattern: str) -> str:
    return re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")


def _floor(moment: datetime) -> datetime:
    return moment.replace(microsecond=0)


def _ceil(moment: datetime) -> datetime:
    return _floor(moment) + timedelta(seconds=1) if moment.microsecond else moment
