"""Settings of queues, tables, functions, state machines and schedules that an event, an alarm or money depends on."""

import importlib
import json
from datetime import UTC, datetime, timedelta

import pytest
from punctual_core.event import Event, Rules, parse
from punctual_core.hold import MAX_HOLD_SECONDS

from tests.template import recording
from tools.cloudformation import ROOT, Template

ALL = Template(Probe="true", AlarmEmail="night@example.com")
FUNCTIONS = ALL.deployed("AWS::Serverless::Function")
MACHINES = ALL.deployed("AWS::Serverless::StateMachine")
TABLES = ALL.deployed("AWS::DynamoDB::Table")
DAY_SECONDS = 24 * 3600
each_function = pytest.mark.parametrize("function", FUNCTIONS)

# --- Queues and their topic -------------------------------------------------------------------------------------------


def test_queues_keep_messages_as_long_as_sqs_can():
    """14 days; the default would be four. Nothing is delayed. A message that is read by hand, even a thousand times,
    stays in the last queues."""
    queues = ALL.deployed("AWS::SQS::Queue")
    for name, properties in queues.items():
        assert properties["MessageRetentionPeriod"] == 14 * DAY_SECONDS
        assert not properties.keys() & {"DelaySeconds", "MaximumMessageSize", "FifoQueue"}
        assert ("RedrivePolicy" in properties) == (name == "InputQueue")


def test_a_message_is_retried_for_days():
    """As often as SQS can count: a fault that lasts a weekend loses nothing. Meanwhile it is hidden, six times as long
    as Ingest may take, as AWS recommends. (docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html)"""
    queue = ALL.properties("InputQueue")
    assert queue["RedrivePolicy"] == {"deadLetterTargetArn": ALL.arn("InputDeadLetters"), "maxReceiveCount": 1000}
    assert queue["VisibilityTimeout"] == 6 * ALL.function("Ingest")["Timeout"] == 180


def test_the_input_topic_reaches_ingest():
    """By the queue, which has its policy first, or else by the dead-letter queue. Not raw: the envelope has the
    MessageId, which the publisher knows, too. A message that failed does not bring back the nine others."""
    assert ALL.properties("InputSubscription") == {
        "TopicArn": ALL.arn("InputTopic"),
        "Protocol": "sqs",
        "Endpoint": ALL.arn("InputQueue"),
        "RawMessageDelivery": False,
        "RedrivePolicy": {"deadLetterTargetArn": ALL.arn("InputDeadLetters")},
    }
    assert ALL.text["Resources"]["InputSubscription"]["DependsOn"] == "InputQueuesPolicy"
    [source] = ALL.properties("Ingest")["Events"].values()
    assert source["Type"] == "SQS"
    assert source["Properties"] == {
        "Queue": ALL.arn("InputQueue"),
        "BatchSize": 10,
        "MaximumBatchingWindowInSeconds": "0",
        "FunctionResponseTypes": ["ReportBatchItemFailures"],
    }


# --- Tables -----------------------------------------------------------------------------------------------------------


def test_tables_are_kept_and_never_replaced():
    """They outlive a deleted stack, and can be restored. CloudFormation refuses to replace a resource with a name of
    its own. If the stack could not even be created, nothing was promised. Nothing else is kept."""
    for name, resource in ALL.text["Resources"].items():
        if name in TABLES:
            policies = resource["DeletionPolicy"], resource["UpdateReplacePolicy"]
            assert policies == ("RetainExceptOnCreate", "Retain")
            assert Template({"AWS::StackName": "mine"}).properties(name)["TableName"] == f"mine-{name}"
            assert TABLES[name]["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
            assert TABLES[name]["BillingMode"] == "PAY_PER_REQUEST"  # A burst is paid for when it comes.
        else:
            assert not resource.keys() & {"DeletionPolicy", "UpdateReplacePolicy"}


def test_keys_of_the_tables():
    """They are an interface: another key is another table, and a released stack could not be upgraded."""
    keys = {name: [(key["AttributeName"], key["KeyType"]) for key in TABLES[name]["KeySchema"]] for name in TABLES}
    assert keys == {"Parked": [("lane", "HASH"), ("sort_key", "RANGE")], "Register": [("id", "HASH")]}
    for name in TABLES:
        types = {each["AttributeName"]: each["AttributeType"] for each in TABLES[name]["AttributeDefinitions"]}
        assert types == {attribute: "S" for attribute, _ in keys[name]}


def test_only_the_register_expires():
    """By the attribute that Ingest writes. A parked event that could not be started for a year is started then."""
    assert "TimeToLiveSpecification" not in TABLES["Parked"]
    assert TABLES["Register"]["TimeToLiveSpecification"] == {"AttributeName": "expires_at", "Enabled": True}
    claims = [call for call in recording.of_functions()["Ingest"].calls if call.action == "dynamodb:UpdateItem"]
    assert any("expires_at" in claim.attributes for claim in claims)


# --- Functions --------------------------------------------------------------------------------------------------------


@each_function
def test_a_function_runs_and_logs(function):
    """Its handler exists. It logs to a group of its own, as JSON, at the level of the metrics that functions print, and
    without Lambda's own three lines per invocation. The dimension of its metrics is the stack's name."""
    properties = ALL.function(function)
    module, name = properties["Handler"].rsplit(".", 1)
    assert callable(getattr(importlib.import_module(module), name))
    for file in (f"{module.replace('.', '/')}.py", "requirements.txt"):
        assert (ROOT / properties["CodeUri"] / file).exists()
    expected = {"LogFormat": "JSON", "SystemLogLevel": "WARN", "ApplicationLogLevel": "INFO"}
    assert properties["LoggingConfig"] == expected | {"LogGroup": f"{function.removesuffix('Function')}Log"}
    environment = Template({"AWS::StackName": "mine"}, Probe="true").environment(function)
    assert (environment["POWERTOOLS_SERVICE_NAME"], environment["POWERTOOLS_LOG_LEVEL"]) == ("mine", "INFO")


def test_functions_agree():
    """A variable has one value in all functions. test_permissions.py notices a wrong one: its resource is denied."""
    variables: dict[str, set[str]] = {}
    for function in FUNCTIONS:
        for name, value in ALL.environment(function).items():
            variables.setdefault(name, set()).add(value)
    assert {name for name, values in variables.items() if len(values) > 1} == set()
    assert ALL.environment("Ingest")["INPUT_TOPIC_ARN"] == ALL.arn("InputTopic")


# Function -> memory in MB, which buys a share of a processor (a whole one at 1,769 MB), and the longest timeout that is
# paid for: docs/cost.md counts with the first. (docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html)
SIZES = {"Ingest": (1024, 30), "Sweeper": (1769, 30), "Hold": (128, 5), "ProbeFunction": (128, 5)}


@each_function
def test_the_size_of_a_function(function):
    """And its time, which is less than whoever waits for it allows, and no less than it may need."""
    properties = ALL.function(function)
    memory, longest = SIZES[function]
    assert properties["MemorySize"] == memory and properties["Timeout"] <= longest
    if function in ("Ingest", "Sweeper"):
        assert properties["Timeout"] >= 30  # Margins and retries count with it.
    if function == "Hold":
        limit = json.loads(ALL.definition("Deliver"))["States"]["HoldFraction"]["TimeoutSeconds"]
        assert MAX_HOLD_SECONDS < properties["Timeout"] <= limit
    # Lambda does not repeat an invocation for one lane: the next tick is sooner.
    expected = {"MaximumRetryAttempts": 0, "MaximumEventAgeInSeconds": 60} if function == "Sweeper" else None
    assert properties.get("EventInvokeConfig") == expected
    assert "ReservedConcurrentExecutions" not in properties


# --- State machines and their logs ------------------------------------------------------------------------------------


@pytest.mark.parametrize("machine", MACHINES)
def test_a_state_machine_runs_and_logs(machine):
    """Express, which starts 6,000 executions a second and costs a fraction. The console, `punctual show`, and the
    dashboard read its log, with data. Under this prefix, the account's log resource policy, whose size is limited, need
    not name the group. (docs.aws.amazon.com/step-functions/latest/dg/bp-cwl.html)"""
    properties = MACHINES[machine]
    assert properties["Type"] == "EXPRESS"
    assert properties["DefinitionUri"] == f"statemachines/{machine.lower()}.asl.json"
    destination = {"CloudWatchLogsLogGroup": {"LogGroupArn": ALL.arn(f"{machine}Log")}}
    level = {"Deliver": "ALL", "Sweep": "ERROR"}[machine]
    assert properties["Logging"] == {"Level": level, "IncludeExecutionData": True, "Destinations": [destination]}
    named = Template({"AWS::StackName": "mine"}).properties(f"{machine}Log")["LogGroupName"]
    assert named == f"/aws/vendedlogs/states/mine-{machine}"


def test_logs_are_not_kept_forever():
    """They contain payloads. Functions' groups have generated names, so that two stacks fit in one account."""
    for name, properties in ALL.deployed("AWS::Logs::LogGroup").items():
        assert properties["RetentionInDays"] == "30"
        assert ("LogGroupName" in properties) == (name in ("DeliverLog", "SweepLog"))


# --- Schedules and the probe ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Clock", "ProbeSchedule"])
def test_a_schedule_fires_each_minute(name):
    """At the minute, not at some time within a window. A start of Sweep that failed for a minute is superseded by the
    next one; 60 s is also the shortest age that EventBridge Scheduler takes. A probe that is repeated would be late."""
    schedule = ALL.properties(name)
    assert schedule["ScheduleExpression"] == "cron(* * * * ? *)"
    assert schedule["FlexibleTimeWindow"] == {"Mode": "OFF"}
    assert schedule.get("State", "ENABLED") == "ENABLED" and not schedule.keys() & {"StartDate", "EndDate", "GroupName"}
    retries = {"Clock": {"MaximumEventAgeInSeconds": 60, "MaximumRetryAttempts": 3}}
    assert schedule["Target"]["RetryPolicy"] == retries.get(name, {"MaximumRetryAttempts": 0})
    assert schedule["Target"]["Arn"] == ALL.arn({"Clock": "Sweep", "ProbeSchedule": "InputTopic"}[name])
    assert ("Input" in schedule["Target"]) == (name == "ProbeSchedule")


@pytest.mark.parametrize("interval", ["5", "60"])
@pytest.mark.parametrize("targets", ["", "arn:aws:sns:a:1:b"])
def test_the_probe_is_an_event_that_is_parked(interval, targets):
    """It is accepted whatever the parameters, due beyond the horizon so that it takes the longest way, with a fraction
    of a second, and delivered to the topic that the probe's function is subscribed to."""
    template = Template(SweepIntervalSeconds=interval, TargetTopicArns=targets, Probe="true")
    environment, now = template.environment("Ingest"), datetime(2026, 12, 24, 10, 0, 0, 250_000, UTC)
    rules = Rules(environment["INPUT_TOPIC_ARN"], tuple(environment["TARGET_TOPIC_ARNS"].split(",")), True)
    event = parse(template.properties("ProbeSchedule")["Target"]["Input"], "m-1", now, rules)
    assert isinstance(event, Event) and event.due.microsecond
    assert timedelta(seconds=int(environment["HORIZON_SECONDS"]) + 10) < event.due - now < timedelta(minutes=2)
    [source] = template.properties("ProbeFunction")["Events"].values()
    assert source == {"Type": "SNS", "Properties": {"Topic": json.loads(event.input)["publish"]["TopicArn"]}}


def test_the_application_can_be_published():
    """The Serverless Application Repository asks for these; files are relative to the template.
    (docs.aws.amazon.com/serverlessrepo/latest/devguide/serverlessrepo-publishing-applications-metadata-properties.html)"""
    metadata = ALL.text["Metadata"]["AWS::ServerlessRepo::Application"]
    required = {"Name", "Description", "Author", "SpdxLicenseId", "LicenseUrl", "SemanticVersion"}
    assert metadata.keys() >= required | {"ReadmeUrl", "HomePageUrl", "SourceCodeUrl", "Labels"}
    assert all((ROOT / metadata[name]).is_file() for name in ("LicenseUrl", "ReadmeUrl"))
