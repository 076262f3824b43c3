"""Who may use the stack's topics and queues, and with which keys they and the tables and logs are encrypted."""

import pytest

from tests.template.iam import actions_of, allows, resource_statements
from tools.cloudformation import ACCOUNT, REGION, Template

KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/k"
STRANGER, PUBLISHER, SECOND_PUBLISHER = "999999999999", "111111111111", "222222222222"
DEFAULT, ENCRYPTED = Template(Probe="true"), Template(KmsKeyArn=KEY, Probe="true")
SHARED = Template(PublisherAccounts=f"{PUBLISHER},{SECOND_PUBLISHER}")

TOPICS, QUEUES = ("InputTopic", "FailureTopic", "AlarmTopic"), ("InputQueue", "InputDeadLetters", "Undelivered")
OWNER, *ACCOUNTS = (("AWS", account) for account in (ACCOUNT, PUBLISHER, SECOND_PUBLISHER, STRANGER))
CLOUDWATCH, SNS, EVENTS = (("Service", f"{name}.amazonaws.com") for name in ("cloudwatch", "sns", "events"))


# --- Who --------------------------------------------------------------------------------------------------------------

# The policy leaves these to the identity policies of the account's principals, as that of a new topic does. It does not
# mention actions that open the topic to others.
MANAGE = {"sns:Subscribe", "sns:GetTopicAttributes", "sns:SetTopicAttributes", "sns:DeleteTopic"}
# Every access that the policies give: to whom, in which circumstances, to what -> actions. To accounts without
# circumstances, because their identity policies may add what they like.
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
    "of this account": {"aws:SourceAccount": ACCOUNT},
    "of another account": {"aws:SourceAccount": STRANGER},
    "from the input topic": {"aws:SourceArn": DEFAULT.arn("InputTopic")},
    "from the failure topic": {"aws:SourceArn": DEFAULT.arn("FailureTopic")},
    "from another account's topic": {"aws:SourceArn": f"arn:aws:sns:{REGION}:{STRANGER}:InputTopic"},
}


@pytest.mark.parametrize("name", [*TOPICS, *QUEUES])
@pytest.mark.parametrize(
    ("template", "given"), [(DEFAULT, GIVEN), (ENCRYPTED, GIVEN), (SHARED, GIVEN | PUBLISHERS)], ids=lambda x: ""
)
def test_a_policy_gives_access_to_these_and_nobody_else(template, given, name):
    """By TLS. Without it, nobody may publish an event or a report, or do anything with a queue, whatever other policies
    allow."""
    statements, arn = resource_statements(template, name), template.arn(name)
    actions = actions_of("sns" if name in TOPICS else "sqs")
    anybody = {"Effect": "Allow", "Action": "*", "Resource": "*", "Principal": "*"}
    needs_tls = {"InputTopic": {"sns:Publish"}, "FailureTopic": {"sns:Publish"}, "AlarmTopic": set()}
    for principal in (OWNER, *ACCOUNTS, CLOUDWATCH, SNS, EVENTS):
        for circumstance, context in CIRCUMSTANCES.items():
            with_tls, without = (context | {"aws:SecureTransport": tls} for tls in ("true", "false"))
            allowed = {action for action in actions if allows(statements, action, arn, with_tls, principal)}
            expected = given.get((principal, "" if principal[0] == "AWS" else circumstance, name), set())
            assert allowed == expected, (principal, circumstance)
            permissive = [*statements, anybody]
            denied = {action for action in actions if not allows(permissive, action, arn, without, principal)}
            assert denied == needs_tls.get(name, actions), (principal, circumstance)
            assert all(allows(permissive, action, arn, with_tls, principal) for action in actions)


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
    """Each topic, queue, table and log group is encrypted with AWS's key, or with that of KmsKeyArn. Neither CloudWatch
    nor other accounts can use AWS's key: alarms, and what other accounts may publish, need a key of their own."""
    settings = {name for settings in KEYS[type] for name in settings}
    shared = Template(PublisherAccounts=PUBLISHER, KmsKeyArn=KEY)
    for template, expected, plain in (
        (DEFAULT, KEYS[type][0], {"AlarmTopic"}),
        (SHARED, KEYS[type][0], {"AlarmTopic", "InputTopic"}),
        (ENCRYPTED, KEYS[type][1], set()),
        (shared, KEYS[type][1], set()),
    ):
        for name, properties in template.deployed(type).items():
            wanted = {} if name in plain else expected
            assert {key: properties[key] for key in settings & properties.keys()} == wanted, name
