"""Mutants of template.yaml: of every permission, setting, reference, parameter and condition, and of the dashboard.

Wording is left alone: descriptions, titles of widgets, and names that nothing refers to.
"""

import itertools
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from tools.mutants.mutations import REMOVED, Change, Mutant, Mutator, changed, general_changes, named, shortened, unlike
from tools.mutants.mutations import Path as Place

FILE = "template.yaml"


class _Loader(yaml.CSafeLoader):
    """YAML with CloudFormation's short tags, as their long forms."""


def _long_form(loader: _Loader, tag: str, node: yaml.Node) -> dict[str, Any]:
    value: Any
    match node:
        case yaml.ScalarNode():
            value = loader.construct_scalar(node)
        case yaml.SequenceNode():
            value = loader.construct_sequence(node, deep=True)
        case yaml.MappingNode():
            value = loader.construct_mapping(node, deep=True)
    if tag == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {tag if tag in ("Ref", "Condition") else f"Fn::{tag}": value}


_Loader.add_multi_constructor("!", _long_form)

WORDING = {"Description", "ConstraintDescription", "Sid", "PolicyName", "title", "Label"}
# What is about publishing the template, and the form that CloudFormation and IAM ask for.
OUTSIDE = {"AWS::ServerlessRepo::Application", "AWSTemplateFormatVersion", "Transform"}
FORM = {"Version"}
# CloudFormation or IAM refuses what is without these.
ESSENTIAL = {
    *("Type", "Properties", "Value", "PolicyDocument", "Statement", "AssumeRolePolicyDocument"),
    *("Effect", "Action", "Resource", "Principal", "Namespace", "MetricName", "Name", "Period", "EvaluationPeriods"),
    *("ComparisonOperator", "Statistic", "ExtendedStatistic", "Threshold", "TopicArn", "Protocol", "Endpoint"),
    *("AttributeName", "AttributeType", "KeyType", "KeySchema", "AttributeDefinitions", "Arn", "RoleArn", "Mode"),
    *("type", "properties", "x", "y", "width", "height", "view", "query"),
}

# For each value of a setting, what somebody might have written instead.
ALTERNATIVES: dict[str, dict[Any, list[Any]]] = {
    "Statistic": {
        "Sum": ["Average", "Maximum", "SampleCount"],
        "Maximum": ["Minimum", "Average", "Sum"],
        "SampleCount": ["Sum", "Maximum"],
    },
    "ExtendedStatistic": {"p99": ["p50", "p90", "p100"]},
    "ComparisonOperator": {
        "GreaterThanThreshold": ["GreaterThanOrEqualToThreshold", "LessThanThreshold"],
        "LessThanThreshold": ["LessThanOrEqualToThreshold", "GreaterThanThreshold"],
    },
    "TreatMissingData": {
        "notBreaching": ["breaching", "missing", "ignore"],
        "breaching": ["notBreaching", "missing", "ignore"],
    },
    "Effect": {"Allow": ["Deny"], "Deny": ["Allow"]},
    "Namespace": {"AWS/SQS": ["AWS/SNS"], "AWS/SNS": ["AWS/SQS"], "AWS/Lambda": ["AWS/States"]},
    "DeletionPolicy": {"RetainExceptOnCreate": ["Delete", "Retain"]},
    "UpdateReplacePolicy": {"Retain": ["Delete"]},
    "Period": {60: [30, 120, 300], 600: [60, 300]},
    "MetricName": {
        "ApproximateNumberOfMessagesVisible": ["ApproximateNumberOfMessagesNotVisible", "NumberOfMessagesSent"],
        "ApproximateAgeOfOldestMessage": ["ApproximateNumberOfMessagesVisible"],
        "ExecutionsFailed": ["ExecutionsAborted", "ExecutionsTimedOut"],
        "ExecutionsTimedOut": ["ExecutionsFailed"],
        "Errors": ["Throttles"],
        "Throttles": ["Errors"],
        "Failed": ["Refused"],
        "Retries": ["SweepFailures"],
        "Overdue": ["Overdues"],
        "Lateness": ["Late"],
    },
    "Type": {"EXPRESS": ["STANDARD"], "Number": ["String"], "SQS": ["SNS"], "SNS": ["SQS"]},
    "Runtime": {},
    "Level": {"ERROR": ["ALL", "FATAL"]},
    "stat": {"Sum": ["Average", "Maximum"], "Maximum": ["Sum", "Average"]},
    "view": {"timeSeries": ["singleValue"], "singleValue": ["timeSeries"], "table": ["timeSeries"]},
}
# Settings that somebody might add to a resource of a type.
ADDITIONS: dict[str, dict[str, Any]] = {
    "AWS::SNS::Topic": {"FifoTopic": True},
    "AWS::SQS::Queue": {"DelaySeconds": 10, "FifoQueue": True},
    "AWS::SNS::Subscription": {"FilterPolicy": {"kind": ["a"]}},
    "AWS::DynamoDB::Table": {
        "TimeToLiveSpecification": {"AttributeName": "expires_at", "Enabled": True},
        "TableName": "events",
    },
    "AWS::Serverless::Function": {"ReservedConcurrentExecutions": 1, "FunctionName": "name"},
    "AWS::Serverless::StateMachine": {"Name": "name"},
    "AWS::Scheduler::Schedule": {"State": "DISABLED", "Name": "name"},
    "AWS::Logs::LogGroup": {"LogGroupClass": "INFREQUENT_ACCESS"},
    "AWS::CloudWatch::Alarm": {"ActionsEnabled": False, "DatapointsToAlarm": 1, "AlarmName": "name"},
    "AWS::IAM::Role": {"ManagedPolicyArns": ["arn:aws:iam::aws:policy/PowerUserAccess"], "RoleName": "name"},
}
# Actions that are next to the one that is needed.
OTHER_ACTIONS = {
    "sns": ("Publish", "Subscribe", "SetTopicAttributes"),
    "sqs": ("SendMessage", "ReceiveMessage", "DeleteMessage", "PurgeQueue"),
    "dynamodb": ("GetItem", "PutItem", "UpdateItem", "DeleteItem", "Query", "Scan"),
    "states": ("StartExecution", "StartSyncExecution"),
    "lambda": ("InvokeFunction", "InvokeAsync"),
    "logs": ("PutLogEvents", "CreateLogGroup"),
    "xray": ("PutTraceSegments", "GetTraceSummaries"),
    "kms": ("Decrypt", "Encrypt"),
    "sts": ("AssumeRole", "TagSession"),
}


def mutants(root: Path) -> Iterator[Mutant]:
    """Every mutant of the template in a checkout."""
    yield from unlike(_mutants(root))


def _mutants(root: Path) -> Iterator[Mutant]:
    # JSON is YAML, so a changed template is written as JSON; comments are no subject of a test.
    template = yaml.load((root / FILE).read_text(encoding="utf-8"), _Loader)
    subject = _Subject(template)
    changes = itertools.chain(subject.mutator.changes(template), subject.dashboard_changes(), subject.additions())
    for place, what, new in changes:
        text = json.dumps(changed(template, place, new), ensure_ascii=False)
        yield Mutant(f"{named(place)}: {what}", subject.group(place), {FILE: text})


class _Subject:
    """The template, and what may be changed in it."""

    def __init__(self, template: dict[str, Any]):
        self._template = template
        self._resources: dict[str, Any] = template["Resources"]
        self.mutator = Mutator(self._changes_of, _is_skipped, _is_kept)

    def group(self, place: Place) -> str:
        """The part of the template that a place is in, as a reader of the results knows it."""
        if place[0] != "Resources":
            return "parameters, conditions, outputs"
        type = self._resources[str(place[1])]["Type"].split("::")[-1]
        return {
            "Role": "permissions of roles",
            "Policy": "permissions of roles",
            "TopicPolicy": "policies of topics and queues",
            "QueuePolicy": "policies of topics and queues",
            "Topic": "topics, queues, subscriptions",
            "Queue": "topics, queues, subscriptions",
            "Subscription": "topics, queues, subscriptions",
            "Table": "tables",
            "Function": "functions",
            "StateMachine": "state machines, schedules, logs",
            "Schedule": "state machines, schedules, logs",
            "LogGroup": "state machines, schedules, logs",
            "Alarm": "alarms",
            "Dashboard": "dashboard",
        }[type]

    def _changes_of(self, place: Place, value: Any) -> Iterable[Change] | None:
        """The changes of a value in the template; None for the general ones."""
        if place[-2:] == ("Properties", "DashboardBody"):
            return ()
        match value:
            case {"Ref": str(name)} if len(value) == 1:
                return [(f"{name} -> {other}", {"Ref": other}) for other in self._neighbors(name)]
            case {"Fn::GetAtt": [str(name), attribute]}:
                return [(f"{name} -> {other}", {"Fn::GetAtt": [other, attribute]}) for other in self._neighbors(name)]
            case {"Fn::Sub": str(text)}:
                return self._changes_of_text(text)
            case {"Fn::If": [condition, then, otherwise]}:
                changes = [(f"always {condition}", then), (f"never {condition}", otherwise)]
                return [(what, _without_no_value(branch)) for what, branch in changes]
            case {"Fn::Not": [inner]}:
                return [("without Not", inner)]
            case {"Fn::And": parts}:
                return [("And -> Or", {"Fn::Or": parts})]
            case {"Fn::FindInMap": [name, *_]}:
                return [(f"of {name} -> the last", list(self._template["Mappings"][name].values())[-1]["Seconds"])]
            case {"Effect": str()}:
                return _changes_of_statement(value)
            case dict() | list():
                return ()
        return self._changes_of_scalar(place, value)

    def _changes_of_scalar(self, place: Place, value: Any) -> Iterable[Change] | None:
        key = next((key for key in reversed(place) if isinstance(key, str)), "")
        is_reference = any(isinstance(part, str) and part.startswith("Fn::") for part in place[-2:])
        if key in ("Ref", "Condition") and isinstance(value, str):
            others = [name for name in self._template["Conditions"] if name != value] if key == "Condition" else []
            return [(f"{value} -> {other}", other) for other in others[:1]]
        if key == "AlarmDescription" or (is_reference and key != "Fn::Equals"):
            return ()
        if key in ALTERNATIVES or key == "AllowedValues":
            return [(f"{value} -> {other}", other) for other in ALTERNATIVES.get(key, {}).get(value, [])]
        if key == "Action" and isinstance(value, str):
            return _changes_of_action(value)
        if key == "AllowedPattern":
            return [("-> any", ".*"), ("-> empty", "")]
        if value == "*" and key == "Resource":
            return [("* -> arn:aws:sns:*", "arn:aws:sns:*")]
        if place[0] == "Parameters" and key == "Default":
            allowed = self._template["Parameters"][place[1]].get("AllowedValues", [])
            return [(f"{value} -> {other}", other) for other in allowed if other != value][:2] or None
        return None

    def _changes_of_text(self, text: str) -> list[Change]:
        """The changes of a text for Fn::Sub: each reference in it to a neighbor, and the rest."""
        changes: list[Change] = []
        for name in dict.fromkeys(re.findall(r"\$\{([\w:]+)(?:\.\w+)?\}", text)):
            for other in self._neighbors(name):
                pattern = rf"\$\{{{re.escape(name)}(?=[.}}])"
                changes.append((f"{name} -> {other}", {"Fn::Sub": re.sub(pattern, f"${{{other}", text)}))
        if text.startswith("{"):
            body = json.loads(text)
            mutator = Mutator(lambda *_: None, lambda _: False, lambda _: False)
            for place, what, new in mutator.changes(body):
                changes.append((f"{named(place)}: {what}", {"Fn::Sub": json.dumps(changed(body, place, new))}))
        else:
            changes.append((f"{shortened(text)} -> X", {"Fn::Sub": f"{text}X"}))
        return changes

    def _neighbors(self, name: str) -> list[str]:
        """Up to two resources or parameters of the same kind."""
        for kind in ("Resources", "Parameters"):
            section: dict[str, Any] = self._template[kind]
            if name in section:
                same = [other for other in section if section[other]["Type"] == section[name]["Type"]]
                where = same.index(name)
                around = [same[(where + 1) % len(same)], same[where - 1]]
                return [other for other in dict.fromkeys(around) if other != name]
        pseudo = {"AWS::Region": "AWS::AccountId", "AWS::AccountId": "AWS::Region", "AWS::StackName": "AWS::Region"}
        return [pseudo[name]] if name in pseudo else []

    def additions(self) -> Iterator[tuple[Place, str, Any]]:
        """Every setting added to every resource that does not have it."""
        for name, resource in self._resources.items():
            for setting, value in ADDITIONS.get(resource["Type"], {}).items():
                if setting not in resource["Properties"]:
                    yield ("Resources", name, "Properties", setting), f"{value} added", value

    # --- The dashboard ---

    def dashboard_changes(self) -> Iterator[tuple[Place, str, Any]]:
        """The changes of the dashboard's body, which is a text with references in it."""
        place: Place = ("Resources", "OperationDashboard", "Properties", "DashboardBody", "Fn::Sub", 0)
        body = self._resources["OperationDashboard"]["Properties"]["DashboardBody"]["Fn::Sub"]
        for where, what, new in self._changes_of_body(_as_json(body[0])):
            yield place, f"{where}: {what}", _as_text(new)
        variables = (*place[:-1], 1)
        alarms = body[1]["ProbeAlarms"]["Fn::If"]
        text = alarms[1]["Fn::Sub"]
        for alarm in re.findall(r', "\$\{\w+\.Arn\}"', text):
            changes = [alarms[0], {"Fn::Sub": text.replace(alarm, "")}, alarms[2]]
            yield (*variables, "ProbeAlarms", "Fn::If"), f"{alarm} removed", changes
        widget = body[1]["ProbeWidget"]["Fn::If"]
        for where, what, new in self._changes_of_body(json.loads(widget[1]["Fn::Sub"].removeprefix(", "))):
            changes = [widget[0], {"Fn::Sub": ", " + json.dumps(new)}, widget[2]]
            yield (*variables, "ProbeWidget", "Fn::If"), f"{where}: {what}", changes

    def _changes_of_body(self, body: Any) -> Iterator[tuple[str, str, Any]]:
        mutator = Mutator(self._changes_of_widget, lambda place: place[-1:] == ("title",), _is_kept)
        for place, what, new in mutator.changes(body):
            yield named(place), what, changed(body, place, new)

    def _changes_of_widget(self, place: Place, value: Any) -> Iterable[Change] | None:
        if place[-1:] == ("query",):
            return _changes_of_query(value)
        if isinstance(value, str) and value.startswith("@"):
            return ()
        if isinstance(value, str) and (found := re.fullmatch(r"\$\{(\w+)((?:\.\w+)?)\}", value)):
            return [(f"{found[1]} -> {other}", f"${{{other}{found[2]}}}") for other in self._neighbors(found[1])]
        if place and place[-1] in ("x", "y", "width", "height", "period"):
            return [(f"{value} -> {value + 1}", value + 1)]
        if place and place[-1] in ALTERNATIVES:
            return [(f"{value} -> {other}", other) for other in ALTERNATIVES[str(place[-1])].get(value, [])] or None
        return None


def _is_skipped(place: Place) -> bool:
    if {*place[:2]} & OUTSIDE or place[:1] == ("Description",):
        return True
    if place[-1:] == ("AlarmDescription",):
        return False  # It may be missing.
    return bool(place) and place[-1] in WORDING | FORM


def _is_kept(place: Place) -> bool:
    return len(place) == 1 or place[-1] in ESSENTIAL or any(str(key).startswith("Fn::") for key in place[-2:])


def _without_no_value(branch: Any) -> Any:
    return REMOVED if branch == {"Ref": "AWS::NoValue"} else branch


def _changes_of_statement(statement: dict[str, Any]) -> list[Change]:
    """The changes of a policy's statement as a whole: it opens to everything or everybody."""
    changes: list[Change] = []
    if "Resource" in statement and statement["Resource"] != "*":
        changes.append(("Resource -> *", statement | {"Resource": "*"}))
    if "Principal" in statement and statement["Principal"] != "*":
        changes.append(("Principal -> *", statement | {"Principal": "*"}))
    actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
    service = actions[0].split(":")[0]
    if actions != [f"{service}:*"]:
        changes.append((f"Action -> {service}:*", statement | {"Action": f"{service}:*"}))
    return changes


def _changes_of_action(action: str) -> list[Change]:
    service, name = action.split(":")
    others = [other for other in OTHER_ACTIONS[service] if other != name][:1]
    changes: list[Change] = [(f"{action} -> {other}", f"{service}:{other}") for other in others]
    return [*changes, (f"{action} misspelled", action[:-1])] if name != "*" else changes


def _changes_of_query(query: str) -> Iterator[Change]:
    """The changes of a query: each command removed, each name and number changed."""
    commands = query.split(" | ")
    for number, command in enumerate(commands[1:], 1):
        yield f"{shortened(command)} removed", " | ".join([*commands[:number], *commands[number + 1 :]])
    for pattern in (r"\"[\w-]+(?=\")", r"\bdetails\.\w+", r"\b(?:late_ms|execution_arn|@timestamp)\b", r"\b\d+\b"):
        for found in re.finditer(pattern, query):
            [(_, new)] = [*general_changes(found[0])][:1]
            yield f"{found[0]} at {found.start()} -> {new}", query[: found.start()] + new + query[found.end() :]
    for old, new in (
        (" desc", " asc"),
        ("pct(", "avg("),
        ("max(", "min("),
        ("in [", "not in ["),
        ("DeliverLog", "SweepLog"),
    ):
        if old in query:
            yield f"{old.strip()} -> {new.strip()}", query.replace(old, new, 1)


def _as_json(body: str) -> Any:
    """The body of the dashboard without its references to other texts, which stand in it as items."""
    return json.loads(body.replace("${ProbeAlarms}", ', "@ProbeAlarms"').replace("${ProbeWidget}", ', "@ProbeWidget"'))


def _as_text(body: Any) -> str:
    text = json.dumps(body)
    return text.replace(', "@ProbeAlarms"', "${ProbeAlarms}").replace(', "@ProbeWidget"', "${ProbeWidget}")
