"""What template.yaml promises about alarms, encryption and access. No emulator has CloudWatch's alarms or enforces all
of this, so it is read from the template."""

import json
import re

import pytest

from tests.cloudformation import ROOT, Template

TEMPLATE = Template()
KEY = "arn:aws:kms:eu-central-1:123456789012:key/k"
ENCRYPTED = Template(KmsKeyArn=KEY)
ALARMS = TEMPLATE.resources("AWS::CloudWatch::Alarm")
TOPICS = TEMPLATE.resources("AWS::SNS::Topic")
QUEUES = TEMPLATE.resources("AWS::SQS::Queue")
TABLES = TEMPLATE.resources("AWS::DynamoDB::Table")

# The metrics that AWS's services emit, with their dimension; and those that the functions emit.
METRICS = {
    "AWS/SQS": ({"ApproximateNumberOfMessagesVisible", "ApproximateAgeOfOldestMessage"}, "QueueName"),
    "AWS/States": ({"ExecutionsFailed", "ExecutionsTimedOut"}, "StateMachineArn"),
    "AWS/Lambda": ({"Errors", "Throttles", "Invocations"}, "FunctionName"),
    "AWS/SNS": ({"NumberOfNotificationsFailed", "NumberOfNotificationsFailedToRedriveToDlq"}, "TopicName"),
    "Punctual": ({"Failed", "Overdue", "Retries", "Lateness"}, "service"),
}


@pytest.mark.parametrize("name", ALARMS)
def test_an_alarm_watches_what_exists_and_tells_the_operator(name):
    alarm = TEMPLATE.properties(name)
    metrics, dimension = METRICS[alarm["Namespace"]]
    [watched] = ALARMS[name]["Properties"]["Dimensions"]
    assert alarm["MetricName"] in metrics
    assert watched["Name"] == dimension
    assert "Ref" in watched["Value"] or "Fn::GetAtt" in watched["Value"]
    assert alarm["AlarmActions"] == [TEMPLATE.resolve({"Ref": "AlarmTopic"})]
    assert len(re.split(r"[.:?;,] ", alarm["AlarmDescription"])) >= 2, "what happened, and what to do"


def test_our_own_metrics_are_emitted_under_the_names_that_alarms_watch():
    source = "".join(path.read_text() for path in (ROOT / "functions/scheduler").glob("*.py"))
    for alarm in map(TEMPLATE.properties, ALARMS):
        if alarm["Namespace"] == "Punctual":
            assert f'"{alarm["MetricName"]}"' in source
    for function in ("Ingest", "Sweeper"):
        assert TEMPLATE.environment(function)["POWERTOOLS_SERVICE_NAME"] == "punctual"


def test_every_way_to_fail_has_an_alarm():
    """Each queue of the dead, each machine's failures and time-outs, each function's errors and throttles."""
    watched = {
        (alarm["MetricName"], json.dumps(ALARMS[name]["Properties"]["Dimensions"][0]["Value"]))
        for name in ALARMS
        if (alarm := TEMPLATE.properties(name))
    }
    for queue in ("InputDeadLetters", "Undelivered"):
        attribute = json.dumps({"Fn::GetAtt": [queue, "QueueName"]})
        assert ("ApproximateNumberOfMessagesVisible", attribute) in watched
    for machine in TEMPLATE.resources("AWS::Serverless::StateMachine"):
        for metric in METRICS["AWS/States"][0]:
            assert (metric, json.dumps({"Ref": machine})) in watched
    for function in ("Ingest", "Sweeper", "Hold"):
        for metric in ("Errors", "Throttles"):
            assert (metric, json.dumps({"Ref": function})) in watched
    assert ("Invocations", json.dumps({"Ref": "Sweeper"})) in watched


def test_silence_of_the_sweeper_is_an_alarm_after_three_minutes():
    alarm = TEMPLATE.properties("NoSweepAlarm")
    assert alarm["TreatMissingData"] == "breaching"
    assert alarm["Period"] * alarm["EvaluationPeriods"] == 180


def test_alarms_are_mailed_to_the_address_given():
    subscription = TEMPLATE.text["Resources"]["AlarmSubscription"]
    assert subscription["Condition"] == "NotifyByEmail"
    properties = Template(AlarmEmail="night@example.com").properties("AlarmSubscription")
    assert (properties["Protocol"], properties["Endpoint"]) == ("email", "night@example.com")


def test_topics_and_queues_are_encrypted_by_default():
    """Except the alarm topic: AWS's own key for SNS is closed to CloudWatch."""
    assert {name for name in TOPICS if "KmsMasterKeyId" not in TEMPLATE.properties(name)} == {"AlarmTopic"}
    assert all(TEMPLATE.properties(name)["SqsManagedSseEnabled"] is True for name in QUEUES)


def test_a_customer_key_is_used_for_all_that_is_kept():
    assert all(ENCRYPTED.properties(name)["KmsMasterKeyId"] == KEY for name in [*TOPICS, *QUEUES])
    assert all("SqsManagedSseEnabled" not in ENCRYPTED.properties(name) for name in QUEUES)
    assert all(ENCRYPTED.properties(name)["SSESpecification"]["KMSMasterKeyId"] == KEY for name in TABLES)
    assert all(ENCRYPTED.properties(name)["KmsKeyId"] == KEY for name in TEMPLATE.resources("AWS::Logs::LogGroup"))


@pytest.mark.parametrize("role", ["IngestRole", "SweeperRole", "DeliverRole"])
def test_a_customer_key_comes_with_the_grant_to_use_it(role):
    [policy] = ENCRYPTED.properties(role)["Policies"]
    [grant] = [s for s in policy["PolicyDocument"]["Statement"] if s["Sid"] == "UseCustomerKey"]
    assert grant["Resource"] == KEY
    [policy] = TEMPLATE.properties(role)["Policies"]
    assert "UseCustomerKey" not in [s["Sid"] for s in policy["PolicyDocument"]["Statement"]]


def test_no_other_account_may_publish_unless_it_is_named():
    [principals] = _publishers(TEMPLATE)
    assert principals == "arn:aws:iam::123456789012:root"
    own, others = _publishers(Template(PublisherAccounts="111111111111,222222222222", KmsKeyArn=KEY))
    assert own == principals
    assert others == ["111111111111", "222222222222"]


def test_the_input_topic_of_other_accounts_has_a_key_that_they_can_use_or_none():
    """AWS's own key for SNS is closed to other accounts: their messages would be refused."""
    assert "KmsMasterKeyId" not in Template(PublisherAccounts="111111111111").properties("InputTopic")
    assert Template(PublisherAccounts="1", KmsKeyArn=KEY).properties("InputTopic")["KmsMasterKeyId"] == KEY


@pytest.mark.parametrize("policy", ["InputTopicPolicy", "FailureTopicPolicy", "InputQueuesPolicy", "UndeliveredPolicy"])
def test_access_is_by_tls_only(policy):
    statements = TEMPLATE.properties(policy)["PolicyDocument"]["Statement"]
    [denial] = [statement for statement in statements if statement["Effect"] == "Deny"]
    assert denial["Principal"] == "*"
    assert denial["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_the_input_queue_takes_messages_from_the_input_topic_alone():
    statements = TEMPLATE.properties("InputQueuesPolicy")["PolicyDocument"]["Statement"]
    [allowance] = [statement for statement in statements if statement["Effect"] == "Allow"]
    assert allowance["Condition"] == {"ArnEquals": {"aws:SourceArn": TEMPLATE.resolve({"Ref": "InputTopic"})}}


@pytest.mark.parametrize("role", ["IngestRole", "SweeperRole", "DeliverRole"])
def test_only_the_topics_of_the_parameter_may_be_published_to(role):
    """By default every topic of the account and Region; reports always reach the stack's own failure topic."""
    failure_topic = TEMPLATE.resolve({"Ref": "FailureTopic"})
    assert _may_publish_to(TEMPLATE, role) == [failure_topic, "arn:aws:sns:eu-central-1:123456789012:*"]
    limited = Template(TargetTopicArns="arn:a,arn:b*")
    assert _may_publish_to(limited, role) == [failure_topic, "arn:a", "arn:b*"]
    assert limited.environment("Ingest")["TARGET_TOPIC_ARNS"] == "arn:a,arn:b*"


def test_the_scheduler_cannot_publish_to_itself():
    [policy] = TEMPLATE.properties("DeliverRole")["Policies"]
    [denial] = [statement for statement in policy["PolicyDocument"]["Statement"] if statement["Effect"] == "Deny"]
    assert (denial["Action"], denial["Resource"]) == ("sns:Publish", TEMPLATE.resolve({"Ref": "InputTopic"}))


# What a task of a definition needs its machine's role to allow. The emulator does not enforce it.
NEEDS = {
    "arn:aws:states:::sns:publish": "sns:Publish",
    "arn:aws:states:::sqs:sendMessage": "sqs:SendMessage",
    "arn:aws:states:::dynamodb:getItem": "dynamodb:GetItem",
    "arn:aws:states:::dynamodb:putItem": "dynamodb:PutItem",
    "arn:aws:states:::lambda:invoke": "lambda:InvokeFunction",
}
TO_LOG_AND_TRACE = ("logs:", "xray:")


@pytest.mark.parametrize("machine", ["Deliver", "Sweep"])
def test_a_machines_role_allows_what_its_tasks_do_and_nothing_else(machine):
    tasks = set(re.findall(r'"Resource": "(arn:[^"]+)"', TEMPLATE.definition(machine)))
    [policy] = TEMPLATE.properties(f"{machine}Role")["Policies"]
    allowed = {
        action
        for statement in policy["PolicyDocument"]["Statement"]
        if statement["Effect"] == "Allow"
        for action in ([statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"])
    }
    assert {action for action in allowed if not action.startswith(TO_LOG_AND_TRACE)} == {NEEDS[task] for task in tasks}


def test_what_has_been_promised_outlives_the_stack():
    for name, table in TABLES.items():
        assert (table["DeletionPolicy"], table["UpdateReplacePolicy"]) == ("RetainExceptOnCreate", "Retain")
        assert TEMPLATE.properties(name)["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"] is True


def test_two_stacks_fit_in_one_account():
    """No resource has a fixed physical name: what is named is named after the stack."""
    for name, resource in TEMPLATE.text["Resources"].items():
        for key, value in resource.get("Properties", {}).items():
            if key in ("Name", "TopicName", "QueueName", "TableName", "FunctionName", "RoleName", "LogGroupName"):
                assert "${AWS::StackName}" in value["Fn::Sub"], (name, key)


def _publishers(template: Template) -> list:
    statements = template.properties("InputTopicPolicy")["PolicyDocument"]["Statement"]
    return [statement["Principal"]["AWS"] for statement in statements if statement["Effect"] == "Allow"]


def _may_publish_to(template: Template, role: str) -> list[str]:
    [policy] = template.properties(role)["Policies"]
    [statement] = [
        statement
        for statement in policy["PolicyDocument"]["Statement"]
        if statement["Effect"] == "Allow" and statement["Action"] == "sns:Publish"
    ]
    return statement["Resource"]
