"""Who may use the stack's topics and queues, and with which keys they and the tables and logs are encrypted."""

from functools import cache

import botocore.session
import pytest

from tests.template.iam import allows, resource_statements
from tools.cloudformation import ACCOUNT, REGION, Template

KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/k"
STRANGER, PUBLISHER, SECOND_PUBLISHER = "999999999999", "111111111111", "222222222222"
DEFAULT, ENCRYPTED = Template(), Template(KmsKeyArn=KEY, Probe="true")
SHARED = Template(PublisherAccounts=f"{PUBLISHER},{SECOND_PUBLISHER}")

TOPICS, QUEUES = ("InputTopic", "FailureTopic", "AlarmTopic"), ("InputQueue", "InputDeadLetters", "Undelivered")
OWNER = ("AWS", ACCOUNT)
CLOUDWATCH, SNS, EVENTS = (("Service", f"{name}.amazonaws.com") for name in ("cloudwatch", "sns", "events"))
OF_ACCOUNT = {"aws:SourceAccount": ACCOUNT}
OF_INPUT_TOPIC = {"aws:SourceArn": DEFAULT.arn("InputTopic")}


@cache
def actions_of(service: str) -> set[str]:
    """Every action of a service."""
    return {f"{service}:{name}" for name in botocore.session.get_session().get_service_model(service).operation_names}


def allowed(template: Template, name: str, principal: tuple[str, str], tls: str = "true", **context: str) -> set[str]:
    """The actions on a topic or queue that its policy allows a principal."""
    statements, context = resource_statements(template, name), {"aws:SecureTransport": tls, **context}
    actions = actions_of("sns" if name in TOPICS else "sqs")
    return {action for action in actions if allows(statements, action, template.arn(name), context, principal)}


# --- Who ------------------------------------------------------------------------------------------------------------

# The policy leaves these to the identity policies of the account's principals, as that of a new topic does. It does not
# mention actions that open the topic to others.
MANAGE = {"sns:Subscribe", "sns:GetTopicAttributes", "sns:SetTopicAttributes", "sns:DeleteTopic"}
# Every access that the policies give: to whom, in which circumstances, to what -> actions.
GIVEN = {
    (OWNER, "", "InputTopic"): {"sns:Publish", *MANAGE},
    (OWNER, "", "FailureTopic"): {"sns:Publish", *MANAGE},
    (OWNER, "", "AlarmTopic"): MANAGE,
    (CLOUDWATCH, "of this account", "AlarmTopic"): {"sns:Publish"},
    (SNS, "from the input topic", "InputQueue"): {"sqs:SendMessage"},
    (SNS, "from the input topic", "InputDeadLetters"): {"sqs:SendMessage"},
}
PUBLISHERS = {(("AWS", account), "", "InputTopic"): {"sns:Publish"} for account in (PUBLISHER, SECOND_PUBLISHER)}
CIRCUMSTANCES = {
    "": {},
    "of this account": OF_ACCOUNT,
    "of another account": {"aws:SourceAccount": STRANGER},
    "from the input topic": OF_INPUT_TOPIC,
    "from the failure topic": {"aws:SourceArn": DEFAULT.arn("FailureTopic")},
    "from another account's topic": {"aws:SourceArn": f"arn:aws:sns:{REGION}:{STRANGER}:InputTopic"},
}


@pytest.mark.parametrize("name", [*TOPICS, *QUEUES])
@pytest.mark.parametrize(
    ("template", "given"), [(DEFAULT, GIVEN), (ENCRYPTED, GIVEN), (SHARED, GIVEN | PUBLISHERS)], ids=lambda x: ""
)
def test_a_policy_gives_access_to_these_and_nobody_else(template, given, name):
    """To accounts only without circumstances, because their identity policies may add what they like."""
    for principal in (OWNER, CLOUDWATCH, SNS, EVENTS, *(("AWS", x) for x in (PUBLISHER, SECOND_PUBLISHER, STRANGER))):
        for circumstance, context in CIRCUMSTANCES.items():
            expected = given.get((principal, "" if principal[0] == "AWS" else circumstance, name), set())
            assert allowed(template, name, principal, **context) == expected, (principal, circumstance)


@pytest.mark.parametrize("name", ["InputTopic", "FailureTopic", *QUEUES])
def test_access_needs_tls(name):
    """Whatever other policies allow: events and reports travel by TLS alone."""
    actions = {"sns:Publish"} if name in TOPICS else actions_of("sqs")
    anybody = {"Effect": "Allow", "Action": "*", "Resource": "*", "Principal": "*"}
    statements = [*resource_statements(SHARED, name), anybody]
    for action in actions:
        for principal in (OWNER, SNS, ("AWS", PUBLISHER)):
            with_tls, without = (
                allows(statements, action, SHARED.arn(name), {"aws:SecureTransport": tls}, principal)
                for tls in ("true", "false")
            )
            assert with_tls and not without, action


# --- Encryption -------------------------------------------------------------------------------------------------------

# AWS's own key for SNS, which costs nothing, and which only principals of the account can use.
# (docs.aws.amazon.com/sns/latest/dg/sns-server-side-encryption.html)
AWS_KEY = "alias/aws/sns"
# Settings of a resource type -> without KmsKeyArn (SQS, DynamoDB and Logs then use keys of their own), and with it.
KEYS = {
    "AWS::SNS::Topic": ({"KmsMasterKeyId": AWS_KEY}, {"KmsMasterKeyId": KEY}),
    "AWS::SQS::Queue": ({"SqsManagedSseEnabled": True}, {"KmsMasterKeyId": KEY}),  # SQS refuses both at once.
    "AWS::DynamoDB::Table": ({}, {"SSESpecification": {"SSEEnabled": True, "SSEType": "KMS", "KMSMasterKeyId": KEY}}),
    "AWS::Logs::LogGroup": ({}, {"KmsKeyId": KEY}),
}


@pytest.mark.parametrize("type", KEYS)
def test_everything_is_encrypted(type):
    """Each topic, queue, table and log group is encrypted with AWS's key, or with that of KmsKeyArn."""
    settings = {name for settings in KEYS[type] for name in settings}
    for template, expected in zip((Template(Probe="true"), ENCRYPTED), KEYS[type], strict=True):
        for name, properties in template.deployed(type).items():
            # CloudWatch can't use AWS's key.
            wanted = {} if name == "AlarmTopic" and template is not ENCRYPTED else expected
            assert {key: properties[key] for key in settings & properties.keys()} == wanted, name


def test_topics_for_other_accounts():
    """They can't use AWS's key: what they publish to is not encrypted at rest, unless the stack has a key."""
    assert "KmsMasterKeyId" not in SHARED.properties("InputTopic")
    assert SHARED.properties("FailureTopic")["KmsMasterKeyId"] == AWS_KEY
    shared = Template(PublisherAccounts=PUBLISHER, KmsKeyArn=KEY)
    assert shared.properties("InputTopic")["KmsMasterKeyId"] == KEY
