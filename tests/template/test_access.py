"""Who may use the stack's topics and queues, and with which keys they and the tables and logs are encrypted."""

import itertools
import re
from functools import cache

import botocore.session
import pytest

from tests.template.iam import allows, listed, queue_statements, topic_statements
from tools.cloudformation import ACCOUNT, REGION, Template

KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/k"
STRANGER, PUBLISHER, SECOND_PUBLISHER = "999999999999", "111111111111", "222222222222"

DEFAULT = Template()
ENCRYPTED = Template(KmsKeyArn=KEY, Probe="true")
SHARED = Template(PublisherAccounts=f"{PUBLISHER},{SECOND_PUBLISHER}")

TOPICS = ("InputTopic", "FailureTopic", "AlarmTopic")
QUEUES = ("InputQueue", "InputDeadLetters", "Undelivered")
OWNER = ("AWS", ACCOUNT)
MANAGE_TOPIC = {"sns:Subscribe", "sns:GetTopicAttributes", "sns:SetTopicAttributes", "sns:DeleteTopic"}


@cache
def actions_of(service: str) -> set[str]:
    """Every action of a service."""
    return {f"{service}:{name}" for name in botocore.session.get_session().get_service_model(service).operation_names}


def allowed_actions(
    template: Template, name: str, principal: tuple[str, str], tls: str = "true", **context: str
) -> set[str]:
    """The actions on a topic or queue that its policy allows a principal."""
    is_topic = name in TOPICS
    statements = (topic_statements if is_topic else queue_statements)(template, name)
    return {
        action
        for action in actions_of("sns" if is_topic else "sqs")
        if allows(statements, action, template.arn(name), principal, aws_SecureTransport=tls, **context)
    }


# --- Topics -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("topic", "actions"),
    [
        ("InputTopic", {"sns:Publish", *MANAGE_TOPIC}),
        ("FailureTopic", {"sns:Publish", *MANAGE_TOPIC}),
        ("AlarmTopic", MANAGE_TOPIC),  # CloudWatch alone publishes alarms.
    ],
)
def test_account_uses_a_topic_by_identity_policies(topic, actions):
    """The topic's policy leaves the account's principals to their own policies, as the policy of a new topic does; it
    does not mention actions that open the topic to others."""
    assert allowed_actions(DEFAULT, topic, OWNER) == actions


@pytest.mark.parametrize("topic", TOPICS)
def test_no_other_account_may_use_a_topic(topic):
    """Another account may do nothing, nor may a service that acts for it."""
    for template in (DEFAULT, SHARED, ENCRYPTED):
        assert allowed_actions(template, topic, ("AWS", STRANGER)) == set()
        for service in ("sns", "cloudwatch", "events", "scheduler"):
            principal = "Service", f"{service}.amazonaws.com"
            assert allowed_actions(template, topic, principal, aws_SourceAccount=STRANGER) == set()
            assert allowed_actions(template, topic, principal) == set()


def test_publisher_accounts_may_publish():
    """The accounts in PublisherAccounts may publish to the input topic, do nothing else, and nothing to the others."""
    for account in (PUBLISHER, SECOND_PUBLISHER):
        assert allowed_actions(SHARED, "InputTopic", ("AWS", account)) == {"sns:Publish"}
        for topic in ("FailureTopic", "AlarmTopic"):
            assert allowed_actions(SHARED, topic, ("AWS", account)) == set()


def test_alarms_are_published():
    """CloudWatch, and no other service, may publish to the alarm topic for this account's alarms, and to no other
    topic."""
    cloudwatch, other = (("Service", f"{name}.amazonaws.com") for name in ("cloudwatch", "events"))
    assert allowed_actions(DEFAULT, "AlarmTopic", other, aws_SourceAccount=ACCOUNT) == set()
    assert allowed_actions(DEFAULT, "AlarmTopic", cloudwatch, aws_SourceAccount=ACCOUNT) == {"sns:Publish"}
    for topic in ("InputTopic", "FailureTopic"):
        assert allowed_actions(DEFAULT, topic, cloudwatch, aws_SourceAccount=ACCOUNT) == set()


@pytest.mark.parametrize("topic", ["InputTopic", "FailureTopic"])
@pytest.mark.parametrize("principal", [OWNER, ("AWS", PUBLISHER)])
def test_nothing_is_published_without_tls(topic, principal):
    """Events and reports travel by TLS alone."""
    assert "sns:Publish" not in allowed_actions(SHARED, topic, principal, tls="false")


# --- Queues -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("queue", ["InputQueue", "InputDeadLetters"])
def test_input_topic_sends_to_its_queues(queue):
    """SNS may send from the input topic to its queue and dead-letter queue, from no other topic, and nothing else."""
    sns = "Service", "sns.amazonaws.com"
    source = DEFAULT.arn("InputTopic")
    assert allowed_actions(DEFAULT, queue, sns, aws_SourceArn=source) == {"sqs:SendMessage"}
    for other in (DEFAULT.arn("FailureTopic"), f"arn:aws:sns:{REGION}:{STRANGER}:InputTopic"):
        assert allowed_actions(DEFAULT, queue, sns, aws_SourceArn=other) == set()
    assert allowed_actions(DEFAULT, queue, sns) == set()
    assert allowed_actions(DEFAULT, queue, ("Service", "events.amazonaws.com"), aws_SourceArn=source) == set()


@pytest.mark.parametrize("queue", QUEUES)
def test_queue_policy_opens_a_queue_to_nobody_else(queue):
    """Besides SNS, only identity policies of the account give access to a queue."""
    for account, template in itertools.product((ACCOUNT, STRANGER, PUBLISHER), (DEFAULT, SHARED)):
        assert allowed_actions(template, queue, ("AWS", account)) == set()
    if queue == "Undelivered":
        for service in ("sns", "events"):
            principal = "Service", f"{service}.amazonaws.com"
            assert allowed_actions(DEFAULT, queue, principal, aws_SourceArn=DEFAULT.arn("InputTopic")) == set()


@pytest.mark.parametrize("queue", QUEUES)
def test_queue_is_used_by_tls_alone(queue):
    """Every request without TLS is denied, whatever other policies allow."""
    statements = queue_statements(DEFAULT, queue)
    everything = {"Effect": "Allow", "Action": "*", "Resource": "*", "Principal": "*"}
    for action in actions_of("sqs"):
        for principal in (OWNER, ("Service", "sns.amazonaws.com")):
            request = action, DEFAULT.arn(queue), principal
            assert not allows([*statements, everything], *request, aws_SecureTransport="false")
            assert allows([*statements, everything], *request, aws_SecureTransport="true")


def test_topics_and_queues_have_one_policy_each():
    """A second policy would replace the first. (docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/
    aws-resource-sns-topicpolicy.html)"""
    for type, key, names in (("AWS::SNS::TopicPolicy", "Topics", TOPICS), ("AWS::SQS::QueuePolicy", "Queues", QUEUES)):
        covered = [ref for policy in DEFAULT.deployed(type).values() for ref in policy[key]]
        assert sorted(covered) == sorted(DEFAULT.resolve({"Ref": name}) for name in names)


PRINCIPALS = {
    "AWS": re.compile(r"\d{12}|arn:aws:iam::\d{12}:root"),
    "Service": re.compile(r"(sns|cloudwatch)\.amazonaws\.com"),
}


def test_form_of_policies():
    """IAM refuses the same Sid twice, and principals that are none. Every action exists, and every resource is what
    the policy is attached to."""
    for template in (DEFAULT, SHARED):
        for name in (*TOPICS, *QUEUES):
            statements = (topic_statements if name in TOPICS else queue_statements)(template, name)
            sids = [statement["Sid"] for statement in statements]
            assert len({*sids}) == len(sids)
            known = actions_of("sns" if name in TOPICS else "sqs") | {"sqs:*"}
            assert {action for statement in statements for action in listed(statement["Action"])} <= known
            assert all(template.arn(name) in listed(statement["Resource"]) for statement in statements)
            for statement in statements:
                named = {} if statement["Principal"] == "*" else statement["Principal"]
                assert all(PRINCIPALS[kind].fullmatch(one) for kind in named for one in listed(named[kind]))


# --- Encryption -------------------------------------------------------------------------------------------------------

# AWS's own key for SNS, which costs nothing, and which only principals of the account can use.
# (docs.aws.amazon.com/sns/latest/dg/sns-server-side-encryption.html)
AWS_KEY = "alias/aws/sns"


@pytest.mark.parametrize(
    ("topic", "parameters", "key"),
    [
        ("InputTopic", {}, AWS_KEY),
        ("FailureTopic", {}, AWS_KEY),
        ("ProbeTopic", {"Probe": "true"}, AWS_KEY),
        ("AlarmTopic", {}, None),  # CloudWatch can't use AWS's key.
        ("InputTopic", {"PublisherAccounts": PUBLISHER}, None),  # Other accounts can't.
        ("FailureTopic", {"PublisherAccounts": PUBLISHER}, AWS_KEY),
        *((topic, {"KmsKeyArn": KEY, "Probe": "true"}, KEY) for topic in (*TOPICS, "ProbeTopic")),
        ("InputTopic", {"KmsKeyArn": KEY, "PublisherAccounts": PUBLISHER}, KEY),
    ],
)
def test_topic_is_encrypted(topic, parameters, key):
    """A topic has the stack's key, or AWS's where everybody who publishes can use that, or none."""
    assert Template(**parameters).properties(topic).get("KmsMasterKeyId") == key


@pytest.mark.parametrize("queue", QUEUES)
def test_queue_is_encrypted(queue):
    """A queue has a key of SQS or the stack's; SQS refuses both at once."""
    properties = DEFAULT.properties(queue)
    assert properties["SqsManagedSseEnabled"] is True and "KmsMasterKeyId" not in properties
    properties = ENCRYPTED.properties(queue)
    assert properties["KmsMasterKeyId"] == KEY and "SqsManagedSseEnabled" not in properties


@pytest.mark.parametrize("table", DEFAULT.resources("AWS::DynamoDB::Table"))
def test_table_is_encrypted(table):
    """A table has a key of DynamoDB, which it has without a setting, or the stack's."""
    assert "SSESpecification" not in DEFAULT.properties(table)
    expected = {"SSEEnabled": True, "SSEType": "KMS", "KMSMasterKeyId": KEY}
    assert ENCRYPTED.properties(table)["SSESpecification"] == expected


@pytest.mark.parametrize("log", DEFAULT.resources("AWS::Logs::LogGroup"))
def test_log_is_encrypted(log):
    """A log group has a key of CloudWatch Logs, which it has without a setting, or the stack's."""
    assert "KmsKeyId" not in Template(Probe="true").properties(log)
    assert ENCRYPTED.properties(log)["KmsKeyId"] == KEY


def test_every_topic_queue_table_and_log_is_tested_for_its_key():
    """The lists above are complete."""
    assert {*TOPICS, "ProbeTopic"} == {*DEFAULT.resources("AWS::SNS::Topic")}
    assert {*QUEUES} == {*DEFAULT.resources("AWS::SQS::Queue")}
