"""Parked events and the register, read: which events there are, and which of them are still wanted. No printing."""

import heapq
import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import batched
from typing import Any, Literal, Self

from punctual_core.json_text import as_json
from punctual_core.lanes import due_of, lane_of, lanes, sortable

from .stack import Stack

type Item = dict[str, Any]  # of a table, in DynamoDB's JSON
type State = Literal["parked", "canceled", "replaced"]

# Of a BatchGetItem, by AWS.
MAX_KEYS = 100


@dataclass(frozen=True)
class Parked:
    """A parked event. `due` (UTC) is when a sweep starts it. `retry` counts its failed deliveries: 0 if it has not been
    tried yet; otherwise `due` is when it is tried again, by an execution whose name ends with `-r` and this number.

    `state` is "parked" unless a cancel or another event has claimed its id: then it stays in its lane until it is due,
    and is not delivered. `input` is empty if it was not read."""

    lane: str
    due: datetime
    revision: str
    execution: str
    retry: int
    input: dict[str, Any]
    state: State = "parked"

    @classmethod
    def from_item(cls, item: Item) -> Self:
        """From an item of the table Parked."""
        key, execution = item["sort_key"]["S"], item.get("execution", {}).get("S", "")
        input = json.loads(item["input"]["S"]) if "input" in item else {}
        retry = int(item.get("retry", {}).get("N", 0))
        return cls(item["lane"]["S"], due_of(key), key.partition("#")[2], execution, retry, input)

    @property
    def id(self) -> str:
        """The event's id, which is all of its execution's name but the revision and the retry."""
        if self.execution.startswith(self.revision):
            return self.revision
        return self.execution.rpartition(f"-{self.revision[:8]}")[0]

    @property
    def event(self) -> dict[str, Any]:
        """The message as it was published."""
        return {**self.input["event"], "payload": self.input["publish"]["Message"]}

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {
            "id": self.id,
            "due": self.due.isoformat(),
            "state": self.state,
            "retry": self.retry,
            "lane": self.lane,
            "execution": self.execution,
            "event": self.event,
        }


@dataclass(frozen=True)
class Selection:
    """Some of the parked events: due from `after` on and before `before` (UTC), to the topic with the ARN `target`, of
    a `user`, with an id that begins with `id_prefix`."""

    after: datetime | None = None
    before: datetime | None = None
    target: str | None = None
    user: str | None = None
    id_prefix: str | None = None

    @property
    def reads_input(self) -> bool:
        """Whether the events' inputs decide."""
        return bool(self.target or self.user)

    def query(self, table: str, lane: str) -> dict[str, Any]:
        """The arguments of DynamoDB's Query for one lane. The filters find whatever `admits`, and perhaps more."""
        values = {
            ":lane": {"S": lane},
            # Sort keys begin with a year: after every `/` and before every `:`.
            ":after": {"S": sortable(self.after) if self.after else "/"},
            ":before": {"S": sortable(self.before) if self.before else ":"},
        }
        filters = []
        # In the input, which is JSON, as text: quotation marks in a payload are escaped there, these are not.
        for name, key, value in (("target", "TopicArn", self.target), ("user", "user", self.user)):
            if value:
                filters.append(f"contains(#input, :{name})")
                values[f":{name}"] = {"S": f'"{key}":{as_json(value)}'}
        if self.id_prefix:
            filters.append("begins_with(execution, :id)")
            values[":id"] = {"S": self.id_prefix}
        return {
            "TableName": table,
            "KeyConditionExpression": "lane = :lane AND sort_key BETWEEN :after AND :before",
            "ExpressionAttributeValues": values,
            **({"ExpressionAttributeNames": {"#input": "input"}} if self.reads_input else {}),  # a reserved word
            **({"FilterExpression": " AND ".join(filters)} if filters else {}),
        }

    def admits(self, event: Parked) -> bool:
        """Whether a parked event, read with these filters, is one of the selection."""
        return (
            (not self.target or event.input["publish"]["TopicArn"] == self.target)
            and (not self.user or event.input["event"].get("user") == self.user)
            and event.id.startswith(self.id_prefix or "")
        )


def parked_events(stack: Stack, selection: Selection, limit: int | None = None) -> Iterator[Parked]:
    """The selected events in the order of their due times, at most `limit`, with their states.

    The lanes are read side by side and merged, each no further than is asked for: with a limit that is one page of
    each lane, and without one memory holds a page of each.
    """
    dynamodb, table = stack.client("dynamodb", max_pool_connections=len(lanes())), stack.output("ParkedTableName")
    # A limit counts what is read, not what passes the filters: it is of use for no more than a range of the key.
    paging = {"PageSize": limit if selection == Selection(selection.after, selection.before) else None}

    def items_of(lane: str) -> Iterator[Item]:
        pages = iter(dynamodb.get_paginator("query").paginate(**selection.query(table, lane), PaginationConfig=paging))
        first: dict[str, Any] = next(pages, {"Items": []})
        return itertools.chain(first["Items"], (item for page in pages for item in page["Items"]))

    with ThreadPoolExecutor(len(lanes())) as pool:
        items = list(pool.map(items_of, lanes()))
    merged = map(Parked.from_item, heapq.merge(*items, key=lambda item: item["sort_key"]["S"]))
    selected = itertools.islice(filter(selection.admits, merged), limit)
    return with_states(dynamodb, stack.output("RegisterTableName"), selected)


def count_events(
    stack: Stack, selection: Selection, start_of: Callable[[datetime], datetime], on_lane: Callable[[int], None]
) -> tuple[Counter[datetime], Counter[State]]:
    """How many of the selected events are due in each period, by its start, and how many have which state. Those that
    were canceled or replaced are in no period. Calls `on_lane` with the number of events of each lane that was read."""
    dynamodb = stack.client("dynamodb", max_pool_connections=len(lanes()))
    table, register = stack.output("ParkedTableName"), stack.output("RegisterTableName")
    # Keys are enough, and spare the network; what DynamoDB bills is the whole item.
    needed = "lane, sort_key, execution" + (", #input" if selection.reads_input else "")
    is_stopped = threading.Event()

    def count(lane: str) -> tuple[Counter[datetime], Counter[State]]:
        periods: Counter[datetime] = Counter()
        states: Counter[State] = Counter()
        pages = dynamodb.get_paginator("query").paginate(**selection.query(table, lane), ProjectionExpression=needed)
        for page in itertools.takewhile(lambda _: not is_stopped.is_set(), pages):
            events = filter(selection.admits, map(Parked.from_item, page["Items"]))
            for event in with_states(dynamodb, register, events):
                states[event.state] += 1
                if event.state == "parked":
                    periods[start_of(event.due)] += 1
        return periods, states

    periods, states = Counter[datetime](), Counter[State]()
    with ThreadPoolExecutor(len(lanes())) as pool:
        try:
            for of_lane in pool.map(count, lanes()):
                periods += of_lane[0]
                states += of_lane[1]
                on_lane(of_lane[1].total())
        finally:
            is_stopped.set()  # Ctrl-C does not wait for whole lanes.
    return periods, states


def with_states(dynamodb: Any, register: str, events: Iterable[Parked]) -> Iterator[Parked]:
    """The events with what the register says of them, of which a hundred are asked at a time."""
    for batch in batched(events, MAX_KEYS, strict=False):
        items = _registered(dynamodb, register, {event.id for event in batch})
        for event in batch:
            yield replace(event, state=state_of(event, items.get(event.id)))


def state_of(event: Parked, item: Item | None) -> State:
    """Whether the register's item for its id leaves a parked event valid."""
    if not item or item["revision"]["S"] == event.revision:
        return "parked"
    return "canceled" if item["claimed_by"]["S"] == "cancel" else "replaced"


def registered(stack: Stack, id: str) -> Item | None:
    """The register's item for this id. Consistent: what was published a moment ago is there."""
    table, key = stack.output("RegisterTableName"), {"id": {"S": id}}
    answer = stack.client("dynamodb").get_item(TableName=table, Key=key, ConsistentRead=True)
    item: Item | None = answer.get("Item")
    return item


def find_parked(stack: Stack, id: str, item: Item | None, seconds: float = float("inf")) -> list[Parked]:
    """The parked events with this id, with their states: one, or more while an earlier one waits for its end.

    A named event's item says where it is parked; for any other its lane is read, a sixteenth of the table. Raises
    TimeoutError if that takes longer than so many seconds.
    """
    dynamodb, table, lane = stack.client("dynamodb"), stack.output("ParkedTableName"), lane_of(id)
    if item and "S" in item["parked"]:
        stored = {"lane": item["lane"], "sort_key": item["parked"]}
        if found := dynamodb.get_item(TableName=table, Key=stored, ConsistentRead=True).get("Item"):
            return [Parked.from_item(found)]
    give_up_at, events = time.monotonic() + seconds, []
    query = Selection(id_prefix=id).query(table, lane)
    for page in dynamodb.get_paginator("query").paginate(**query, ConsistentRead=True):
        events += [Parked.from_item(item) for item in page["Items"]]
        if "LastEvaluatedKey" in page and time.monotonic() > give_up_at:
            raise TimeoutError(f"{lane} is too long to be read to its end")
    return [replace(event, state=state_of(event, item)) for event in events if event.id == id]


def _registered(dynamodb: Any, register: str, ids: set[str]) -> dict[str, Item]:
    found, keys = {}, [{"id": {"S": id}} for id in ids]
    while keys:
        answer = dynamodb.batch_get_item(RequestItems={register: {"Keys": keys}})
        found.update({item["id"]["S"]: item for item in answer["Responses"][register]})
        keys = answer.get("UnprocessedKeys", {}).get(register, {}).get("Keys", [])
    return found
