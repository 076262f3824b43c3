"""Settings of queues, tables, functions, state machines and schedules that an event, an alarm or money depends on."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from punctual_core.event import Event, Rules, parse

from punctual import __version__
from tools.cloudformation import ROOT, Template

ALL = Template({"AWS::StackName": "mine"}, Probe="true")
FUNCTIONS = ALL.deployed("AWS::Serverless::Function")
MACHINES = ALL.deployed("AWS::Serverless::StateMachine")
TABLES = ALL.deployed("AWS::DynamoDB::Table")

# --- Queues and their topic -------------------------------------------------------------------------------------------


def test_queues_keep_messages_as_long_as_sqs_can():
    """14 days; the default would be four. Nothing is delayed. A message that is read by hand, even a thousand times,
    stays in the last queues. In the first one it is retried as often as SQS can count: a fault that lasts a weekend
    loses nothing. Meanwhile it is hidden, six times as long as Ingest may take, as AWS recommends.
    (docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html)"""
    for name, properties in ALL.deployed("AWS::SQS::Queue").items():
        assert properties["MessageRetentionPeriod"] == 14 * 24 * 3600
        assert not properties.keys() & {"DelaySeconds", "MaximumMessageSize", "FifoQueue"}
        retries = {"deadLetterTargetArn": ALL.arn("InputDeadLetters"), "maxReceiveCount": 1000}
        assert properties.get("RedrivePolicy") == (retries if name == "InputQueue" else None)
    assert ALL.properties("InputQueue")["VisibilityTimeout"] == 6 * ALL.function("Ingest")["Timeout"] == 180


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
    batches = {
        "BatchSize": 10,
        "MaximumBatchingWindowInSeconds": "0",
        "FunctionResponseTypes": ["ReportBatchItemFailures"],
    }
    assert source == {"Type": "SQS", "Properties": {"Queue": ALL.arn("InputQueue")} | batches}


# --- Tables -----------------------------------------------------------------------------------------------------------


def test_tables_are_kept_and_never_replaced():
    """They outlive a deleted stack, and can be restored. CloudFormation refuses to replace a resource with a name of
    its own. If the stack could not even be created, nothing was promised. Nothing else is kept."""
    for name, resource in ALL.text["Resources"].items():
        kept = (resource.get("DeletionPolicy"), resource.get("UpdateReplacePolicy"))
        assert kept == (("RetainExceptOnCreate", "Retain") if name in TABLES else (None, None))
    for name, properties in TABLES.items():
        assert properties["TableName"] == f"mine-{name}"
        assert properties["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
        assert properties["BillingMode"] == "PAY_PER_REQUEST"  # A burst is paid for when it comes.


def test_only_the_register_expires():
    """A parked event that could not be started for a year is started then. (Keys are tested by whatever uses them.)"""
    expiry = {name: properties.get("TimeToLiveSpecification") for name, properties in TABLES.items()}
    assert expiry == {"Parked": None, "Register": {"AttributeName": "expires_at", "Enabled": True}}


# --- Functions --------------------------------------------------------------------------------------------------------

# Function -> memory in MB, which buys a share of a processor (a whole one at 1,769 MB), and the timeouts that it may
# have: docs/cost.md counts with the first, and the margins and retries of the code with the second.
# (docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html)
SIZES = {
    "Ingest": (1024, [30]),
    "Sweeper": (1769, [30]),
    # Deliver waits for it no longer.
    "Hold": (128, [json.loads(ALL.definition("Deliver"))["States"]["HoldFraction"]["TimeoutSeconds"]]),
    "ProbeFunction": (128, range(1, 6)),
}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_runs_and_logs(function):
    """It logs to a group of its own, as JSON, at the level of the metrics that functions print, without Lambda's own
    three lines per invocation. The dimension of its metrics is the stack's name."""
    properties, name = ALL.function(function), function.removesuffix("Function")
    assert properties["Handler"] == f"punctual_core.{name.lower()}.handler"  # Which recording.py calls.
    expected = {"LogFormat": "JSON", "SystemLogLevel": "WARN", "ApplicationLogLevel": "INFO"}
    assert properties["LoggingConfig"] == expected | {"LogGroup": f"{name}Log"}
    environment = ALL.environment(function)
    assert (environment["POWERTOOLS_SERVICE_NAME"], environment["POWERTOOLS_LOG_LEVEL"]) == ("mine", "INFO")
    memory, timeouts = SIZES[function]
    assert properties["MemorySize"] == memory and properties["Timeout"] in timeouts
    # Lambda does not repeat an invocation for one lane: the next tick is sooner.
    expected = {"MaximumRetryAttempts": 0, "MaximumEventAgeInSeconds": 60} if function == "Sweeper" else None
    assert properties.get("EventInvokeConfig") == expected
    assert "ReservedConcurrentExecutions" not in properties


def test_functions_agree():
    """A variable has one value in all functions. test_permissions.py notices a wrong one: its resource is denied."""
    variables = {item for function in FUNCTIONS for item in ALL.environment(function).items()}
    assert len({name for name, _ in variables}) == len(variables)


# --- State machines and their logs ------------------------------------------------------------------------------------


@pytest.mark.parametrize("machine", MACHINES)
def test_a_state_machine_runs_and_logs(machine):
    """Express, which starts 6,000 executions a second and costs a fraction. The console, `punctual show`, and the
    dashboard read its log, with data."""
    properties = MACHINES[machine]
    assert properties["Type"] == "EXPRESS"
    destination = {"CloudWatchLogsLogGroup": {"LogGroupArn": ALL.arn(f"{machine}Log")}}
    level = {"Deliver": "ALL", "Sweep": "ERROR"}[machine]
    assert properties["Logging"] == {"Level": level, "IncludeExecutionData": True, "Destinations": [destination]}


def test_names_of_logs():
    """Under this prefix, the account's log resource policy, whose size is limited, need not name the group. Functions'
    groups have generated names. (docs.aws.amazon.com/step-functions/latest/dg/bp-cwl.html)"""
    logs = ALL.deployed("AWS::Logs::LogGroup")
    names = {id: log["LogGroupName"] for id, log in logs.items() if "LogGroupName" in log}
    assert names == {f"{machine}Log": f"/aws/vendedlogs/states/mine-{machine}" for machine in MACHINES}


# --- Schedules and the probe ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "target", "retries"),
    [
        # A start of Sweep that failed for a minute is superseded by the next one; 60 s is also the shortest age that
        # EventBridge Scheduler takes. A probe that is repeated would be late.
        ("Clock", "Sweep", {"MaximumEventAgeInSeconds": 60, "MaximumRetryAttempts": 3}),
        ("ProbeSchedule", "InputTopic", {"MaximumRetryAttempts": 0}),
    ],
)
def test_a_schedule_fires_each_minute(name, target, retries):
    """At the minute, not at some time within a window."""
    schedule = ALL.properties(name)
    assert schedule["ScheduleExpression"] == "cron(* * * * ? *)"
    assert schedule["FlexibleTimeWindow"] == {"Mode": "OFF"}
    assert schedule.get("State", "ENABLED") == "ENABLED" and not schedule.keys() & {"StartDate", "EndDate", "GroupName"}
    assert (schedule["Target"]["Arn"], schedule["Target"]["RetryPolicy"]) == (ALL.arn(target), retries)
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
    """The Serverless Application Repository asks for these, and the version is that of the package.
    (docs.aws.amazon.com/serverlessrepo/latest/devguide/serverlessrepo-publishing-applications-metadata-properties.html)"""
    metadata = ALL.text["Metadata"]["AWS::ServerlessRepo::Application"]
    assert metadata.keys() >= {"Name", "Description", "Author", "LicenseUrl", "ReadmeUrl"}
    assert (metadata["SemanticVersion"], metadata["SpdxLicenseId"]) == (__version__, "MIT")
    assert (ROOT / metadata["LicenseUrl"]).read_text().startswith("MIT License")
