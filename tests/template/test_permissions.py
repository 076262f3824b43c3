"""What each role may do: what its function, state machine or schedule does, and nothing else.

What they do is recorded while they run, and what AWS does for them is documented. IAM's decision about each such
request, and about every other request that their services know, follows from the policies.
"""

from functools import cache

import botocore.session
import pytest

from tests.conftest import OWN_FAILURE_TOPIC, TARGET
from tests.template import recording
from tests.template.iam import allows, listed, role_statements, trust_statements
from tools.cloudformation import ACCOUNT, REGION, Template

KEY, TARGET_KEYS = (f"arn:aws:kms:{REGION}:{ACCOUNT}:key/{name}" for name in ("stack", "target"))
OTHER_ACCOUNT = "222222222222"
FOREIGN_TARGET = f"arn:aws:sns:{REGION}:{OTHER_ACCOUNT}:orders"

DEFAULT = Template()
# Every condition of the template is true in one of these and false in another.
LIMITED = Template(TargetTopicArns=f"{TARGET},{FOREIGN_TARGET}")
EVERYTHING = Template(
    TargetTopicArns=f"arn:aws:sns:*:{ACCOUNT}:order?",
    TargetKmsKeyArns=f"{TARGET_KEYS},arn:aws:kms:{REGION}:{OTHER_ACCOUNT}:key/target",
    KmsKeyArn=KEY,
    PublisherAccounts=OTHER_ACCOUNT,
    Probe="true",
    Tracing="true",
)
PROBE = Template(Probe="true")
each_template = pytest.mark.parametrize(
    "template", [DEFAULT, LIMITED, EVERYTHING, PROBE], ids=["default", "limited targets", "everything", "probe"]
)

FUNCTIONS, MACHINES = ("Ingest", "Sweeper", "Hold", "ProbeFunction"), ("Deliver", "Sweep")
SCHEDULES = ("Clock", "ProbeSchedule")
ACTORS = (*FUNCTIONS, *MACHINES, *SCHEDULES)


def role_of(template: Template, actor: str) -> str:
    """The logical id of a function's, state machine's or schedule's role."""
    properties = template.properties(actor)
    arn = properties["Target"]["RoleArn"] if actor in SCHEDULES else properties["Role"]
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
# The others have nothing to do with what the key encrypts: their log groups are encrypted by CloudWatch Logs.
USE_STACKS_KEY = {"Ingest", "Sweeper", "Deliver", "Sweep", "ProbeSchedule"}
PUBLISHERS = {"Ingest", "Sweeper", "Deliver"}

type Request = tuple[str, str]


def needed(template: Template, actor: str) -> set[Request]:
    """The requests that an actor makes, or that AWS makes for it, as pairs of action and resource."""
    pairs: set[Request] = set()
    if actor in FUNCTIONS:
        pairs |= {(call.action, call.resource) for call in recording.of_functions()[actor].calls}
        log = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{template.function(actor)['LoggingConfig']['LogGroup']}"
        pairs |= {(action, f"{log}:log-stream:a") for action in WRITE_LOG}
        pairs |= {(action, "*") for action in TRACE}
        for source in template.properties(actor).get("Events", {}).values():
            if source["Type"] == "SQS":
                pairs |= {(action, source["Properties"]["Queue"]) for action in POLL_QUEUE}
    elif actor in MACHINES:
        pairs |= {(call.action, call.resource) for call in recording.of_machines()[actor].calls}
        pairs |= {(action, "*") for action in (*DELIVER_LOGS, *TRACE_EXECUTIONS)}
    else:
        target = template.properties(actor)["Target"]["Arn"]
        pairs.add(("states:StartExecution" if ":states:" in target else "sns:Publish", target))
    if actor in PUBLISHERS:
        # The recorded calls name some topics; the promise is about all that an event may name.
        pairs = {pair for pair in pairs if pair[0] != "sns:Publish"}
        pairs |= {("sns:Publish", topic) for topic in publishable(template, actor)}
        keys = [key for key in template.resolve({"Ref": "TargetKmsKeyArns"}).split(",") if key]
        pairs |= {(action, key) for key in keys for action in USE_KEY}
    if actor in USE_STACKS_KEY and (key := template.resolve({"Ref": "KmsKeyArn"})):
        pairs |= {(action, key) for action in USE_KEY}
    return pairs


def publishable(template: Template, actor: str) -> set[str]:
    """The topics that an actor may publish to: those that TargetTopicArns says, and the stack's failure topic. Deliver
    may not publish to the input topic, but to the probe's."""
    limit = template.resolve({"Ref": "TargetTopicArns"})
    within = {topic for topic in TOPICS if topic.startswith(f"arn:aws:sns:{REGION}:{ACCOUNT}:")}
    if template is LIMITED:
        assert limit.split(",") == [TARGET, FOREIGN_TARGET]
        within = {TARGET, FOREIGN_TARGET}
    elif limit:
        within = {f"arn:aws:sns:{REGION}:{ACCOUNT}:orders", f"arn:aws:sns:eu-west-1:{ACCOUNT}:orders"}
    within |= {template.arn("FailureTopic")}
    if actor == "Deliver":
        within -= {template.arn("InputTopic")}
        if template.exists("ProbeTopic"):
            within |= {template.arn("ProbeTopic")}
    return within


# --- What there is ----------------------------------------------------------------------------------------------------

TOPICS = {
    *(f"arn:aws:sns:{REGION}:{ACCOUNT}:{name}" for name in DEFAULT.resources("AWS::SNS::Topic")),
    *(TARGET, OWN_FAILURE_TOPIC, FOREIGN_TARGET, f"arn:aws:sns:eu-west-1:{ACCOUNT}:orders"),
}


@cache
def operations() -> dict[str, set[str]]:
    """Every action of the services that the policies name, by the services' prefix in IAM: those of botocore's service
    models, and those that no API call has."""
    session = botocore.session.get_session()
    found: dict[str, set[str]] = {}
    for service in ("sns", "sqs", "dynamodb", "stepfunctions", "lambda", "kms", "logs", "xray", "sts"):
        model = session.get_service_model(service)
        names = {f"{model.signing_name}:{name}" for name in model.operation_names}
        found[model.signing_name] = {recording.IAM_ACTIONS.get(name, name) for name in names}
    # docs.aws.amazon.com/service-authorization/latest/reference/list_amazoncloudwatchlogs.html
    found["logs"] |= DELIVER_LOGS
    return found


@cache
def resources() -> dict[str, set[str]]:
    """ARNs by service: every resource of the stack, and one of each kind that is not the stack's. "*" stands for the
    requests about no resource."""
    template, place = EVERYTHING, f"{REGION}:{ACCOUNT}"
    kinds = {
        "sqs": ["AWS::SQS::Queue"],
        "dynamodb": ["AWS::DynamoDB::Table"],
        "states": ["AWS::Serverless::StateMachine"],
        "lambda": ["AWS::Serverless::Function"],
    }
    found = {
        service: {template.arn(name) for kind in types for name in template.resources(kind)}
        for service, types in kinds.items()
    }
    found["sqs"] |= {f"arn:aws:sqs:{place}:other"}
    found["dynamodb"] |= {f"arn:aws:dynamodb:{place}:table/{name}" for name in ("other", "Parked/index/i", "ParkedX")}
    found["states"] |= {f"arn:aws:states:{place}:stateMachine:other"}
    found["lambda"] |= {f"arn:aws:lambda:{place}:function:other"}
    found["sns"] = TOPICS
    found["kms"] = {
        *(KEY, TARGET_KEYS, f"arn:aws:kms:{REGION}:{OTHER_ACCOUNT}:key/target"),
        f"arn:aws:kms:{place}:key/other",
    }
    logs = [template.resolve({"Ref": name}) for name in template.resources("AWS::Logs::LogGroup")]
    found["logs"] = {f"arn:aws:logs:{place}:log-group:{name}:log-stream:a" for name in [*logs, "other"]}
    found["sts"] = {"*"} | {template.arn(role) for role in template.resources("AWS::IAM::Role")}
    found["xray"] = {"*"}
    return found


# --- The decisions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("actor", ACTORS)
@each_template
def test_role_allows_what_is_needed_and_nothing_else(template, actor):
    """Of all requests that there are, each role allows exactly those that are made in it."""
    if not template.exists(actor):
        return
    statements = role_statements(template, role_of(template, actor))
    # The sweeps' clock is one item; test_sweep_reaches_one_item is about all others.
    keys = {"dynamodb_LeadingKeys": ["clock"]} if actor == "Sweep" else {}
    allowed = {
        (action, resource)
        for service, actions in operations().items()
        for action in actions
        # Setting up the delivery of logs is about no resource, so that an allowance is seen at that request alone.
        for resource in ({"*"} if action in DELIVER_LOGS else resources()[service])
        if allows(statements, action, resource, **keys)
    }
    assert allowed == needed(template, actor)


@pytest.mark.parametrize("action", ["dynamodb:GetItem", "dynamodb:PutItem"])
def test_sweep_reaches_one_item(action):
    """Sweep reads and writes the item that says when it started, and no event and no lease in the same table."""
    statements = role_statements(DEFAULT, role_of(DEFAULT, "Sweep"))
    keys = {call.partition_key for call in recording.of_machines()["Sweep"].calls if call.action == action}
    [own] = keys
    parked = DEFAULT.arn("Parked")
    assert allows(statements, action, parked, dynamodb_LeadingKeys=[own])
    for other in ("lane-00", "lease-of-lane-00"):
        assert not allows(statements, action, parked, dynamodb_LeadingKeys=[other])
        assert not allows(statements, action, parked, dynamodb_LeadingKeys=[own, other])


def test_deliver_never_publishes_to_the_input_topic():
    """Whatever TargetTopicArns says: an event that is its own target would be delivered, and billed, without end."""
    for template in (DEFAULT, Template(TargetTopicArns=DEFAULT.arn("InputTopic")), Template(TargetTopicArns="arn:*")):
        statements = role_statements(template, role_of(template, "Deliver"))
        assert not allows(statements, "sns:Publish", template.arn("InputTopic"))


@pytest.mark.parametrize("topic", ["arn:aws:sns:eu-central-1:123456789012:orders", FOREIGN_TARGET])
def test_ingest_accepts_the_targets_that_deliver_may_publish_to(topic):
    """The topics that Ingest checks events against are those of Deliver's role, with and without the probe."""
    from punctual_core.event import Rules

    for template in (DEFAULT, LIMITED, EVERYTHING, Template(TargetTopicArns=TARGET, Probe="true")):
        environment = template.environment("Ingest")
        rules = Rules(environment["INPUT_TOPIC_ARN"], tuple(environment["TARGET_TOPIC_ARNS"].split(",")))
        assert environment["INPUT_TOPIC_ARN"] == template.arn("InputTopic")
        for candidate in {topic, *([template.arn("ProbeTopic")] if template.exists("ProbeTopic") else [])}:
            statements = role_statements(template, role_of(template, "Deliver"))
            assert allows(statements, "sns:Publish", candidate) == (rules.objection_to(candidate) is None)


@each_template
def test_every_role_has_one_user(template):
    """Each function, state machine and schedule has a role of its own, and there is no further role."""
    roles = [role_of(template, actor) for actor in ACTORS if template.exists(actor)]
    assert sorted(roles) == sorted(template.deployed("AWS::IAM::Role"))


SERVICES = {
    **dict.fromkeys(FUNCTIONS, "lambda.amazonaws.com"),
    **dict.fromkeys(MACHINES, "states.amazonaws.com"),
    **dict.fromkeys(SCHEDULES, "scheduler.amazonaws.com"),
}


@pytest.mark.parametrize("actor", ACTORS)
def test_role_is_assumed_by_its_service(actor):
    """A role can be assumed by the service that runs its user, by no other, and by nobody's account."""
    statements = trust_statements(EVERYTHING, role_of(EVERYTHING, actor))
    for service in {*SERVICES.values(), "events.amazonaws.com"}:
        principal = ("Service", service)
        is_own = service == SERVICES[actor]
        assert allows(statements, "sts:AssumeRole", principal=principal, aws_SourceAccount=ACCOUNT) == is_own
        assert not allows(statements, "sts:TagSession", principal=principal, aws_SourceAccount=ACCOUNT)
    for account in (ACCOUNT, OTHER_ACCOUNT):
        assert not allows(statements, "sts:AssumeRole", principal=("AWS", account), aws_SourceAccount=ACCOUNT)


@pytest.mark.parametrize("actor", [*MACHINES, *SCHEDULES])
def test_role_is_not_assumed_for_another_account(actor):
    """A service can't be made to use the role by another account that knows its name.
    (docs.aws.amazon.com/IAM/latest/UserGuide/confused-deputy.html; Lambda has no such condition.)"""
    statements = trust_statements(EVERYTHING, role_of(EVERYTHING, actor))
    principal = ("Service", SERVICES[actor])
    assert not allows(statements, "sts:AssumeRole", principal=principal, aws_SourceAccount=OTHER_ACCOUNT)
    assert not allows(statements, "sts:AssumeRole", principal=principal)


# --- The policies' form -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("actor", ACTORS)
def test_every_action_exists(actor):
    """Each action in a policy is one that AWS documents: a misspelled one would allow nothing."""
    for statement in role_statements(EVERYTHING, role_of(EVERYTHING, actor)):
        for action in listed(statement["Action"]):
            assert action in operations()[action.split(":")[0]], action


@pytest.mark.parametrize("actor", ACTORS)
@each_template
def test_form_of_policies(template, actor):
    """IAM refuses two statements with the same Sid in a policy, and what is no ARN."""
    if template.exists(actor):
        statements = role_statements(template, role_of(template, actor))
        sids = [statement["Sid"] for statement in statements]
        assert len({*sids}) == len(sids)
        assert all(sid.isalnum() for sid in sids)
        for resource in (resource for statement in statements for resource in listed(statement["Resource"])):
            assert resource == "*" or resource.startswith("arn:aws:"), resource


@pytest.mark.parametrize("actor", ACTORS)
def test_policies_of_a_role_fit(actor):
    """The inline policies of a role stay below IAM's 10,240 characters with the longest parameters.
    (docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html)"""
    shortest, limits = "arn:a", DEFAULT.text["Parameters"]
    lists = {
        name: ",".join([shortest] * ((limits[name]["MaxLength"] + 1) // (len(shortest) + 1)))
        for name in ("TargetTopicArns", "TargetKmsKeyArns")
    }
    template = Template(**lists, KmsKeyArn=KEY, Probe="true")
    text = str(role_statements(template, role_of(template, actor))).replace(" ", "")
    assert len(text) < 10_240 * 0.9  # Names are longer on AWS.
