"""What each parameter accepts and changes, and what exists under which combination of them."""

import json
import re
from typing import Any

import pytest

from tools.cloudformation import ACCOUNT, REGION, ROOT, Template

DEFAULT, PROBE = Template(), Template(Probe="true")
PARAMETERS = DEFAULT.text["Parameters"]
FUNCTIONS, LOGS = PROBE.deployed("AWS::Serverless::Function"), PROBE.deployed("AWS::Logs::LogGroup")
TOPIC, KEY = f"arn:aws:sns:{REGION}:{ACCOUNT}:orders", f"arn:aws:kms:{REGION}:{ACCOUNT}:key/mrk-1a"
ALIAS = f"arn:aws:kms:{REGION}:{ACCOUNT}:alias/a"
BOUNDARY = f"arn:aws:iam::{ACCOUNT}:policy/team/boundary"

# Parameter -> values that are accepted. The other parameters list their values, which tests/docs compare with the
# documents, like every default.
ACCEPTED = {
    "IngestBatchingSeconds": ["0", "1", "5"],
    "TargetTopicArns": ["", TOPIC, f"{TOPIC},arn:aws-cn:sns:*:{ACCOUNT}:a?", "arn:" + "a" * 2044],
    "TargetKmsKeyArns": ["", KEY, f"{KEY},{KEY}"],
    "PublisherAccounts": ["", "111111111111", "111111111111,222222222222"],
    "KmsKeyArn": ["", KEY, KEY.replace("aws", "aws-us-gov")],
    "PermissionsBoundaryArn": ["", BOUNDARY, "arn:aws-cn:iam::aws:policy/PowerUserAccess"],
    "AlarmEmail": ["", "night@example.com"],
}
# Parameter -> values that would not work.
REFUSED = {
    "IngestBatchingSeconds": ["-1", "6", "300", "x"],
    "TargetTopicArns": [f"{TOPIC}, {TOPIC}", f"{TOPIC},", f",{TOPIC}", "a", "*", f"{TOPIC},a", "arn:" + "a" * 2045],
    "TargetKmsKeyArns": [f"{KEY}, {KEY}", "k", ALIAS, f"{KEY},arn:aws:kms:::key/" + "a" * 2045],
    "PublisherAccounts": ["1" * 11, "1" * 13, "111111111111, 222222222222", "111111111111,", "a", "*"],
    # IAM policies name it, where an alias or an id means nothing.
    "KmsKeyArn": ["alias/a", ALIAS, "mrk-1a", f"{KEY},{KEY}", f"{KEY} ", "*"],
    "PermissionsBoundaryArn": ["boundary", f"arn:aws:iam::{ACCOUNT}:role/r", f"{BOUNDARY} "],
    "AlarmEmail": [],
}


def accepts(name: str, value: str) -> bool:
    """Whether CloudFormation accepts a value of a parameter.
    (docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/parameters-section-structure.html)"""
    parameter = PARAMETERS[name]
    if parameter["Type"] == "Number":
        return bool(re.fullmatch(r"-?\d+", value)) and parameter["MinValue"] <= int(value) <= parameter["MaxValue"]
    pattern = parameter.get("AllowedPattern", ".*")
    return len(value) <= parameter.get("MaxLength", 4096) and bool(re.fullmatch(pattern, value, re.DOTALL))


def test_values_of_parameters():
    """A value that would not work is refused before anything is deployed, with an explanation of the pattern. The
    console shows every parameter once, in one of its groups."""
    for name, parameter in PARAMETERS.items():
        assert ("AllowedValues" in parameter) == (name not in ACCEPTED)
        assert ("AllowedPattern" in parameter) == ("ConstraintDescription" in parameter)
    for name in ACCEPTED:
        assert [value for value in ACCEPTED[name] if not accepts(name, value)] == []
        assert [value for value in REFUSED[name] if accepts(name, value)] == []
    groups = DEFAULT.text["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    assert sorted(name for group in groups for name in group["Parameters"]) == sorted(PARAMETERS)


# --- What they change -------------------------------------------------------------------------------------------------


def settings(template: Template) -> dict[str, Any]:
    """Every setting of every resource by its path, such as "Ingest.Environment.Variables.ENFORCE_USER"."""

    def flat(path: str, value: Any) -> dict[str, Any]:
        if isinstance(value, dict):
            return {k: v for name, item in value.items() for k, v in flat(f"{path}.{name}", item).items()}
        return {path: value}

    found = {}
    for name, resource in template.text["Resources"].items():
        is_function = resource["Type"] == "AWS::Serverless::Function"
        if template.exists(name) and resource["Type"] != "AWS::CloudWatch::Dashboard":
            found |= flat(name, template.function(name) if is_function else template.properties(name))
    return found


# Parameter and value -> the settings that this changes. Policies and encryption are tested by what they do.
CHANGES = {
    ("IngestBatchingSeconds", "5"): {"Ingest.Events.Messages.Properties.MaximumBatchingWindowInSeconds": "5"},
    ("EnforceUser", "false"): {"Ingest.Environment.Variables.ENFORCE_USER": "false"},
    ("TargetTopicArns", TOPIC): {
        "Ingest.Environment.Variables.TARGET_TOPIC_ARNS": f"{TOPIC},{PROBE.arn('ProbeTopic')}"
    },
    ("PermissionsBoundaryArn", BOUNDARY): {
        f"{role}.PermissionsBoundary": BOUNDARY for role in PROBE.deployed("AWS::IAM::Role")
    },
    ("AlarmEmail", "night@example.com"): {
        "AlarmSubscription.TopicArn": DEFAULT.arn("AlarmTopic"),
        "AlarmSubscription.Protocol": "email",
        "AlarmSubscription.Endpoint": "night@example.com",
    },
    ("ExecutionLogLevel", "ERROR"): {"Deliver.Logging.Level": "ERROR"},  # Sweep has it already.
    ("ExecutionLogLevel", "OFF"): {"Deliver.Logging.Level": "OFF", "Sweep.Logging.Level": "OFF"},
    ("LogRetentionDays", "7"): {f"{log}.RetentionInDays": "7" for log in LOGS},
    ("Tracing", "true"): {f"{name}.Tracing": "Active" for name in FUNCTIONS}
    | {f"{machine}.Tracing.Enabled": True for machine in ("Deliver", "Sweep")},
    ("PythonRuntime", "python3.14"): {f"{name}.Runtime": "python3.14" for name in FUNCTIONS},
    ("Architecture", "x86_64"): {f"{name}.Architectures": ["x86_64"] for name in FUNCTIONS},
    **{(name, value): {} for name, value in (("PublisherAccounts", ACCOUNT), ("TargetKmsKeyArns", KEY))},
    ("Dashboard", "false"): {},
}
POLICIES = re.compile(r".*(Policies|PolicyDocument\.Statement)|InputTopic\.KmsMasterKeyId")


@pytest.mark.parametrize(("name", "value"), CHANGES, ids=str)
def test_what_a_parameter_changes(name, value):
    """These settings, and no others."""
    before, after = settings(PROBE), settings(Template(Probe="true", **{name: value}))
    changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    assert {path: after.get(path) for path in changed if not POLICIES.fullmatch(path)} == CHANGES[name, value]


@pytest.mark.parametrize("interval", PARAMETERS["SweepIntervalSeconds"]["AllowedValues"])
def test_the_horizon_of_an_interval(interval):
    """A sweep finds an event at least three seconds before it is due: time to read, start and retry. Waiting in Express
    is the largest cost, so it is not more. Ingest and Sweeper have the same one: otherwise an event could be late."""
    template = Template(SweepIntervalSeconds=interval)
    for function in ("Ingest", "Sweeper"):
        assert template.environment(function)["HORIZON_SECONDS"] == str(int(interval) + 3)
    assert f"$number('{interval}')" in template.definition("Sweep")


# Resources that not every stack has -> the parameters with which they exist.
OPTIONAL = {
    "OperationDashboard": {"Dashboard": "true"},
    "AlarmSubscription": {"AlarmEmail": "night@example.com"},
    **{name: {"Probe": "true"} for name in DEFAULT.text["Resources"] if name.startswith("Probe")},
}
CHOICES = {name: ["true", "false"] for name in ("Probe", "Dashboard")}
CHOICES |= {name: values[:2] for name, values in ACCEPTED.items() if name != "IngestBatchingSeconds"}


def test_every_combination_is_complete():
    """Each resource exists under its own parameters alone, and none refers to one that they leave out: CloudFormation
    would refuse the stack, and Template raises. All parameters have their first value or their last, but for one."""
    extremes = [{name: values[index] for name, values in CHOICES.items()} for index in (0, 1)]
    flipped = [all_ | {name: value} for all_ in extremes for name, values in CHOICES.items() for value in values]
    for parameters in flipped:
        template = Template(**parameters)
        for name in template.text["Resources"]:
            assert template.exists(name) == (OPTIONAL.get(name, {}).items() <= parameters.items()), (name, parameters)
        settings(template)
        template.outputs()


@pytest.mark.parametrize("partition", ["aws", "aws-us-gov", "aws-cn"])
def test_partitions(partition):
    """No ARN names a partition or Region of its own: a stack in another partition would be deployed, and then fail. The
    definitions are rendered by tests/workflows."""
    known = {"AWS::Partition": partition, "AWS::Region": "xx-north-1", "AWS::AccountId": "000000000000"}
    everything = {"Probe": "true", "PublisherAccounts": ACCOUNT, "AlarmEmail": "a@b.c"}
    for parameters in (everything, everything | {"TargetTopicArns": "arn:any"}):
        template = Template(known, **parameters)
        text = json.dumps([settings(template), template.properties("OperationDashboard"), template.outputs()])
        assert {*re.findall(r"arn:(aws[a-z-]*|\*):", text)} == {partition}
        assert REGION not in text and ACCOUNT not in text.replace(everything["PublisherAccounts"], "", 1)
    # That of the operators is filled in like the Region.
    assert {*re.findall(r"arn:([\w*-]+):", (ROOT / "examples/operator-policy.json").read_text())} == {"PARTITION"}


# --- Limits and outputs -----------------------------------------------------------------------------------------------


def test_the_environment_fits():
    """Lambda takes 4 KB of environment variables: with the longest targets and names they fit.
    (docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html)"""
    # A stack's name has up to 128 characters; its resources have up to 14 more than their logical id, queues and state
    # machines up to 80 in all.
    lengths = {"Topic": 205, "Table": 137, "Queue": 134, "StateMachine": 143}
    kinds = {name: resource["Type"].split("::")[-1] for name, resource in DEFAULT.text["Resources"].items()}
    known = {name: "n" * lengths[kind] for name, kind in kinds.items() if kind in lengths}
    longest = "arn:" + "t" * (PARAMETERS["TargetTopicArns"]["MaxLength"] - 4)
    template = Template(known | {"AWS::StackName": "s" * 128}, TargetTopicArns=longest, Probe="true")
    assert all(len(json.dumps(template.environment(function))) < 4096 for function in FUNCTIONS)


def test_outputs():
    """What scripts, the command and other stacks read: the name, the URL, or the ARN of what each is named for."""
    arns = {f"{name}Arn": name for name in ("InputTopic", "FailureTopic", "AlarmTopic", "Deliver", "Sweep")}
    arns |= {f"{user}RoleArn": f"{user}Role" for user in ("Deliver", "Ingest", "Sweeper")}
    references = {f"{name}TableName": name for name in ("Parked", "Register")}
    references |= {f"{name}Url": name for name in ("InputDeadLetters", "Undelivered")}
    expected = {output: DEFAULT.arn(name) for output, name in arns.items()}
    assert DEFAULT.outputs() == expected | {
        output: DEFAULT.resolve({"Ref": name}) for output, name in references.items()
    }
