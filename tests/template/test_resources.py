"""How queues, tables, functions, state machines, schedules and logs are set up, each setting with its reason."""

import importlib
import inspect
import json
import re
from datetime import UTC, datetime, timedelta

import pytest
from punctual_core import sweeper
from punctual_core.hold import MAX_HOLD_SECONDS
from punctual_core.ingest import ingest

from tests.conftest import record
from tests.template import recording
from tools.cloudformation import ROOT, Template

DEFAULT = Template()
ALL = Template(Probe="true", AlarmEmail="night@example.com")
FUNCTIONS = ALL.deployed("AWS::Serverless::Function")
MACHINES = ALL.deployed("AWS::Serverless::StateMachine")
SCHEDULES = ALL.deployed("AWS::Scheduler::Schedule")
DAY_SECONDS = 24 * 3600


# --- Queues and their topic -------------------------------------------------------------------------------------------

# docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
LONGEST_RETENTION_SECONDS = 14 * DAY_SECONDS


@pytest.mark.parametrize("queue", ["InputQueue", "InputDeadLetters", "Undelivered"])
def test_queue_keeps_messages_as_long_as_sqs_can(queue):
    """No queue drops what has been promised before it must: the default would be four days."""
    assert DEFAULT.properties(queue)["MessageRetentionPeriod"] == LONGEST_RETENTION_SECONDS


def test_message_stays_hidden_while_it_is_processed():
    """The input queue's visibility timeout is six times Ingest's timeout, as AWS recommends; it is not longer, because
    the messages of an invocation that ended abruptly come back only then.
    (docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html)"""
    assert DEFAULT.properties("InputQueue")["VisibilityTimeout"] == 6 * DEFAULT.function("Ingest")["Timeout"]


def test_message_that_always_fails_goes_to_the_dead_letter_queue():
    """After as many receives as SQS can count, which are days: a fault that lasts a weekend loses nothing.
    (docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SetQueueAttributes.html)"""
    assert DEFAULT.properties("InputQueue")["RedrivePolicy"] == {
        "deadLetterTargetArn": DEFAULT.arn("InputDeadLetters"),
        "maxReceiveCount": 1000,
    }


@pytest.mark.parametrize("queue", ["InputDeadLetters", "Undelivered"])
def test_last_queue_has_no_dead_letter_queue(queue):
    """Whoever reads one of these queues by hand, even a thousand times, removes nothing from it."""
    assert "RedrivePolicy" not in DEFAULT.properties(queue)


def test_input_queue_is_subscribed_to_the_input_topic():
    """What SNS can't deliver to the queue goes to the dead-letter queue. The queue has its policy before."""
    assert DEFAULT.properties("InputSubscription") == {
        "TopicArn": DEFAULT.arn("InputTopic"),
        "Protocol": "sqs",
        "Endpoint": DEFAULT.arn("InputQueue"),
        "RawMessageDelivery": False,  # test_ingest_reads_the_envelope_of_sns
        "RedrivePolicy": {"deadLetterTargetArn": DEFAULT.arn("InputDeadLetters")},
    }
    assert DEFAULT.text["Resources"]["InputSubscription"]["DependsOn"] == "InputQueuesPolicy"


def test_ingest_reads_the_envelope_of_sns():
    """The publisher knows its message by the MessageId in SNS's envelope, and a delay counts from the time in it: with
    raw delivery there is none, and the message would have SQS's id and time."""
    from punctual_core.ingest import read

    published_at = datetime(2026, 12, 24, 10, tzinfo=UTC)
    enveloped = record("hello", published_at, message_id="of-sns", sent_at=published_at + timedelta(seconds=2))
    notification = read(enveloped)
    assert (notification.text, notification.message_id, notification.accepted_at) == ("hello", "of-sns", published_at)
    assert read(enveloped | {"body": "hello"}).message_id != "of-sns"


def test_a_fifo_queue_is_not_needed():
    """Topics and queues are standard ones: SNS FIFO takes 3,000 messages a second, and order is kept otherwise."""
    for type in ("AWS::SNS::Topic", "AWS::SQS::Queue"):
        assert not any("Fifo" in key for properties in ALL.deployed(type).values() for key in properties)


# --- Tables -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", ["Register", "Parked"])
def test_table_outlives_the_stack(table):
    """What has been promised is kept if the stack is deleted or a table replaced, and can be restored."""
    resource = DEFAULT.text["Resources"][table]
    # Not if the stack could not be created in the first place: then nothing was promised.
    assert resource["DeletionPolicy"] == "RetainExceptOnCreate"
    assert resource["UpdateReplacePolicy"] == "Retain"
    assert DEFAULT.properties(table)["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    # A burst is paid for when it comes, and not before.
    assert DEFAULT.properties(table)["BillingMode"] == "PAY_PER_REQUEST"


def test_nothing_else_outlives_the_stack():
    """A deleted stack leaves its two tables behind, and nothing that would be in the way of the next one."""
    kept = [name for name, resource in DEFAULT.text["Resources"].items() if {"DeletionPolicy"} & {*resource}]
    assert sorted(kept) == ["Parked", "Register"]


def test_parked_events_are_in_lanes_in_order_of_time():
    """A lane is a partition; in it, the sort key begins with the due time."""
    assert DEFAULT.table("Parked") | {"BillingMode": None} == {
        "TableName": DEFAULT.resolve({"Ref": "Parked"}),
        "AttributeDefinitions": [
            {"AttributeName": "lane", "AttributeType": "S"},
            {"AttributeName": "sort_key", "AttributeType": "S"},
        ],
        "KeySchema": [
            {"AttributeName": "lane", "KeyType": "HASH"},
            {"AttributeName": "sort_key", "KeyType": "RANGE"},
        ],
        "BillingMode": None,
    }


def test_parked_events_do_not_expire():
    """An event that could not be started for a year is started then."""
    assert "TimeToLiveSpecification" not in DEFAULT.properties("Parked")


def test_register_expires_by_the_attribute_that_ingest_writes():
    """DynamoDB deletes an item some time after the second in this attribute, which has to be a number."""
    specification = DEFAULT.properties("Register")["TimeToLiveSpecification"]
    assert specification["Enabled"] is True
    claims = recording.of_functions()["Ingest"].arguments["UpdateItem"]
    assert {claim["TableName"] for claim in claims} == {DEFAULT.resolve({"Ref": "Register"})}
    written = re.compile(rf"\b{specification['AttributeName']} = (:\w+)")
    values = [
        claim["ExpressionAttributeValues"][found[1]]
        for claim in claims
        if (found := written.search(claim["UpdateExpression"]))
    ]
    assert values
    assert all(int(value["N"]) > datetime.now(UTC).timestamp() for value in values)


def test_register_is_read_by_id():
    """The register has an item per id."""
    assert DEFAULT.table("Register") | {"BillingMode": None} == {
        "TableName": DEFAULT.resolve({"Ref": "Register"}),
        "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
        "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
        "BillingMode": None,
    }


# --- Functions --------------------------------------------------------------------------------------------------------

HANDLERS = {
    "Ingest": "punctual_core.ingest.handler",
    "Sweeper": "punctual_core.sweeper.handler",
    "Hold": "punctual_core.hold.handler",
    "ProbeFunction": "punctual_core.probe.handler",
}


@pytest.mark.parametrize("function", HANDLERS)
def test_handler_exists(function):
    """A function's handler is in the code that it is deployed with."""
    properties = ALL.function(function)
    assert properties["Handler"] == HANDLERS[function]
    module, name = properties["Handler"].rsplit(".", 1)
    assert callable(getattr(importlib.import_module(module), name))
    assert (ROOT / properties["CodeUri"] / f"{module.replace('.', '/')}.py").exists()
    assert (ROOT / properties["CodeUri"] / "requirements.txt").exists()
    assert {*HANDLERS} == {*FUNCTIONS}


# Function -> memory in MB, which buys a share of a processor (a whole one at 1,769 MB), and timeout in seconds.
# (docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html)
SIZES = {
    "Ingest": (1024, 30),  # Half a processor: a cold start takes half as long as with a quarter.
    "Sweeper": (1769, 30),  # Starting executions is bound by one processor, and Python uses no second.
    "Hold": (128, 5),  # It sleeps.
    "ProbeFunction": (128, 5),
}


@pytest.mark.parametrize("function", HANDLERS)
def test_size_of_a_function(function):
    """Memory and timeout, which docs/performance.md and docs/cost.md count with."""
    properties = ALL.function(function)
    assert (properties["MemorySize"], properties["Timeout"]) == SIZES[function]


def test_timeouts_fit():
    """A function ends before whoever waits for it gives up, and after the longest that it may have to do."""
    states = json.loads(ALL.definition("Sweep"))["States"]
    assert (
        ALL.function("Sweeper")["Timeout"]
        < states["SweepAtEveryTick"]["ItemProcessor"]["States"]["Sweep"]["TimeoutSeconds"]
    )
    assert ALL.function("Hold")["Timeout"] > MAX_HOLD_SECONDS
    assert (
        ALL.function("Hold")["Timeout"]
        <= json.loads(ALL.definition("Deliver"))["States"]["HoldFraction"]["TimeoutSeconds"]
    )


@pytest.mark.parametrize("function", HANDLERS)
def test_function_logs_what_counts(function):
    """JSON, which CloudWatch searches by field. INFO is the level of the metrics that functions print, WARN leaves out
    three lines of Lambda's own per invocation. Each function has a log group of its own."""
    assert ALL.function(function)["LoggingConfig"] == {
        "LogFormat": "JSON",
        "SystemLogLevel": "WARN",
        "ApplicationLogLevel": "INFO",
        "LogGroup": ALL.resolve({"Ref": LOGS[function]}),
    }
    assert ALL.environment(function)["POWERTOOLS_LOG_LEVEL"] == "INFO"


@pytest.mark.parametrize("function", HANDLERS)
def test_metrics_are_kept_by_stack(function):
    """The dimension of the functions' metrics is the stack's name, so that two stacks do not mix."""
    assert Template({"AWS::StackName": "mine"}, Probe="true").environment(function)["POWERTOOLS_SERVICE_NAME"] == "mine"


@pytest.mark.parametrize(
    "parameters", [{}, {"PythonRuntime": "python3.14", "Architecture": "x86_64", "Tracing": "true"}]
)
def test_runtime_of_all_functions(parameters):
    """All functions run as the parameters say."""
    template = Template(**parameters, Probe="true")
    for function in HANDLERS:
        properties = template.function(function)
        assert properties["Runtime"] == parameters.get("PythonRuntime", "python3.13")
        assert properties["Architectures"] == [parameters.get("Architecture", "arm64")]
        assert properties["Tracing"] == ("Active" if parameters else "PassThrough")


ENVIRONMENTS = {
    "Ingest": {
        "INPUT_TOPIC_ARN": DEFAULT.arn("InputTopic"),
        "INPUT_QUEUE_URL": DEFAULT.resolve({"Ref": "InputQueue"}),
        "TARGET_TOPIC_ARNS": "arn:aws:sns:eu-central-1:123456789012:*",
        "ENFORCE_USER": "true",
        "HORIZON_SECONDS": DEFAULT.text["Mappings"]["Horizon"]["5"]["Seconds"],
        "DELIVER_ARN": DEFAULT.arn("Deliver"),
        "PARKED_TABLE": DEFAULT.resolve({"Ref": "Parked"}),
        "REGISTER_TABLE": DEFAULT.resolve({"Ref": "Register"}),
        "FAILURE_TOPIC_ARN": DEFAULT.arn("FailureTopic"),
        "UNDELIVERED_URL": DEFAULT.resolve({"Ref": "Undelivered"}),
    },
    "Sweeper": {
        "HORIZON_SECONDS": DEFAULT.text["Mappings"]["Horizon"]["5"]["Seconds"],
        "DELIVER_ARN": DEFAULT.arn("Deliver"),
        "PARKED_TABLE": DEFAULT.resolve({"Ref": "Parked"}),
        "FAILURE_TOPIC_ARN": DEFAULT.arn("FailureTopic"),
        "UNDELIVERED_URL": DEFAULT.resolve({"Ref": "Undelivered"}),
    },
    "Hold": {},
    "ProbeFunction": {},
}


@pytest.mark.parametrize("function", HANDLERS)
def test_environment_of_a_function(function):
    """What a function reads from its environment is there, and nothing else."""
    shared = {"POWERTOOLS_SERVICE_NAME", "POWERTOOLS_LOG_LEVEL"}
    own = {name: value for name, value in ALL.environment(function).items() if name not in shared}
    assert own == ENVIRONMENTS[function]
    module = importlib.import_module(HANDLERS[function].rsplit(".", 1)[0])
    read = {*re.findall(r'(?:\benv|\bos\.environ)\["(\w+)"\]', inspect.getsource(module))}
    assert {*own} == read - {"AWS_LAMBDA_FUNCTION_NAME"}  # That one Lambda sets.


def test_functions_have_the_same_horizon():
    """Ingest parks what is due later than the horizon, and the Sweeper starts what is due within it: with different
    ones, an event could be late."""
    assert ingest.horizon == sweeper.sweeper.horizon
    for interval in DEFAULT.text["Mappings"]["Horizon"]:
        template = Template(SweepIntervalSeconds=interval)
        horizons = {template.environment(function)["HORIZON_SECONDS"] for function in ("Ingest", "Sweeper")}
        assert horizons == {DEFAULT.text["Mappings"]["Horizon"][interval]["Seconds"]}


@pytest.mark.parametrize("seconds", ["0", "5"])
def test_ingest_receives_the_input_queue(seconds):
    """Ten messages at a time, without waiting for more unless the parameter says so; a message that failed does not
    bring back the nine others."""
    template = Template(IngestBatchingSeconds=seconds)
    [source] = template.properties("Ingest")["Events"].values()
    assert source == {
        "Type": "SQS",
        "Properties": {
            "Queue": template.arn("InputQueue"),
            "BatchSize": 10,
            "MaximumBatchingWindowInSeconds": seconds,
            "FunctionResponseTypes": ["ReportBatchItemFailures"],
        },
    }


def test_probe_measures_what_its_topic_gets():
    """The probe's function is subscribed to the probe's topic."""
    [source] = ALL.properties("ProbeFunction")["Events"].values()
    assert source == {"Type": "SNS", "Properties": {"Topic": ALL.arn("ProbeTopic")}}


def test_helpers_are_not_repeated():
    """Lambda does not repeat an asynchronous invocation, which is that of a sweep's helper: the next tick is sooner.
    60 s is the shortest age that Lambda takes.
    (docs.aws.amazon.com/lambda/latest/api/API_PutFunctionEventInvokeConfig.html)"""
    assert ALL.properties("Sweeper")["EventInvokeConfig"] == {"MaximumRetryAttempts": 0, "MaximumEventAgeInSeconds": 60}
    for function in HANDLERS:
        assert "EventInvokeConfig" not in ALL.properties(function) or function == "Sweeper"


# --- State machines ---------------------------------------------------------------------------------------------------

SUBSTITUTIONS = {
    "Deliver": {
        "RegisterTable": DEFAULT.resolve({"Ref": "Register"}),
        "ParkedTable": DEFAULT.resolve({"Ref": "Parked"}),
        "HoldArn": DEFAULT.arn("Hold"),
        "FailureTopicArn": DEFAULT.arn("FailureTopic"),
        "UndeliveredUrl": DEFAULT.resolve({"Ref": "Undelivered"}),
    },
    "Sweep": {
        "SweepIntervalSeconds": "5",
        "SweeperArn": DEFAULT.arn("Sweeper"),
        "ParkedTable": DEFAULT.resolve({"Ref": "Parked"}),
    },
}


@pytest.mark.parametrize("machine", MACHINES)
def test_definition_of_a_state_machine(machine):
    """Express, which starts 6,000 executions a second and costs a fraction, from its own definition, in which every
    placeholder is replaced by what it is named for."""
    properties = ALL.properties(machine)
    assert properties["Type"] == "EXPRESS"
    assert properties["DefinitionUri"] == f"statemachines/{machine.lower()}.asl.json"
    assert properties["DefinitionSubstitutions"] == SUBSTITUTIONS[machine]
    assert "${" not in ALL.definition(machine)


def test_sweep_ticks_in_the_interval_of_the_parameter():
    """The interval of the sweeps is the one that the horizon is chosen for."""
    for interval in DEFAULT.text["Mappings"]["Horizon"]:
        definition = Template(SweepIntervalSeconds=interval).definition("Sweep")
        assert f"$number('{interval}')" in definition


@pytest.mark.parametrize("level", ["ALL", "ERROR", "FATAL", "OFF"])
def test_log_level_of_executions(level):
    """Deliver is logged as the parameter says. What goes well in Sweep is not logged: no event is in it."""
    template = Template(ExecutionLogLevel=level)
    levels = {machine: template.properties(machine)["Logging"]["Level"] for machine in MACHINES}
    assert levels == {"Deliver": level, "Sweep": "ERROR" if level == "ALL" else level}


@pytest.mark.parametrize("machine", MACHINES)
def test_log_of_executions(machine):
    """Executions are logged with their data, which the console and the dashboard read, in a log group of their own."""
    logging = ALL.properties(machine)["Logging"]
    assert logging["IncludeExecutionData"] is True
    group = ALL.arn(f"{machine}Log")
    assert logging["Destinations"] == [{"CloudWatchLogsLogGroup": {"LogGroupArn": group}}]
    # Under this prefix, the account's log resource policy, whose size is limited, need not name the group.
    # (docs.aws.amazon.com/step-functions/latest/dg/bp-cwl.html)
    assert ALL.resolve({"Ref": f"{machine}Log"}).startswith("/aws/vendedlogs/states/punctual-")


@pytest.mark.parametrize("tracing", ["true", "false"])
def test_tracing_of_executions(tracing):
    """Executions are traced as functions are."""
    template = Template(Tracing=tracing)
    assert {template.properties(machine)["Tracing"]["Enabled"] for machine in MACHINES} == {tracing == "true"}


# --- Schedules --------------------------------------------------------------------------------------------------------

EVERY_MINUTE = "cron(* * * * ? *)"


def test_clock_starts_a_sweep_each_minute():
    """Not at some time within a window. A start that failed for a minute is superseded by the next one: 60 s is also
    the shortest age that EventBridge Scheduler takes."""
    clock = ALL.properties("Clock")
    assert clock["ScheduleExpression"] == EVERY_MINUTE
    assert clock["FlexibleTimeWindow"] == {"Mode": "OFF"}
    assert clock["Target"] == {
        "Arn": ALL.arn("Sweep"),
        "RoleArn": ALL.arn("ClockRole"),
        "RetryPolicy": {"MaximumEventAgeInSeconds": 60, "MaximumRetryAttempts": 3},
    }
    assert clock.get("State", "ENABLED") == "ENABLED"


def test_probe_is_published_each_minute():
    """A probe is not repeated: it would be late by itself."""
    probe = ALL.properties("ProbeSchedule")
    assert probe["ScheduleExpression"] == EVERY_MINUTE
    assert probe["FlexibleTimeWindow"] == {"Mode": "OFF"}
    assert probe["Target"] | {"Input": None} == {
        "Arn": ALL.arn("InputTopic"),
        "RoleArn": ALL.arn("ProbeScheduleRole"),
        "RetryPolicy": {"MaximumRetryAttempts": 0},
        "Input": None,
    }


@pytest.mark.parametrize("interval", DEFAULT.text["Mappings"]["Horizon"])
@pytest.mark.parametrize("parameters", [{}, {"EnforceUser": "true", "TargetTopicArns": "arn:aws:sns:a:1:b"}], ids=str)
def test_probe_is_an_event_that_is_parked(interval, parameters):
    """The probe's event is accepted whatever the parameters, due beyond the horizon so that it takes the longest way,
    and delivered to the probe's topic."""
    from punctual_core.event import Event, Rules, parse

    template = Template(SweepIntervalSeconds=interval, Probe="true", **parameters)
    environment, now = template.environment("Ingest"), datetime(2026, 12, 24, 10, 0, 0, 250_000, UTC)
    rules = Rules(environment["INPUT_TOPIC_ARN"], tuple(environment["TARGET_TOPIC_ARNS"].split(",")), True)
    event = parse(template.properties("ProbeSchedule")["Target"]["Input"], "m-1", now, rules)
    assert isinstance(event, Event)
    assert event.due - now > timedelta(seconds=int(environment["HORIZON_SECONDS"]) + 10)
    assert event.due - now < timedelta(minutes=3)  # Else the alarm for missing probes is on at first.
    assert event.due.microsecond
    assert json.loads(event.input)["publish"]["TopicArn"] == template.arn("ProbeTopic")
    assert json.loads(event.input)["event"]["user"] == "punctual"


def test_schedules_say_what_they_are_for():
    """Somebody who finds a schedule in the console knows whose it is."""
    for name in SCHEDULES:
        template = Template({"AWS::StackName": "mine"}, Probe="true")
        assert "mine" in template.properties(name)["Description"]


# --- Logs -------------------------------------------------------------------------------------------------------------

LOGS = {
    "Ingest": "IngestLog",
    "Sweeper": "SweeperLog",
    "Hold": "HoldLog",
    "ProbeFunction": "ProbeLog",
    "Deliver": "DeliverLog",
    "Sweep": "SweepLog",
}


@pytest.mark.parametrize("log", LOGS.values())
def test_log_is_kept_as_long_as_the_parameter_says(log):
    """Without a setting CloudWatch would keep logs, which contain payloads, for ever."""
    assert Template(LogRetentionDays="7", Probe="true").properties(log)["RetentionInDays"] == "7"
    assert {*LOGS.values()} == {*ALL.deployed("AWS::Logs::LogGroup")}


def test_two_stacks_fit_in_one_account():
    """No resource has a fixed physical name: what is named is named after the stack."""
    own = {"Name", "TopicName", "QueueName", "TableName", "FunctionName", "RoleName", "LogGroupName", "DashboardName"}
    first, second = (Template({"AWS::StackName": name}, Probe="true") for name in ("first", "second"))
    for name in first.text["Resources"]:
        for key in own & first.text["Resources"][name].get("Properties", {}).keys():
            assert first.properties(name)[key] != second.properties(name)[key], (name, key)


# Type of resource -> the settings that some resource of the type has. Everything else is as AWS has it by default:
# a queue delivers at once, functions share the account's concurrency, schedules and alarms are enabled.
SETTINGS = {
    "AWS::SNS::Topic": {"KmsMasterKeyId"},
    "AWS::SNS::Subscription": {"TopicArn", "Protocol", "Endpoint", "RawMessageDelivery", "RedrivePolicy"},
    "AWS::SQS::Queue": {
        *("VisibilityTimeout", "MessageRetentionPeriod", "RedrivePolicy"),
        *("SqsManagedSseEnabled", "KmsMasterKeyId"),
    },
    "AWS::DynamoDB::Table": {
        *("BillingMode", "AttributeDefinitions", "KeySchema", "TimeToLiveSpecification"),
        *("PointInTimeRecoverySpecification", "SSESpecification"),
    },
    "AWS::Serverless::Function": {
        *("Description", "Handler", "Timeout", "MemorySize", "Role", "LoggingConfig", "Environment", "Events"),
        "EventInvokeConfig",
    },
    "AWS::Serverless::StateMachine": {
        *("Type", "DefinitionUri", "DefinitionSubstitutions", "Role", "Tracing", "Logging"),
    },
    "AWS::Scheduler::Schedule": {"Description", "ScheduleExpression", "FlexibleTimeWindow", "Target"},
    "AWS::Logs::LogGroup": {"LogGroupName", "RetentionInDays", "KmsKeyId"},
    "AWS::IAM::Role": {"AssumeRolePolicyDocument", "Policies"},
    "AWS::IAM::Policy": {"PolicyName", "Roles", "PolicyDocument"},
    "AWS::SNS::TopicPolicy": {"Topics", "PolicyDocument"},
    "AWS::SQS::QueuePolicy": {"Queues", "PolicyDocument"},
    "AWS::CloudWatch::Alarm": {
        *("AlarmDescription", "AlarmActions", "Namespace", "MetricName", "Dimensions", "Statistic"),
        *("ExtendedStatistic", "Period", "EvaluationPeriods", "ComparisonOperator", "Threshold", "TreatMissingData"),
    },
    "AWS::CloudWatch::Dashboard": {"DashboardName", "DashboardBody"},
}


def test_nothing_else_is_set():
    """A setting that is not tested in these files does not exist."""
    found: dict[str, set[str]] = {}
    for resource in DEFAULT.text["Resources"].values():
        found.setdefault(resource["Type"], set()).update(resource["Properties"])
    assert found == SETTINGS


# --- The probe --------------------------------------------------------------------------------------------------------


def test_probe_is_optional():
    """Without the parameter nothing of the probe exists."""
    expected = {name for name in DEFAULT.text["Resources"] if name.startswith("Probe")}
    assert {name for name in DEFAULT.text["Resources"] if not DEFAULT.exists(name)} == {*expected, "AlarmSubscription"}
    assert all(ALL.exists(name) for name in DEFAULT.text["Resources"])
