"""What a message of the input topic means: the message format.

Pure: no AWS, no clock. `parse` turns the text of one SNS message into an `Event` or a `Cancel`, or raises `Refused`
with one readable sentence. Everything that can be wrong with an event is found here, so that nothing behind this
module has to check again.
"""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, cast
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from .json_text import MAX_NESTING, Number, TooLarge, as_json, from_json, nesting, texts_in
from .lanes import lane_of, sortable
from .limits import (
    ATTRIBUTE_NAME,
    DATE_ATTRIBUTE,
    GROUP_ID,
    ID,
    ID_ATTRIBUTE,
    ID_RULE,
    INPUT_BYTES,
    MAX_ATTRIBUTES,
    MAX_NUMBER_DIGITS,
    NUMBER_EXPONENTS,
    REVISION_ATTRIBUTE,
    SUBJECT,
    TOPIC_ARN,
    unprintable_character,
    unsendable_character,
)
from .times import EPOCH, EventTimes, after, instant, parse_date, parse_delay, zone


@dataclass(frozen=True)
class Rules:
    """What one stack accepts, beyond the format: which topics may be published to (ARN patterns with `*` and `?`, as in
    IAM), whether an event must name a user, and the stack's own topics, which are no targets: a publisher could make a
    loop, or forge reports and alarms. A publisher that does not know the last two leaves them out."""

    input_topic: str
    allowed_topics: tuple[str, ...]
    user_required: bool = True
    failure_topic: str | None = None
    alarm_topic: str | None = None

    def objection_to(self, topic: str, is_for_reports: bool = False) -> str | None:
        """Why this stack can't publish an event, or reports, to the topic with this ARN, as the end of a sentence; None
        if it can."""
        match, own = TOPIC_ARN.fullmatch(topic), TOPIC_ARN.fullmatch(self.input_topic)
        if not match or not own:
            return "must be the ARN of an SNS topic"
        if match.group(1, 2) != own.group(1, 2):
            return f"must be a topic of this Region ({own[2]}): SNS does not publish across Regions"
        if topic == self.input_topic:
            return "must not be the scheduler's input topic"
        if topic == self.alarm_topic:
            return "must not be the scheduler's alarm topic"
        if topic == self.failure_topic:
            return None if is_for_reports else "must not be the scheduler's failure topic"
        if not any(re.fullmatch(_as_regex(pattern), topic) for pattern in self.allowed_topics):
            return "is not a topic that this scheduler may publish to (TargetTopicArns)"
        return "must be a standard topic" if is_for_reports and topic.endswith(".fifo") else None


class Refused(Exception):
    """A message that is not an event. `error` is one readable sentence, `event` the message as received (the JSON
    value, or the text if it is not JSON), `id` the id to report it under, `failure_topic` its own one if that can be
    used."""

    def __init__(self, error: str, event: Any, id: str, failure_topic: str | None = None):
        super().__init__(error)
        self.error, self.event, self.id, self.failure_topic = error, event, id, failure_topic


@dataclass(frozen=True)
class Event:
    """An accepted event. `revision` is the SNS MessageId of the message it came in, `id` the publisher's name for it or
    else the revision, `due` a time in UTC, `input` the JSON input of its execution of Deliver."""

    id: str
    revision: str
    due: datetime
    input: str

    @property
    def is_named(self) -> bool:
        """Whether the publisher gave the event an id."""
        return self.id != self.revision

    @property
    def execution_name(self) -> str:
        """The name to find the execution by in the console: the id, and for a named event the start of its revision.

        At most 80 of `[0-9A-Za-z_-]`, which is what StartExecution takes when CloudWatch Logs are on. Deliver makes the
        same name, with the number of the retry, for an event that it parks again."""
        return f"{self.id}-{self.revision[:8]}" if self.is_named else self.id


@dataclass(frozen=True)
class Cancel:
    """A publisher's request not to deliver the event with this id."""

    id: str
    revision: str


def parse(text: str, message_id: str, accepted_at: datetime, rules: Rules) -> Event | Cancel:
    """Read one message of the input topic: its text, its SNS MessageId, and when SNS accepted it (UTC), from which a
    `delay` counts. Raises `Refused` if it is neither an event nor a cancel."""
    too_deep = Refused(f"the message is nested deeper than {MAX_NESTING} levels", text, message_id)
    try:
        message, repeated = from_json(text)
    except RecursionError:
        raise too_deep from None
    except TooLarge as number:
        raise Refused(f"the message contains a number that is too large: {number}", text, message_id) from None
    except ValueError:
        raise Refused("the message is not JSON", text, message_id) from None
    if nesting(message) > MAX_NESTING:
        raise too_deep
    if not isinstance(message, dict):
        raise Refused("the message is not a JSON object", message, message_id)
    if repeated:  # Readers of JSON differ in which one counts, so nobody knows what was meant. The report has the text.
        known = {name: value for name, value in message.items() if name not in repeated}
        error = f"{_shown(repeated[0])} must not appear twice"
        raise Refused(error, text, _id_of(known) or message_id, _failure_topic_of(known, rules))
    try:
        _require_sendable(message)
        if "cancel" in message:
            return Cancel(_CancelMessage.model_validate(message, context=rules).cancel, message_id)
        return _EventMessage.model_validate(message, context=rules).to_event(message, message_id, accepted_at)
    except ValidationError as invalid:
        error = _most_telling_error(invalid)
    except ValueError as unfit:
        error = str(unfit)
    raise Refused(error, message, _id_of(message) or message_id, _failure_topic_of(message, rules))


# --- The two kinds of message -----------------------------------------------------------------------------------------
# A validator's ValueError is the end of a sentence that begins with the field's name.


def _zone(name: object) -> ZoneInfo:
    return zone(_text(name))


def _date(text: object, info: ValidationInfo) -> datetime:
    return parse_date(_text(text), info.data.get("timezone"))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a string")
    return value


def _topic(is_for_reports: bool) -> AfterValidator:
    def check(arn: str, info: ValidationInfo) -> str:
        if objection := cast(Rules, info.context).objection_to(arn, is_for_reports):
            raise ValueError(objection)
        return arn

    return AfterValidator(check)


def _not_empty(text: str) -> str:
    if not text:
        raise ValueError("must not be empty")
    return text


def _matching(pattern: re.Pattern[str], otherwise: str) -> AfterValidator:
    def check(text: str) -> str:
        if not pattern.fullmatch(text):
            raise ValueError(otherwise)
        return text

    return AfterValidator(check)


def _attributes(attributes: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    for name, value in attributes.items():
        if name in (ID_ATTRIBUTE, DATE_ATTRIBUTE, REVISION_ATTRIBUTE):
            raise ValueError(f"must not contain {name}, which is the scheduler's own")
        if not ATTRIBUTE_NAME.fullmatch(name):
            raise ValueError(f"must have names that SNS and SQS accept, unlike '{_shown(name)}'")
        if not value["StringValue"]:
            raise ValueError(f"must not be empty, unlike '{_shown(name)}'")
        if character := unprintable_character(value["StringValue"]):
            raise ValueError(f"must be printable: '{_shown(name)}' contains {character}")
    return attributes


def _attribute(value: object) -> dict[str, str]:
    """The value of an attribute, as SNS takes it."""
    match value:
        case str():
            return _typed("String", value)
        case list() if value and all(isinstance(item, str) for item in value):
            return _typed("String.Array", as_json(value))
        case Number() | int() if not isinstance(value, bool):
            number = Decimal(value.text if isinstance(value, Number) else value)
            has_size = not number or number.adjusted() in NUMBER_EXPONENTS
            if len(number.as_tuple().digits) > MAX_NUMBER_DIGITS or not has_size:
                raise ValueError(f"must have at most {MAX_NUMBER_DIGITS} digits, and a size from 1e-128 to 1e126")
            return _typed("Number", format(number, "f"))
    raise ValueError("must be a string, a number, or an array of at least one string")


def _typed(type: str, value: str) -> dict[str, str]:
    return {"DataType": type, "StringValue": value}


_Id = Annotated[str, _matching(ID, ID_RULE)]
_Attribute = Annotated[dict[str, str], BeforeValidator(_attribute)]


class _CancelMessage(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, title="cancel")

    cancel: _Id


class _EventMessage(BaseModel):
    # In the order in which problems are reported. An optional field is left out, never null: null is refused.
    model_config = ConfigDict(extra="forbid", strict=True)

    timezone: Annotated[ZoneInfo | None, BeforeValidator(_zone)] = None
    date: Annotated[datetime | None, BeforeValidator(_date)] = None
    delay: Annotated[timedelta | None, BeforeValidator(parse_delay)] = None
    payload: Annotated[str, AfterValidator(_not_empty)]
    target: Annotated[str, _topic(is_for_reports=False)]
    user: str = ""
    failure_topic: Annotated[str, _topic(is_for_reports=True)] = ""
    id: _Id = ""
    subject: Annotated[
        str, _matching(SUBJECT, "must be less than 100 printable ASCII characters, and not begin with a space")
    ] = ""
    attributes: Annotated[dict[str, _Attribute], AfterValidator(_attributes)] = {}
    message_group_id: Annotated[
        str, _matching(GROUP_ID, "must be 1 to 128 letters, digits and punctuation marks of ASCII")
    ] = ""

    @model_validator(mode="before")
    @classmethod
    def _has_a_date(cls, message: dict[str, Any]) -> dict[str, Any]:
        if not {"date", "delay"} & message.keys():
            raise ValueError("date is required")
        return message

    @model_validator(mode="after")
    def _has_one_date(self) -> "_EventMessage":
        if self.delay is not None and self.date:
            raise ValueError("delay must not stand beside date")
        if self.delay is not None and self.timezone:
            raise ValueError("timezone must not stand beside delay")
        return self

    @model_validator(mode="after")
    def _names_a_user(self, info: ValidationInfo) -> "_EventMessage":
        if not self.user and cast(Rules, info.context).user_required:
            raise ValueError("user is required")
        return self

    def to_event(self, message: dict[str, Any], message_id: str, accepted_at: datetime) -> Event:
        """The event, with the input of its execution. `message` is what was received."""
        try:
            due = self.date or after(accepted_at, cast(timedelta, self.delay))
        except ValueError as beyond:
            raise ValueError(f"delay {beyond}") from None
        id, times = self.id or message_id, EventTimes(due)
        input = {
            "id": id,
            "revision": message_id,
            "lane": lane_of(id),
            "due_ms": times.due_ms,
            "cutoff_at": instant(times.cutoff_at),
            "due_rounded_up_at": instant(times.due_rounded_up_at),
            "publish": self._publish_arguments(id, message_id, due, accepted_at),
            # The payload travels once: a failure report puts it back.
            "event": {name: value for name, value in message.items() if name != "payload"},
        }
        if times.wake_at:
            input["wake_at"] = instant(times.wake_at)
        if due < accepted_at:  # Else its retries would count from a time long past, and there would be none.
            input["accepted_ms"] = (accepted_at - EPOCH) // timedelta(milliseconds=1)
        text = as_json(input)
        if (size := len(text.encode())) > INPUT_BYTES:
            raise ValueError(f"payload is too large: with its envelope {size} bytes, of which {INPUT_BYTES} would fit")
        return Event(id, message_id, due, text)

    def _publish_arguments(self, id: str, message_id: str, due: datetime, accepted_at: datetime) -> dict[str, Any]:
        """The arguments of SNS Publish, ready to use."""
        own = {ID_ATTRIBUTE: id, DATE_ATTRIBUTE: instant(due)}
        if self.id:  # It may replace, or be replaced: of two deliveries the one with the greater revision is newer.
            own[REVISION_ATTRIBUTE] = f"{sortable(accepted_at)}Z {message_id}"
        if len(self.attributes) + len(own) > MAX_ATTRIBUTES:
            raise ValueError(
                f"attributes must not be more than {MAX_ATTRIBUTES - len(own)}: "
                f"SNS takes {MAX_ATTRIBUTES}, and {len(own)} are the scheduler's own"
            )
        arguments: dict[str, Any] = {
            "TopicArn": self.target,
            "Message": self.payload,
            "MessageAttributes": self.attributes | {name: _typed("String", value) for name, value in own.items()},
        }
        if self.subject:
            arguments["Subject"] = self.subject
        if self.message_group_id:
            arguments["MessageGroupId"] = self.message_group_id
        if self.target.endswith(".fifo"):
            arguments.setdefault("MessageGroupId", id)
            # Not the id alone: a replacement within SNS's five minutes is another message.
            arguments["MessageDeduplicationId"] = id if id == message_id else f"{id}-{message_id}"
        return arguments


# --- Saying what is wrong ---------------------------------------------------------------------------------------------


def _most_telling_error(invalid: ValidationError) -> str:
    """One sentence for the first problem: what is missing, then what is wrong, then what is unknown."""
    errors = invalid.errors()
    errors.sort(key=lambda error: error["type"] != "missing")  # Stable: otherwise in the order of the fields.
    error = errors[0]
    field = ".".join(_shown(str(part)) for part in error["loc"])
    match error["type"]:
        case "missing":
            return f"{field} is required"
        case "extra_forbidden":
            unknown = [_shown(str(error["loc"][0])) for error in errors if error["type"] == "extra_forbidden"]
            told = ", ".join(unknown[:5]) + (", ..." if unknown[5:] else "")
            return f"cancel must stand alone, without {told}" if invalid.title == "cancel" else f"unknown field: {told}"
        case "string_type":
            return f"{field} must be a string"
        case "dict_type":
            return f"{field} must be an object"
        case "value_error":
            return f"{field} {error['ctx']['error']}".strip()
    return f"{field}: {error['msg']}"


def _require_sendable(message: dict[str, Any]) -> None:
    """SQS refuses some characters, and whoever is subscribed with a queue would silently get nothing. What is not
    published travels in failure reports."""
    for name, value in message.items():
        for text in (name, *texts_in(value)):
            if character := unsendable_character(text):
                raise ValueError(f"{_shown(name)} contains {character}, a character that SQS does not accept")


def _shown(name: str) -> str:
    """A publisher's text, fit for one line of any log."""
    return name.encode("unicode_escape").decode()[:64]


def _id_of(message: dict[str, Any]) -> str | None:
    id = message.get("id")
    return id if isinstance(id, str) and ID.fullmatch(id) else None


def _failure_topic_of(message: dict[str, Any], rules: Rules) -> str | None:
    topic = message.get("failure_topic")
    return topic if isinstance(topic, str) and not rules.objection_to(topic, is_for_reports=True) else None


def _as_regex(pattern: str) -> str:
    return re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
