"""What each role may do: what its function, state machine or schedule does, and nothing else.

What they do is recorded while they run, and what AWS does for them is documented. IAM's decision about each such
request, and about every other request that their services know, follows from the policies.
"""

import os
from functools import cache
from unittest.mock import patch

import pytest
from punctual_core import ingest

from tests.conftest import OWN_FAILURE_TOPIC, TARGET
from tests.template import recording
from tests.template.iam import actions_of, allows, role_statements, statements_of
from tools.cloudformation import ACCOUNT, REGION, Template

KEY, TARGET_KEY = (f"arn:aws:kms:{REGION}:{ACCOUNT}:key/{name}" for name in ("stack", "target"))
OTHER_ACCOUNT = "222222222222"
FOREIGN_TARGET = f"arn:aws:sns:{REGION}:{OTHER_ACCOUNT}:orders"
FOREIGN_KEY = f"arn:aws:kms:{REGION}:{OTHER_ACCOUNT}:key/k"

DEFAULT = Template()
OWN_TOPICS = {DEFAULT.arn(topic) for topic in ("InputTopic", "AlarmTopic", "FailureTopic")}
TOPICS = {TARGET, OWN_FAILURE_TOPIC, FOREIGN_TARGET, f"arn:aws:sns:eu-west-1:{ACCOUNT}:orders", *OWN_TOPICS}
PROBE_TOPIC = f"arn:aws:sns:{REGION}:{ACCOUNT}:ProbeTopic"
HERE = {topic for topic in {*TOPICS, PROBE_TOPIC} if topic.startswith(f"arn:aws:sns:{REGION}:{ACCOUNT}:")}
# Every condition is true in one of these and false in another -> the topics that TargetTopicArns means.
TEMPLATES = {
    DEFAULT: HERE,
    Template(Probe="true", KmsKeyArn=KEY): HERE,
    Template(TargetTopicArns=f"{TARGET},{FOREIGN_TARGET}", TargetKmsKeyArns=FOREIGN_KEY): {TARGET, FOREIGN_TARGET},
    Template(TargetTopicArns="arn:*"): {*TOPICS, PROBE_TOPIC},
    Template(
        TargetTopicArns=f"arn:aws:sns:*:{ACCOUNT}:order?",
        TargetKmsKeyArns=f"{TARGET_KEY},{FOREIGN_KEY}",
        KmsKeyArn=KEY,
        PublisherAccounts=OTHER_ACCOUNT,
        Probe="true",
        Tracing="true",
    ): {TARGET, f"arn:aws:sns:eu-west-1:{ACCOUNT}:orders"},
}
EVERYTHING = [*TEMPLATES][-1]
each_template = pytest.mark.parametrize("template", TEMPLATES, ids=["default", "probe", "limited", "any", "everything"])

# Function, state machine, or schedule -> the service that acts in its role.
USERS = dict.fromkeys(("Ingest", "Sweeper", "Hold", "ProbeFunction"), "lambda")
USERS |= dict.fromkeys(("Deliver", "Sweep"), "states") | dict.fromkeys(("Clock", "ProbeSchedule"), "scheduler")
each_user = pytest.mark.parametrize("user", USERS)


def role_of(template: Template, user: str) -> str:
    """The logical id of a function's, state machine's or schedule's role."""
    properties = template.properties(user)
    arn = properties["Role"] if "Role" in properties else properties["Target"]["RoleArn"]
    [role] = [role for role in template.deployed("AWS::IAM::Role") if template.arn(role) == arn]
    return role


# --- What is needed ---------------------------------------------------------------------------------------------------

# Lambda receives a queue's messages in the role of the function.
# (docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html#events-sqs-permissions)
POLL_QUEUE = {"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"}
# docs.aws.amazon.com/lambda/latest/dg/lambda-intro-execution-role.html: the log group exists already.
WRITE_LOG = {"logs:CreateLogStream", "logs:PutLogEvents"}
# docs.aws.amazon.com/step-functions/latest/dg/cw-logs.html#cloudwatch-iam-policy. Services use these to set up the
# delivery of logs; the delivery itself needs no permission of the role.
DELIVER_LOGS = {
    *("logs:CreateLogDelivery", "logs:GetLogDelivery", "logs:UpdateLogDelivery", "logs:DeleteLogDelivery"),
    *("logs:ListLogDeliveries", "logs:PutResourcePolicy", "logs:DescribeResourcePolicies", "logs:DescribeLogGroups"),
}
# docs.aws.amazon.com/lambda/latest/dg/services-xray.html, docs.aws.amazon.com/step-functions/latest/dg/xray-iam.html
TRACE = {"xray:PutTraceSegments", "xray:PutTelemetryRecords"}
TRACE_EXECUTIONS = {*TRACE, "xray:GetSamplingRules", "xray:GetSamplingTargets"}
# Whoever sends to or receives from a topic or queue, or reads or writes a table, that is encrypted with a key.
# (docs.aws.amazon.com/sns/latest/dg/sns-key-management.html,
# docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-key-management.html)
USE_KEY = {"kms:Decrypt", "kms:GenerateDataKey"}
PUBLISHERS = {"Ingest", "Sweeper", "Deliver"}


def needed(template: Template, user: str) -> set[tuple[str, str]]:
    """The requests that a user of a role makes, and those that AWS makes for it, as pairs of action and resource."""
    properties, of_aws, keys = template.properties(user), set(), []
    match USERS[user]:
        case "scheduler":
            target = properties["Target"]["Arn"]
            calls = {("states:StartExecution" if ":states:" in target else "sns:Publish", target)}
        case "states":
            calls = recording.of_machine(user).calls
            of_aws = {(action, "*") for action in (*DELIVER_LOGS, *TRACE_EXECUTIONS)}
        case "lambda":
            # The recorded calls name some topics; the promise is about all that an event may name.
            calls = {call for call in recording.of_functions()[user].calls if call[0] != "sns:Publish"}
            log = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{properties['LoggingConfig']['LogGroup']}:log-stream:a"
            of_aws = {*((action, log) for action in WRITE_LOG), *((action, "*") for action in TRACE)}
    if user == "Ingest":
        of_aws |= {(action, template.arn("InputQueue")) for action in POLL_QUEUE}
    if any(action.startswith(("sqs:", "sns:", "dynamodb:")) for action, _ in calls):
        keys.append(template.resolve({"Ref": "KmsKeyArn"}))
    if user in PUBLISHERS:
        # Neither the input topic, where an event would loop, nor the alarm topic; and the topic for reports.
        topics = TEMPLATES[template] - OWN_TOPICS | {template.arn("FailureTopic")}
        topics |= {PROBE_TOPIC} if user == "Deliver" and template.exists("ProbeTopic") else set()
        calls = calls | {("sns:Publish", topic) for topic in topics}
        keys += template.resolve({"Ref": "TargetKmsKeyArns"}).split(",")
    return calls | of_aws | {(action, key) for key in keys if key for action in USE_KEY}


@cache
def requests() -> set[tuple[str, str]]:
    """Every request that there is: each action of the services that the policies name, about every resource of the
    stack and one of each kind that is not the stack's. "*" stands for requests about no resource."""
    place = f"{REGION}:{ACCOUNT}"
    others = ("sqs:{}:other", "dynamodb:{}:table/other", "dynamodb:{}:table/Parked/index/i", "kms:{}:key/other")
    others += ("states:{}:stateMachine:other", "lambda:{}:function:other", "logs:{}:log-group:other:*")
    arns = {KEY, TARGET_KEY, FOREIGN_KEY, *TOPICS, *(f"arn:aws:{other.format(place)}" for other in others)}
    kinds = ("Queue", "Table", "Topic", "Function", "StateMachine", "Role", "LogGroup")
    arns |= {EVERYTHING.arn(id) for id, item in EVERYTHING.text["Resources"].items() if item["Type"].endswith(kinds)}
    found = {(action, "*") for action in DELIVER_LOGS}
    for service in ("sqs", "dynamodb", "stepfunctions", "lambda", "sns", "sts", "kms", "logs", "xray"):
        for action in actions_of(service) - DELIVER_LOGS:
            kind = f"arn:aws:{'iam' if service == 'sts' else action.partition(':')[0]}:"
            about = (arn.replace(":*", ":log-stream:a") for arn in arns if arn.startswith(kind))
            found |= {(action, "*"), *((action, arn) for arn in about)}
    return found


# --- The decisions ----------------------------------------------------------------------------------------------------

# The partitions of tables that a request may be about.
KEYS = [("lane-00",), ("lane-15",), ("lease-of-lane-07",), ("clock",), ("order-4711",), ("clock", "lane-00")]


@each_user
@each_template
def test_a_role_allows_what_is_needed_and_nothing_else(template, user):
    """Of all requests that there are, each role allows exactly those that are made in it. Of the table of parked
    events, Sweep reads and writes the item that says when it started, and no event and no lease."""
    if not template.exists(user):
        return
    statements = role_statements(template, role_of(template, user))
    allowed = {
        (action, arn, keys)
        for action, arn in requests()
        for keys in (KEYS if action.startswith("dynamodb:") else [()])
        if allows(statements, action, arn, {"dynamodb:LeadingKeys": [*keys]})
    }
    keys_of_user = [("clock",)] if user == "Sweep" else KEYS
    assert allowed == {
        (action, arn, keys)
        for action, arn in needed(template, user)
        for keys in (keys_of_user if action.startswith("dynamodb:") else [()])
    }


@pytest.mark.parametrize("function", ["Ingest", "Sweeper"])
def test_reports_go_to_the_failure_topics(function):
    """Of the event, or of the stack."""
    topics = {resource for action, resource in recording.of_functions()[function].calls if action == "sns:Publish"}
    assert topics == {DEFAULT.arn("FailureTopic"), OWN_FAILURE_TOPIC}


@each_template
def test_ingest_accepts_the_targets_that_deliver_may_publish_to(template):
    """An event is refused at once, not when it is due. FailureTopic can't be denied to Deliver, which reports there."""
    with patch.dict(os.environ, template.environment("Ingest")):
        rules = ingest._from_environment().rules
    statements = role_statements(template, role_of(template, "Deliver"))
    topics = {topic for topic in TOPICS if topic.split(":")[3] == REGION}
    for topic in topics | ({PROBE_TOPIC} if template.exists("ProbeTopic") else set()):
        is_target = topic != template.arn("FailureTopic") and allows(statements, "sns:Publish", topic)
        assert is_target == (rules.objection_to(topic) is None), topic


# --- Whose a role is --------------------------------------------------------------------------------------------------


@each_template
def test_every_role_has_one_user(template):
    """Each function, state machine and schedule has a role of its own, and there is no further role."""
    roles = [role_of(template, user) for user in USERS if template.exists(user)]
    assert sorted(roles) == sorted(template.deployed("AWS::IAM::Role"))


@each_user
def test_a_role_is_assumed_by_its_service_alone(user):
    """And for this account alone, so that another account that knows its name can't have the service use it.
    (docs.aws.amazon.com/IAM/latest/UserGuide/confused-deputy.html; Lambda has no such condition.)"""
    statements = statements_of([EVERYTHING.properties(role_of(EVERYTHING, user))["AssumeRolePolicyDocument"]])
    for account in (ACCOUNT, OTHER_ACCOUNT):
        context = {"aws:SourceAccount": account}
        for service in {*USERS.values(), "events"}:
            principal = ("Service", f"{service}.amazonaws.com")
            expected = service == USERS[user] and (account == ACCOUNT or service == "lambda")
            assert allows(statements, "sts:AssumeRole", "*", context, principal) == expected
            assert not allows(statements, "sts:TagSession", "*", context, principal)
        assert not allows(statements, "sts:AssumeRole", "*", context, ("AWS", account))


@each_user
def test_the_policies_of_a_role_fit(user):
    """They stay below IAM's 10,240 characters with the longest parameters.
    (docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html)"""
    lists = {"TargetTopicArns": ",".join(["arn:a"] * 341), "TargetKmsKeyArns": ",".join(["arn:a:key/b"] * 170)}
    template = Template(**lists, KmsKeyArn=KEY, Probe="true")
    assert len(str(role_statements(template, role_of(template, user))).replace(" ", "")) < 10_240 * 0.9
