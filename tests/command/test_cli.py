"""Every failure of `punctual` is one sentence and an exit code: 2 for wrong usage, 1 for what AWS refuses."""

import pytest
from botocore.exceptions import EndpointConnectionError

from punctual import __version__


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "Missing command (see punctual --help)"),
        (["resent"], "No such command 'resent'"),
        (["--stak", "x", "resend"], "No such option"),
        (["--stack"], "Option '--stack' requires an argument (see punctual --help)"),
        (["--stack", "a b", "resend"], "Invalid value for '--stack': 'a b' cannot be the name of a stack"),
        (["--stack", "", "resend"], "Invalid value for '--stack': '' cannot be the name of a stack"),
        (["show", 'a"b'], "Invalid value for 'ID': 'a\"b' must be 1 to 64 characters of A-Z, a-z, 0-9, _ and -"),
        (["resend", "now"], "Got unexpected extra argument (now) (see punctual resend --help)"),
    ],
)
def test_wrong_usage(punctual, arguments, sentence):
    result = punctual(*arguments)
    assert (result.code, result.output) == (2, "")
    assert result.error.startswith(f"punctual: {sentence}")
    assert result.error.count("\n") == 1


@pytest.mark.parametrize("arguments", [["--help"], ["resend", "--help"], ["--stack", "x", "resend", "--help"]])
def test_help_needs_no_aws(punctual, no_aws, arguments):
    result = punctual(*arguments)
    assert (result.code, result.error) == (0, "")
    assert result.output.startswith("Usage: punctual")


def test_the_version(punctual):
    assert punctual("--version").output == f"{__version__}\n"


def test_a_missing_stack(stack, punctual):
    result = punctual("--stack", "punctal", "resend")
    assert (result.code, result.output) == (1, "")
    assert result.error == (
        "punctual: Stack with id punctal does not exist in this account and Region (name another with --stack)\n"
    )


def test_a_stack_that_is_something_else(stack, punctual):
    stack.outputs.clear()
    result = punctual("resend")
    assert result.code == 1
    assert result.error == (
        "punctual: the stack punctual is not a complete stack of Punctual: it has no output UndeliveredUrl\n"
    )


@pytest.mark.parametrize(
    ("operation", "code"),
    [
        ("DescribeStacks", "AccessDenied"),
        ("ReceiveMessage", "AccessDeniedException"),
        ("ReceiveMessage", "AccessDenied"),
    ],
)
def test_a_missing_permission(stack, punctual, operation, code):
    message = f"User: arn:aws:iam::123456789012:user/me is not authorized to perform: {operation}"
    stack.refuse(operation, code, message)
    result = punctual("resend")
    assert (result.code, result.output) == (1, "")
    assert result.error == f"punctual: permission denied: {message}\n"


def test_any_other_error_of_aws(stack, punctual):
    stack.refuse("DescribeStacks", "ExpiredToken", "The security token included in the request is expired")
    result = punctual("resend")
    assert result.code == 1
    assert result.error == (
        "punctual: DescribeStacks failed: ExpiredToken: The security token included in the request is expired\n"
    )


def test_aws_out_of_reach(stack, punctual):
    stack.errors["DescribeStacks"] = EndpointConnectionError(endpoint_url="https://aws.invalid/")
    result = punctual("resend")
    assert result.code == 1
    assert result.error.startswith("punctual: AWS cannot be reached: Could not connect")
    assert result.error.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("AWS_ENDPOINT_URL", "nowhere", "Invalid endpoint: nowhere"),
        ("AWS_MAX_ATTEMPTS", "many", "invalid literal for int() with base 10: 'many'"),
    ],
)
def test_a_setting_that_the_sdk_cannot_use(punctual, monkeypatch, name, value, sentence):
    """The environment is no argument, so the exit code is 1."""
    monkeypatch.setenv(name, value)
    result = punctual("resend")
    assert (result.code, result.error) == (1, f"punctual: a setting of the AWS SDK is wrong: {sentence}\n")


@pytest.fixture
def no_aws(monkeypatch, tmp_path):
    """An environment without credentials, Region, or profile."""
    for name in (
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_DEFAULT_REGION",
        "AWS_PROFILE",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def test_no_region(punctual, no_aws):
    result = punctual("resend")
    assert (result.code, result.output) == (1, "")
    assert result.error.startswith("punctual: no AWS Region is configured")


def test_no_credentials(punctual, no_aws, monkeypatch):
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    result = punctual("resend")
    assert (result.code, result.output) == (1, "")
    assert result.error.startswith("punctual: no AWS credentials were found")


def test_an_unknown_profile(punctual, no_aws, monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    result = punctual("resend")
    assert result.code == 1
    assert result.error == "punctual: The config profile (nobody) could not be found\n"
