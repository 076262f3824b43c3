"""CloudWatch Logs Insights, as far as the dashboard's queries use it.

docs.aws.amazon.com/AmazonCloudWatch/latest/logs/CWL_QuerySyntax.html
"""

import json
import re
from typing import Any

from tests.template.cloudwatch import percentile
from tests.workflows.simulation import Run

type Row = dict[str, Any]


def query_source(query: str) -> str:
    """The log group that a query reads."""
    match = re.match(r"SOURCE '([^']+)' \| ", query)
    assert match, query
    return match[1]


def run_query(query: str, records: list[Row]) -> list[Row]:
    """The rows that a query finds in log records, each of which has its fields by their full names."""
    rows = [dict(record) for record in records]
    for command in query.split(" | ")[1:]:
        name, rest = command.strip().split(" ", 1)
        match name:
            case "filter":
                rows = [row for row in rows if _holds(rest, row)]
            case "parse":
                rows = [row | _parsed(rest, row) for row in rows]
            case "sort":
                field, order = rest.split(" ")
                assert order in ("asc", "desc")
                rows.sort(key=lambda row: _number(row[field]), reverse=order == "desc")
            case "limit":
                rows = rows[: int(rest)]
            case "display":
                rows = [{field: row[field] for field in rest.split(", ")} for row in rows]
            case "stats":
                rows = _stats(rest, rows)
            case _:
                raise ValueError(f"not understood: {command}")
    return rows


def execution_log(runs: list[Run]) -> list[Row]:
    """The last record of each execution, as Express logs it.
    (docs.aws.amazon.com/step-functions/latest/dg/cw-logs.html)"""
    records: list[Row] = []
    for number, run in enumerate(runs):
        succeeded = run.status == "SUCCEEDED"
        details = {"details.output": json.dumps(run.output, separators=(",", ":"))} if succeeded else {}
        if not succeeded:
            details = {"details.error": run.error, "details.cause": run.cause}
        records.append(
            {
                "id": "7",
                "type": "ExecutionSucceeded" if succeeded else "ExecutionFailed",
                "previous_event_id": "6",
                "execution_arn": f"arn:aws:states:eu-central-1:123456789012:express:Deliver:{run.name}:1",
                "@timestamp": 1000 * 60 * number,
                **details,
            }
        )
    return records


# Records that the log of an execution also has: the last state's has the same output as the execution.
STATE_RECORDS = [
    {"id": "2", "type": "WaitStateEntered", "@timestamp": 60_000, "execution_arn": "arn", "details.name": "Wait"},
    {
        "id": "6",
        "type": "TaskStateExited",
        "@timestamp": 60_000,
        "execution_arn": "arn",
        "details.name": "Publish",
        "details.output": '{"message_id":"m-1","late_ms":9999}',
    },
]


def _holds(condition: str, row: Row) -> bool:
    if found := re.fullmatch(r"ispresent\((\S+)\)", condition):
        return row.get(found[1]) is not None
    if found := re.fullmatch(r"(\S+) in (\[.*\])", condition):
        return row[found[1]] in json.loads(found[2])
    if found := re.fullmatch(r'(\S+) = "([^"]*)"', condition):
        return row[found[1]] == found[2]
    raise ValueError(f"not understood: {condition}")


def _parsed(rest: str, row: Row) -> Row:
    field, pattern = rest.split(" ", 1)
    expression = re.fullmatch("/(.*)/", pattern)
    assert expression
    match = re.search(expression[1].replace("(?<", "(?P<"), str(row.get(field, "")))
    return match.groupdict() if match else {}


def _stats(rest: str, rows: list[Row]) -> list[Row]:
    functions, by = rest.split(" by ")
    [minutes] = re.fullmatch(r"bin\((\d+)m\)", by).groups()
    groups: dict[int, list[Row]] = {}
    for row in rows:
        groups.setdefault(row["@timestamp"] // (60_000 * int(minutes)), []).append(row)
    found = []
    for group in groups.values():
        values: Row = {}
        for name, arguments, alias in re.findall(r"(\w+)\(([^)]*)\) as (\w+)", functions):
            field, *more = arguments.split(", ")
            numbers = [_number(row[field]) for row in group]
            match name:
                case "pct":
                    values[alias] = percentile(numbers, float(more[0]))
                case "max":
                    values[alias] = max(numbers)
                case _:
                    raise ValueError(f"not understood: {name}")
        found.append(values)
    return found


def _number(value: Any) -> float:
    return float(value)
