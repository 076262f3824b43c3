"""The stack's interface: parameters with their limits, conditions, and outputs."""

import itertools
import json
import re

import pytest

from tools.cloudformation import ACCOUNT, REGION, Template

DEFAULT = Template()
PARAMETERS = DEFAULT.text["Parameters"]
MAPPING = DEFAULT.text["Mappings"]["Horizon"]

# Parameter -> its default.
DEFAULTS = {
    "SweepIntervalSeconds": "5",
    "IngestBatchingSeconds": "0",
    "EnforceUser": "true",
    "TargetTopicArns": "",
    "TargetKmsKeyArns": "",
    "PublisherAccounts": "",
    "KmsKeyArn": "",
    "Dashboard": "true",
    "Probe": "false",
    "AlarmEmail": "",
    "ExecutionLogLevel": "ALL",
    "LogRetentionDays": "30",
    "Tracing": "false",
    "PythonRuntime": "python3.13",
    "Architecture": "arm64",
}


def accepts(name: str, value: str) -> bool:
    """Whether CloudFormation accepts a value of a parameter.
    (docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/parameters-section-structure.html)"""
    parameter = PARAMETERS[name]
    if parameter["Type"] == "Number" and not re.fullmatch(r"-?\d+(\.\d+)?", value):
        return False
    if allowed := parameter.get("AllowedValues"):
        return value in map(str, allowed)
    if "MinValue" in parameter and float(value) < parameter["MinValue"]:
        return False
    if "MaxValue" in parameter and float(value) > parameter["MaxValue"]:
        return False
    if len(value) > parameter.get("MaxLength", 4096) or len(value) < parameter.get("MinLength", 0):
        return False
    return re.fullmatch(parameter.get("AllowedPattern", ".*"), value, re.DOTALL) is not None


TOPIC, KEY = f"arn:aws:sns:{REGION}:{ACCOUNT}:orders", f"arn:aws:kms:{REGION}:{ACCOUNT}:key/k"
LISTS_OF_ARNS = {
    "good": ["", TOPIC, f"{TOPIC},arn:aws:sns:*:{ACCOUNT}:a?", "arn:" + "a" * 2044],
    "bad": [f"{TOPIC}, {TOPIC}", f"{TOPIC},", f",{TOPIC}", "orders", "*", f"{TOPIC},orders", " ", "arn:" + "a" * 2045],
}
# Parameter -> values that are accepted, and values that are not.
VALUES = {
    "SweepIntervalSeconds": (["5", "10", "20", "30", "60"], ["1", "0", "15", "120", ""]),
    "IngestBatchingSeconds": (["0", "1", "5"], ["-1", "6", "300", "x"]),
    **dict.fromkeys(("EnforceUser", "Dashboard", "Probe", "Tracing"), (["true", "false"], ["yes", "True", "", "1"])),
    "TargetTopicArns": (LISTS_OF_ARNS["good"], LISTS_OF_ARNS["bad"]),
    "TargetKmsKeyArns": (["", KEY, f"{KEY},{KEY}", "arn:" + "a" * 2044], [f"{KEY}, {KEY}", "k", "arn:" + "a" * 2045]),
    "PublisherAccounts": (
        ["", "111111111111", "111111111111,222222222222"],
        ["11111111111", "1111111111111", "111111111111, 222222222222", "111111111111,", "a", "*"],
    ),
    "KmsKeyArn": (["", KEY], []),
    "AlarmEmail": (["", "night@example.com"], []),
    "ExecutionLogLevel": (["ALL", "ERROR", "FATAL", "OFF"], ["all", "DEBUG", "False", ""]),
    # docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutRetentionPolicy.html; longer than two years
    # is for archives.
    "LogRetentionDays": (
        ["1", "3", "5", "7", "14", "30", "60", "90", "120", "150", "180", "365", "400", "545", "731"],
        ["0", "2", "31", "366", "3653", ""],
    ),
    "PythonRuntime": (["python3.13", "python3.14"], []),
    "Architecture": (["arm64", "x86_64"], ["arm", "x86", ""]),
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_default_of_a_parameter(name):
    """The default is what docs/deploying.md says, and it is accepted."""
    assert str(PARAMETERS[name]["Default"]) == DEFAULTS[name]
    assert accepts(name, DEFAULTS[name])
    assert PARAMETERS[name]["Description"]


@pytest.mark.parametrize("name", PARAMETERS)
def test_values_of_a_parameter(name):
    """A value that would not work is refused before anything is deployed."""
    good, bad = VALUES[name]
    assert [value for value in good if not accepts(name, value)] == []
    assert [value for value in bad if accepts(name, value)] == []
    # Numbers have a lower and an upper limit, and no other values than these.
    if "AllowedValues" in PARAMETERS[name]:
        assert [str(value) for value in PARAMETERS[name]["AllowedValues"]] == good


def test_patterns_are_explained():
    """CloudFormation shows a pattern as it is, unless there is an explanation."""
    for name, parameter in PARAMETERS.items():
        assert ("AllowedPattern" in parameter) == ("ConstraintDescription" in parameter), name


def test_console_shows_every_parameter_once():
    """In one of the groups, which the console shows in this order."""
    groups = DEFAULT.text["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    shown = [name for group in groups for name in group["Parameters"]]
    assert sorted(shown) == sorted(PARAMETERS)
    assert [group["Label"]["default"] for group in groups] == ["Precision and price", "Who may do what", "Operation"]


# --- What they do -----------------------------------------------------------------------------------------------------


# An event is started at least so long before it is due: time to read, start and retry. Waiting in Express is the
# largest cost, so it is not more.
LEAD_SECONDS = 3


@pytest.mark.parametrize("interval", PARAMETERS["SweepIntervalSeconds"]["AllowedValues"])
def test_horizon_of_an_interval(interval):
    """With each interval, a sweep finds an event at least the lead before it is due."""
    assert MAPPING[interval] == {"Seconds": str(int(interval) + LEAD_SECONDS)}
    assert MAPPING.keys() == {*PARAMETERS["SweepIntervalSeconds"]["AllowedValues"]}


# docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_CreateStack.html
LONGEST_STACK_NAME = 128
LONGEST_REGION, LONGEST_PARTITION = "ap-southeast-1", "aws-us-gov"


def generated_name(logical_id: str, limit: int) -> str:
    """The longest name that CloudFormation gives a resource: stack, logical id and up to 13 characters, cut to what the
    service allows. (docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/resources-section-structure.html)"""
    return f"{'s' * LONGEST_STACK_NAME}-{logical_id}-{'x' * 13}"[:limit]


@pytest.mark.parametrize("function", ["Ingest", "Sweeper"])
@pytest.mark.parametrize("probe", ["true", "false"])
def test_environment_fits(function, probe):
    """Lambda takes 4 KB of environment variables: with every parameter and name at its longest they fit.
    (docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html)"""
    place = f"{LONGEST_REGION}:{ACCOUNT}"
    known = {
        "AWS::StackName": "s" * LONGEST_STACK_NAME,
        "AWS::Region": LONGEST_REGION,
        "AWS::Partition": LONGEST_PARTITION,
    }
    for topic in DEFAULT.resources("AWS::SNS::Topic"):
        known[topic] = f"arn:{LONGEST_PARTITION}:sns:{place}:{generated_name(topic, 256)}"
    for queue in DEFAULT.resources("AWS::SQS::Queue"):
        known[queue] = f"https://sqs.{LONGEST_REGION}.amazonaws.com/{ACCOUNT}/{generated_name(queue, 80)}"
    for table in DEFAULT.resources("AWS::DynamoDB::Table"):
        known[table] = generated_name(table, 255)
    known["Deliver"] = f"arn:{LONGEST_PARTITION}:states:{place}:stateMachine:{generated_name('Deliver', 80)}"
    longest = {
        name: max(PARAMETERS[name].get("AllowedValues", [DEFAULTS[name]]), key=lambda value: len(str(value)))
        for name in PARAMETERS
    }
    longest |= {"TargetTopicArns": "arn:" + "t" * (PARAMETERS["TargetTopicArns"]["MaxLength"] - 4), "Probe": probe}
    environment = Template(known, **{name: str(value) for name, value in longest.items()}).environment(function)
    assert len(json.dumps(environment)) < 4096


@pytest.mark.parametrize("enforce", ["true", "false"])
def test_user_is_required_as_the_parameter_says(enforce):
    """Ingest gets the parameter as it is."""
    assert Template(EnforceUser=enforce).environment("Ingest")["ENFORCE_USER"] == enforce


# Condition -> (parameters with which it is true, parameters with which it is false).
CONDITIONS = {
    "AllAccountTopicsAllowed": ([{}], [{"TargetTopicArns": TOPIC}]),
    "OtherPublishers": ([{"PublisherAccounts": ACCOUNT}], [{}]),
    "TargetKeys": ([{"TargetKmsKeyArns": KEY}], [{}, {"KmsKeyArn": KEY}]),
    "CustomerKey": ([{"KmsKeyArn": KEY}], [{}, {"TargetKmsKeyArns": KEY}]),
    "Traced": ([{"Tracing": "true"}], [{}, {"Tracing": "false"}]),
    "DashboardOn": ([{}, {"Dashboard": "true"}], [{"Dashboard": "false"}]),
    "ProbeOn": ([{"Probe": "true"}], [{}, {"Probe": "false"}]),
    "AllExecutionsLogged": ([{}], [{"ExecutionLogLevel": level} for level in ("ERROR", "FATAL", "OFF")]),
    "NotifyByEmail": ([{"AlarmEmail": "a@example.com"}], [{}]),
    "InputTopicUnencrypted": (
        [{"PublisherAccounts": ACCOUNT}],
        [{}, {"KmsKeyArn": KEY}, {"PublisherAccounts": ACCOUNT, "KmsKeyArn": KEY}],
    ),
}


@pytest.mark.parametrize("name", DEFAULT.text["Conditions"])
def test_condition(name):
    """When each condition is true."""
    chosen = {"Fn::If": [name, True, False]}
    for expected, settings in zip((True, False), CONDITIONS[name], strict=True):
        assert {Template(**parameters).resolve(chosen) for parameters in settings} == {expected}


def test_every_condition_and_parameter_is_used():
    """Nothing in the interface is without effect."""
    text = json.dumps({key: DEFAULT.text[key] for key in ("Resources", "Globals", "Outputs")})
    conditions = json.dumps(DEFAULT.text["Conditions"])
    for name in DEFAULT.text["Conditions"]:
        assert f'"Condition": "{name}"' in text + conditions or f'"Fn::If": ["{name}"' in text, name
    for name in PARAMETERS:
        assert f'"Ref": "{name}"' in text + conditions or f"${{{name}}}" in text, name


# --- Outputs ----------------------------------------------------------------------------------------------------------


def test_outputs():
    """What scripts, the command and other stacks read. InputTopicArn and FailureTopicArn keep their names."""
    references = {
        "InputTopicArn": "InputTopic",
        "FailureTopicArn": "FailureTopic",
        "AlarmTopicArn": "AlarmTopic",
        "DeliverArn": "Deliver",
        "SweepArn": "Sweep",
        "ParkedTableName": "Parked",
        "RegisterTableName": "Register",
        "InputDeadLettersUrl": "InputDeadLetters",
        "UndeliveredUrl": "Undelivered",
    }
    expected = {output: DEFAULT.resolve({"Ref": name}) for output, name in references.items()}
    expected |= {f"{actor}RoleArn": DEFAULT.arn(f"{actor}Role") for actor in ("Deliver", "Ingest", "Sweeper")}
    assert DEFAULT.outputs() == expected
    assert all(output["Description"] for output in DEFAULT.text["Outputs"].values())


# --- The whole --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "parameters",
    [
        dict(zip(("Probe", "KmsKeyArn", "PublisherAccounts", "TargetTopicArns", "AlarmEmail"), values, strict=True))
        for values in itertools.product(("true", "false"), ("", KEY), ("", ACCOUNT), ("", TOPIC), ("", "a@b.c"))
    ],
    ids=str,
)
def test_every_reference_is_to_something_that_exists(parameters):
    """With any parameters, no resource refers to one that they leave out: CloudFormation would refuse the stack."""
    template = Template(**parameters)
    for name in template.text["Resources"]:
        if template.exists(name):
            template.properties(name)
            for needed in [template.text["Resources"][name].get("DependsOn", [])]:
                for other in [needed] if isinstance(needed, str) else needed:
                    assert template.exists(other)
    template.outputs()


def test_template_is_one_of_sam():
    """Its transform and version."""
    assert DEFAULT.text["Transform"] == "AWS::Serverless-2016-10-31"
    assert DEFAULT.text["AWSTemplateFormatVersion"] == "2010-09-09"
