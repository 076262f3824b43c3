"""What each role may do: what its function, state machine or schedule does, and nothing else.

What they do is recorded while they run, and what AWS does for them is documented. IAM's decision about each such
request, and about every other request that their services know, follows from the policies.
"""

from collections.abc import Iterator
from functools import cache

import botocore.session
import pytest
from punctual_core.event import Rules

from tests.conftest import OWN_FAILURE_TOPIC, TARGET
from tests.template import recording
from tests.template.iam import allows, role_statements, trust_statements
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

SERVICES = {"Function": "lambda", "StateMachine": "states", "Schedule": "scheduler"}
USERS = {
    user: service
    for type, service in SERVICES.items()
    for namespace in ("Serverless", "Scheduler")
    for user in EVERYTHING.deployed(f"AWS::{namespace}::{type}")
}
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
USE_STACKS_KEY = {"Ingest", "Sweeper", "Deliver", "Sweep", "ProbeSchedule"}
PUBLISHERS = {"Ingest", "Sweeper", "Deliver"}


def recorded(user: str) -> recording.Recording:
    """What a function or state machine did."""
    return (recording.of_functions() | recording.of_machines())[user]


def needed(template: Template, user: str) -> Iterator[tuple[str, str]]:
    """The requests that a user of a role makes, or that AWS makes for it, as pairs of action and resource."""
    properties = template.properties(user)
    if USERS[user] == "scheduler":
        target = properties["Target"]["Arn"]
        yield "states:StartExecution" if ":states:" in target else "sns:Publish", target
    else:
        # The recorded calls name some topics; the promise is about all that an event may name.
        yield from ((call.action, call.resource) for call in recorded(user).calls if call.action != "sns:Publish")
    if USERS[user] == "lambda":
        log = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{properties['LoggingConfig']['LogGroup']}:log-stream:a"
        yield from ((action, log) for action in WRITE_LOG)
        yield from ((action, "*") for action in TRACE)
        for source in properties.get("Events", {}).values():
            if source["Type"] == "SQS":
                yield from ((action, source["Properties"]["Queue"]) for action in POLL_QUEUE)
    if USERS[user] == "states":
        yield from ((action, "*") for action in (*DELIVER_LOGS, *TRACE_EXECUTIONS))
    keys = [template.resolve({"Ref": "KmsKeyArn"})] if user in USE_STACKS_KEY else []
    if user in PUBLISHERS:
        yield from (("sns:Publish", topic) for topic in publishable(template, user))
        keys += template.resolve({"Ref": "TargetKmsKeyArns"}).split(",")
    yield from ((action, key) for key in keys if key for action in USE_KEY)


def publishable(template: Template, user: str) -> set[str]:
    """The topics that a publisher may publish to: those that TargetTopicArns says, but neither the input topic, where
    an event would loop, nor the alarm topic; and the topic for reports, and the probe's."""
    topics = TEMPLATES[template] - OWN_TOPICS | {template.arn("FailureTopic")}
    return topics | {PROBE_TOPIC} if user == "Deliver" and template.exists("ProbeTopic") else topics


@cache
def requests() -> list[tuple[str, str]]:
    """Every request that there is: each action of the services that the policies name, about every resource of the
    stack and one of each kind that is not the stack's. "*" stands for requests about no resource."""
    session, place, resources = botocore.session.get_session(), f"{REGION}:{ACCOUNT}", {}
    for service, type, others in (
        ("sqs", "AWS::SQS::Queue", [f"arn:aws:sqs:{place}:other"]),
        ("dynamodb", "AWS::DynamoDB::Table", [f"arn:aws:dynamodb:{place}:table/{x}" for x in ("a", "Parked/index/i")]),
        ("stepfunctions", "AWS::Serverless::StateMachine", [f"arn:aws:states:{place}:stateMachine:other"]),
        ("lambda", "AWS::Serverless::Function", [f"arn:aws:lambda:{place}:function:other"]),
        ("sns", "AWS::SNS::Topic", TOPICS),
        ("sts", "AWS::IAM::Role", ["*"]),
    ):
        resources[service] = {*map(EVERYTHING.arn, EVERYTHING.resources(type)), *others}
    resources["kms"] = {KEY, TARGET_KEY, FOREIGN_KEY, f"arn:aws:kms:{place}:key/other"}
    groups = [EVERYTHING.resolve({"Ref": name}) for name in EVERYTHING.resources("AWS::Logs::LogGroup")]
    resources["logs"] = {f"arn:aws:logs:{place}:log-group:{name}:log-stream:a" for name in [*groups, "other"]}
    resources["xray"] = {"*"}
    found = [(action, "*") for action in DELIVER_LOGS]
    for service, arns in resources.items():
        model = session.get_service_model(service)
        for name in model.operation_names:
            action = f"{model.signing_name}:{name}"
            if action not in DELIVER_LOGS:
                found += [(recording.IAM_ACTIONS.get(action, action), arn) for arn in arns]
    return found


# --- The decisions ----------------------------------------------------------------------------------------------------

ITEMS = ("lane-00", "lane-15", "lease-of-lane-07", "clock", "order-4711")


@each_user
@each_template
def test_a_role_allows_what_is_needed_and_nothing_else(template, user):
    """Of all requests that there are, each role allows exactly those that are made in it."""
    if not template.exists(user):
        return
    statements = role_statements(template, role_of(template, user))
    allowed = {
        (action, arn)
        for action, arn in requests()
        for key in (ITEMS if action.startswith("dynamodb:") else [""])
        if allows(statements, action, arn, {"dynamodb:LeadingKeys": [key]} if key else {})
    }
    assert allowed == {*needed(template, user)}


@pytest.mark.parametrize("user", ["Ingest", "Sweeper", "Hold", "ProbeFunction", "Deliver", "Sweep"])
def test_every_recorded_call_is_allowed(user):
    """With the items and attributes that it names, in every lane."""
    statements = role_statements(EVERYTHING if user == "ProbeFunction" else DEFAULT, role_of(EVERYTHING, user))
    for call in recorded(user).calls:
        for context in call.contexts:
            assert allows(statements, call.action, call.resource, context), (call, context)


@pytest.mark.parametrize("action", ["dynamodb:GetItem", "dynamodb:PutItem"])
def test_sweep_reaches_one_item(action):
    """Sweep reads and writes the item that says when it started, and no event and no lease in the same table."""
    statements = role_statements(DEFAULT, role_of(DEFAULT, "Sweep"))
    for keys in (["lane-00"], ["lease-of-lane-00"], ["clock", "lane-00"]):
        assert not allows(statements, action, DEFAULT.arn("Parked"), {"dynamodb:LeadingKeys": keys})


def test_reports_go_to_the_failure_topics():
    """Of the event, or of the stack. Payloads go to the target."""
    reports = {DEFAULT.arn("FailureTopic"), OWN_FAILURE_TOPIC}
    assert recorded("Ingest").topics == recorded("Sweeper").topics == reports
    assert recorded("Deliver").topics == {*reports, TARGET}


@each_template
def test_ingest_accepts_the_targets_that_deliver_may_publish_to(template):
    """An event is refused at once, not when it is due."""
    environment = template.environment("Ingest")
    rules = Rules(environment["INPUT_TOPIC_ARN"], tuple(environment["TARGET_TOPIC_ARNS"].split(",")))
    statements = role_statements(template, role_of(template, "Deliver"))
    for topic in TOPICS - OWN_TOPICS | ({PROBE_TOPIC} if template.exists("ProbeTopic") else set()):
        if topic.split(":")[3] == REGION:
            assert allows(statements, "sns:Publish", topic) == (rules.objection_to(topic) is None), topic
    assert rules.objection_to(template.arn("InputTopic"))


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
    statements = trust_statements(EVERYTHING, role_of(EVERYTHING, user))
    for account in (ACCOUNT, OTHER_ACCOUNT):
        context = {"aws:SourceAccount": account}
        for service in {*SERVICES.values(), "events"}:
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
