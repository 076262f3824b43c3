"""What became of an event: everything that the stack still knows of an id, and the verdict. No printing."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, get_args

from botocore.exceptions import BotoCoreError, ClientError

from .executions import RUNNING, Execution, executions_of, log_entries
from .moments import from_seconds, shown
from .parked import Item, Parked, find_parked, registered
from .stack import Stack, sentence_of

# Nothing more happens to an event that has come to one of these.
type Decided = Literal["delivered", "canceled", "replaced", "refused", "not delivered"]
type State = Decided | Literal["parked", "waiting", "retried", "unclear", "unknown"]
DECIDED: tuple[Decided, ...] = get_args(Decided.__value__)


@dataclass(frozen=True)
class Verdict:
    """What became of an event, in one word and in one sentence; when it is due or tried again (UTC), if that is to
    come and known."""

    state: State
    sentence: str
    due: datetime | None = None


@dataclass
class Story:
    """What the stack knows of an id since a time (UTC). `missing` says what could not be read, a sentence each."""

    id: str
    since: datetime
    item: Item | None = None
    parked: list[Parked] = field(default_factory=list)
    executions: list[Execution] = field(default_factory=list)
    refusals: list[dict[str, Any]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    @property
    def revision(self) -> str | None:
        """The MessageId of the message that is valid for the id, if it was named or canceled."""
        return self.item["revision"]["S"] if self.item else None

    @property
    def published_at(self) -> datetime | None:
        """When that message was published (UTC)."""
        return from_seconds(float(self.item["publication_order"]["S"].split()[0])) if self.item else None

    @property
    def claimed_by(self) -> str | None:
        """Whether that message is an "event" or a "cancel"."""
        return self.item["claimed_by"]["S"] if self.item else None

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        verdict = self.verdict()
        return {
            "id": self.id,
            "verdict": verdict.state,
            "sentence": verdict.sentence,
            "registered": self._registration(),
            "parked": [event.as_json() for event in self.parked],
            "executions": [execution.as_json() for execution in self.executions],
            "refusals": [{"at": entry.get("timestamp"), "reason": entry.get("reason")} for entry in self.refusals],
            "missing": self.missing,
        }

    def timeline(self) -> list[tuple[datetime | None, str]]:
        """Its life: when (UTC) and what, in the order in which it is told."""
        rows: list[tuple[datetime | None, str]] = []
        if self.item:
            rows.append((self.published_at, f"last message with this id ({self.claimed_by}): {self.revision}"))
        for execution in self.executions:
            rows.append((execution.started_at, f"execution {execution.name} started"))
            rows += [(at, f"  {name}") for at, name in execution.states]
            rows.append((execution.ended_at, f"  {execution.outcome}"))
        for event in self.parked:
            retry = f" for retry {event.retry}" if event.retry else ""
            fate = "its execution starts shortly before" if event.state == "parked" else f"{event.state}: not delivered"
            rows.append((event.due, f"due{retry}; parked in {event.lane}, {fate}"))
        return rows

    def verdict(self) -> Verdict:
        """What became of the event."""
        for event in self.parked:
            if event.state == "parked":
                return self._of_parked(event)
        executions = [execution for execution in self.executions if not self.item or self._is_valid(execution)]
        if executions:
            return self._of_execution(executions[-1])
        published = f" at {shown(self.published_at)} UTC" if self.published_at else ""
        if self.claimed_by == "cancel":
            return self._of_cancel(published)
        if self.refusals:
            return Verdict("refused", f"refused: {self.refusals[-1].get('reason')}")
        if self.parked or self.executions:  # Of earlier messages alone.
            return Verdict("replaced", f"replaced by the message {self.revision}, published{published}")
        if self.item:
            gone = f"no longer parked: no execution since {shown(self.since)} UTC is known"
            return Verdict("unclear", f"published{published}, and {gone}")
        return Verdict("unknown", f"never seen here, or longer ago than {shown(self.since)} UTC")

    def _of_parked(self, event: Parked) -> Verdict:
        due = f"{shown(event.due)} UTC"
        if not event.retry:
            return Verdict("parked", f"parked until shortly before it is due at {due}", event.due)
        problems = [e.result["problem"] for e in self.executions if "problem" in e.result]
        because = f" ({problems[-1]})" if problems else ""
        return Verdict("retried", f"not delivered yet{because}: retry {event.retry} is due at {due}", event.due)

    def _of_execution(self, execution: Execution) -> Verdict:
        started = execution.started_at or self.since
        match execution.status, execution.result:
            case "RUNNING", _ if started < datetime.now(UTC) - RUNNING:
                return Verdict("unclear", f"started at {shown(started)} UTC: how it ended is not in the log")
            case "RUNNING", _:
                return Verdict("waiting", execution.outcome, execution.due)
            case "SUCCEEDED", {"message_id": _}:
                return Verdict("delivered", execution.outcome)
            case "SUCCEEDED", {"superseded": True}:
                return Verdict("canceled", "canceled or replaced before it was due")
            case "SUCCEEDED", {"retry_at": _}:
                return Verdict("retried", execution.outcome)
            case "FAILED", {"error": "NotReported"}:
                return Verdict("retried", execution.outcome)
            case "FAILED", {"error": "NotDelivered", "cause": cause}:
                return Verdict("not delivered", f"{' '.join(cause.split())}; reported to its failure topic")
        return Verdict("not delivered", f"not delivered, as far as is known: its execution {execution.outcome}")

    def _of_cancel(self, published: str) -> Verdict:
        """Of an id whose last message is a cancel."""
        delivered = [execution for execution in self.executions if "message_id" in execution.result]
        sentence = f"canceled by the message {self.revision}, published{published}"
        if not delivered:
            return Verdict("canceled", sentence)
        last = delivered[-1]
        if last.ended_at and self.published_at and last.ended_at > self.published_at:
            return Verdict("delivered", f"{last.outcome}: the cancel, published{published}, came too late")
        return Verdict("canceled", f"{sentence}; an event with this id had been {last.outcome}")

    def _is_valid(self, execution: Execution) -> bool:
        return bool(self.revision and execution.is_of(self.revision))

    def _registration(self) -> dict[str, Any] | None:
        if not self.item:
            return None
        expires = from_seconds(int(self.item["expires_at"]["N"]))
        return {
            "revision": self.revision,
            "claimed_by": self.claimed_by,
            "published_at": self.published_at.isoformat() if self.published_at else None,
            "expires_at": expires.isoformat() if expires else "after the year 9999",
        }


def story_of(stack: Stack, id: str, since: datetime, seconds: float = float("inf")) -> Story:
    """What the stack knows of an id since that time (UTC). What cannot be read, or a lane for which it takes longer
    than so many seconds, is among `missing`."""
    story = Story(id, since)

    def read[Found](what: str, look_up: Callable[[], Found]) -> Found | None:
        try:
            return look_up()
        except (ClientError, BotoCoreError, TimeoutError) as error:
            story.missing.append(f"{what} could not be read: {sentence_of(error)}")
            return None

    stack.output("ParkedTableName")  # Without the stack there is nothing to tell.
    story.item = read("the register", lambda: registered(stack, id))
    story.parked = read("the lane of its parked events", lambda: find_parked(stack, id, story.item, seconds)) or []
    story.executions = read("the log of its executions", lambda: executions_of(stack, id, since)) or []
    if not story.parked and not story.executions:
        pattern = f'{{ $.message = "refused" && $.id = "{id}" }}'
        entries = read("the log of refusals", lambda: list(log_entries(stack, "IngestLog", pattern, since))) or []
        story.refusals = [entry for entry in entries if entry.get("message") == "refused" and entry.get("id") == id]
    level = stack.parameter("ExecutionLogLevel", "ALL")
    if level != "ALL":
        only = "no executions are" if level == "OFF" else "only failures are"
        story.missing.append(f"{only} in the log of its executions, because ExecutionLogLevel is {level}")
    return story


def ago(duration: timedelta) -> datetime:
    """The time (UTC) so long ago."""
    return datetime.now(UTC) - duration
