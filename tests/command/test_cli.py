"""Every failure of `punctual` is one sentence and an exit code: 2 for wrong usage, 1 for what AWS refuses."""

import json
import os
from datetime import datetime, timedelta

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from punctual.moments import readable, shown
from punctual.stack import Stack, sentence_of
from tests.command.conftest import Result

REGION = {"AWS_DEFAULT_REGION": "eu-central-1"}
KEYS = REGION | {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "Missing command (see punctual --help)"),
        (["resent"], "No such command 'resent'"),
        (["resend", "--stack", "a b"], "Invalid value for '--stack': 'a b' cannot be the name of a stack"),
        (["--stack", "", "resend"], "Invalid value for '--stack' (env var: 'PUNCTUAL_STACK'): '' cannot be the name"),
        (["show", 'a"b'], "Invalid value for 'ID': 'a\"b' must be 1 to 64 characters of A-Z, a-z, 0-9, _ and -"),
        (["resend", "--id", ""], "Invalid value for '--id': '' must be 1 to 64 characters"),
        (["resend", "now"], "Got unexpected extra argument (now) (see punctual resend --help)"),
        (["list", "--limit", "0"], "Invalid value for '--limit': 0 is not in the range"),
        (["list", "--after", "soon"], "Invalid value for '--after': 'soon' must be an ISO 8601 date and time"),
        (["count", "--by", "week"], "Invalid value for '--by': 'week' is not one of"),
        (["count", "--before", "2026-13-01"], "Invalid value for '--before': '2026-13-01' is not a date that exists"),
        (["list", "--after", "2027-01-01", "--before", "2026-01-01"], "--after 2027-01-01 00:00:00.000 is later than"),
        (["cancel"], "Give either ids or options that select parked events"),
        (["cancel", "a", "--user", "team"], "Give either ids or options that select parked events"),
        (["cancel", "a", "b c"], "Invalid value for '[ID]...': 'b c' must be 1 to 64 characters"),
        (["reschedule", "a", "--in", "1h", "--now"], "Exactly one of --at, --in, and --now says when to deliver"),
    ],
)
def test_wrong_usage(punctual, arguments, sentence):
    """It is one line, and AWS is not asked: there is no stack here."""
    result = punctual(*arguments)
    assert (result.code, result.output) == (2, "")
    assert result.error.startswith(f"punctual: {sentence}")
    assert result.error.count("\n") == 1


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["resend", "-h"], ["--stack", "x", "resend", "--help"]])
def test_help_needs_no_aws(punctual, no_aws, arguments):
    result = punctual(*arguments)
    assert (result.code, result.error) == (0, "")
    assert result.output.startswith("Usage: punctual")


@pytest.mark.parametrize("arguments", [["--stack", "x", "resend"], ["resend", "--stack", "x"]])
def test_the_stack_is_named_before_or_after_the_command_or_in_the_environment(stack, punctual, monkeypatch, arguments):
    """The option wins over the variable."""
    monkeypatch.setenv("PUNCTUAL_STACK", "y")
    missing = "punctual: Stack with id x does not exist in this account and Region (name another with --stack)\n"
    assert punctual(*arguments) == Result(1, "", missing)
    assert "Stack with id y does not exist" in punctual("resend").error
    assert punctual("--stack", "y", "resend", "--stack", "punctual").code == 0


def test_region_and_profile_are_those_of_the_options(stack, punctual, monkeypatch, tmp_path):
    (tmp_path / "config").write_text("[profile other]\nregion = us-west-2\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    regions, make = set(), Stack.client

    def note(self, service, **config):
        regions.add((client := make(self, service, **config)).meta.region_name)
        return client

    monkeypatch.setattr(Stack, "client", note)
    punctual("resend", "--region", "eu-west-1")
    punctual("--profile", "other", "resend")
    assert regions == {"eu-west-1", "us-west-2"}


@pytest.mark.parametrize("arguments", [["--json", "resend", "now"], ["resend", "--json", "--stack", "nowhere"]])
def test_with_json_an_error_is_json(stack, punctual, arguments):
    """On stderr: stdout has the result alone."""
    result = punctual(*arguments)
    assert result.output == "" and list(json.loads(result.error)) == ["error"]


def test_an_endpoint_that_hangs_is_given_up_in_half_a_minute():
    """Three attempts, which are those of the mode "standard", instead of five of a minute each."""
    config = Stack("punctual", region="eu-central-1").client("sqs").meta.config
    assert config.retries["mode"] == "standard"
    assert 3 * max(config.connect_timeout, config.read_timeout) <= 30


@pytest.fixture
def no_aws(monkeypatch, tmp_path):
    """An environment without credentials, Region, or profile."""
    for name in os.environ:
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.mark.parametrize(
    ("environment", "config", "sentence"),
    [
        ({}, "", "no AWS Region is configured"),
        (REGION, "", "no AWS credentials were found"),
        ({"AWS_PROFILE": "nobody"}, "", "The config profile (nobody) could not be found"),
        # Whatever the SDK raises: here FileNotFoundError, which is none of its own.
        (REGION, "credential_process = /no/such/program", "the AWS credentials could not be loaded: "),
        (REGION, "web_identity_token_file = /none\nrole_arn = arn:x", "the AWS credentials could not be loaded: "),
        (KEYS | {"AWS_ENDPOINT_URL": "nowhere"}, "", "a setting of the AWS SDK is wrong: Invalid endpoint: nowhere"),
        (KEYS | {"AWS_MAX_ATTEMPTS": "many"}, "", "a setting of the AWS SDK is wrong: invalid literal for int()"),
    ],
)
def test_what_the_sdk_cannot_use_is_one_sentence(
    punctual, no_aws, monkeypatch, tmp_path, environment, config, sentence
):
    """With exit code 1: the environment is no argument."""
    (tmp_path / "config").write_text(f"[default]\n{config}\n")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    result = punctual("resend")
    assert (result.code, result.output, result.error.count("\n")) == (1, "", 1)
    assert result.error.startswith(f"punctual: {sentence}")


def test_a_stack_that_is_something_else_or_out_of_reach(stack, punctual):
    stack.outputs.clear()
    sentence = "the stack punctual is not a complete stack of Punctual: it has no output UndeliveredUrl"
    assert punctual("resend") == Result(1, "", f"punctual: {sentence}\n")
    stack.errors["DescribeStacks"] = EndpointConnectionError(endpoint_url="https://aws.invalid/")
    result = punctual("resend")
    assert result.code == 1 and result.error.startswith("punctual: AWS cannot be reached: Could not connect")


@pytest.mark.parametrize(
    ("code", "message", "operation", "sentence"),
    [
        ("AccessDenied", "no", "DescribeStacks", "permission denied: no"),
        ("AccessDeniedException", "no", "ReceiveMessage", "permission denied: no"),
        ("AuthorizationError", "no.", "Publish", "permission denied: no"),
        ("UnauthorizedOperation", "", "Publish", "permission denied: Publish"),
        ("ValidationError", "bad", "Publish", "Publish failed: ValidationError: bad"),
        ("Throttling", "slow.", "Query", "Query failed: Throttling: slow"),
    ],
)
def test_an_error_of_aws_is_one_sentence(code, message, operation, sentence):
    """Without a period at its end."""
    assert sentence_of(ClientError({"Error": {"Code": code, "Message": message}}, operation)) == sentence
    assert sentence_of(ClientError({}, "Query")) == "Query failed: unknown error: "


def test_the_rules_are_those_of_the_stacks_parameters(stack):
    """By default its own topics are allowed and a user is required; a topic is an ARN or a name beside the input."""
    found = Stack("punctual")
    assert found.topic_arn("orders") == stack.input_topic.replace("InputTopic", "orders")
    assert found.topic_arn("arn:x") == "arn:x"
    assert found.rules().allowed_topics == (stack.input_topic.replace("InputTopic", "*"),)
    assert found.rules().user_required
    stack.parameters |= {"EnforceUser": "false", "TargetTopicArns": "arn:a,arn:b"}
    rules = Stack("punctual").rules()
    assert (rules.allowed_topics, rules.user_required) == (("arn:a", "arn:b"), False)


def test_a_time_is_shown_in_utc_to_the_millisecond():
    """Truncated, as in 10:00:00.999."""
    assert shown(datetime.fromisoformat("2026-12-24T11:00:00.999999+01:00")) == "2026-12-24 10:00:00.999"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.012, "12 ms"), (9.9, "9,900 ms"), (10, "10.0 s"), (100, "1.7 minutes"), (6000, "1.7 hours"), (4e5, "4.6 days")],
)
def test_a_duration_is_readable(seconds, text):
    """In the largest unit that leaves two digits of it."""
    assert readable(timedelta(seconds=seconds)) == text
