"""Facts about the shipped definitions and template: what no execution shows."""

import json
import subprocess

import botocore.session
import pytest
from botocore.exceptions import ClientError
from punctual_core.failures import is_transient

from tools.cloudformation import ROOT, Template

TEMPLATE = Template()
MACHINES = [*TEMPLATE.resources("AWS::Serverless::StateMachine")]
PARTITIONS = ["aws", "aws-us-gov", "aws-cn"]
LINTER = ROOT / "node_modules/.bin/asl-validator"
STATES = json.loads(TEMPLATE.definition("Deliver"))["States"]
SWEEP = json.loads(TEMPLATE.definition("Sweep"))["States"]["SweepAtEveryTick"]["ItemProcessor"]["States"]["Sweep"]


@pytest.mark.parametrize("partition", PARTITIONS)
def test_definitions_as_deployed(partition):
    """In every partition no placeholder is left, and each task's resource is of that partition: one of another fails
    at run time, with an error that no Catch sees."""
    for machine in MACHINES:
        text = Template({"AWS::Partition": partition}).definition(machine)
        assert "${" not in text
        assert text.count(f'"arn:{partition}:states:::') == text.count(":states:::") == text.count('"Type": "Task"')


@pytest.mark.skipif(not LINTER.exists(), reason="make lint installs the linter")
def test_linter_finds_nothing():
    """The linter of state machines takes the definitions as they are deployed, in every partition."""
    definitions = [
        Template({"AWS::Partition": name}).definition(machine) for name in PARTITIONS for machine in MACHINES
    ]
    arguments = [part for text in definitions for part in ("--json-definition", text)]
    lint = subprocess.run([str(LINTER), *arguments], capture_output=True, text=True, timeout=60)
    assert lint.returncode == 0, lint.stdout + lint.stderr


@pytest.mark.parametrize("machine", MACHINES)
def test_substitutions_are_used(machine):
    """The template substitutes nothing that is not in the definition: deploying would fail."""
    properties = TEMPLATE.properties(machine)
    text = (ROOT / properties["DefinitionUri"]).read_text()
    assert [name for name in properties["DefinitionSubstitutions"] if "${" + name + "}" not in text] == []


def test_task_waits_for_its_function():
    """A tick does not time out while the Sweeper may still succeed. (Of Hold, tests/template says it.)"""
    assert SWEEP["TimeoutSeconds"] > TEMPLATE.function("Sweeper")["Timeout"]


# --- Errors -----------------------------------------------------------------------------------------------------------

# What SNS declares.
PUBLISH_ERRORS = botocore.session.get_session().get_service_model("sns").operation_model("Publish").error_shapes
# Errors that say nothing about the topic or the message: the same request may succeed later.
RETRIED = {"InternalErrorException", "KMSThrottlingException", "InvalidSecurityException"}
# MiniStack's name for every error of SNS.
EMULATOR_ERROR = "SNS.PublishFailed"


def names(error) -> set[str]:
    """The names that Step Functions may give to an error of SNS: by its shape or its code. AWS documents no rule."""
    code = error.error_code
    return {f"SNS.{error.name}", f"SNS.{code.removesuffix('Exception')}Exception"}


PERMANENT = {name for error in PUBLISH_ERRORS if error.name not in RETRIED for name in names(error)} | {EMULATOR_ERROR}


def test_every_error_of_sns_is_permanent_or_retried():
    """Every error that SNS declares for Publish is either named as permanent, to be reported at once, or retried on
    purpose."""
    assert {error.name for error in PUBLISH_ERRORS} > RETRIED
    [retrier] = [rule for rule in STATES["Publish"]["Retry"] if rule["MaxAttempts"] == 0]
    # States.ALL does not match Step Functions' own limit.
    assert {*retrier["ErrorEquals"]} == PERMANENT | {"States.DataLimitExceeded"}
    assert STATES["Publish"]["Catch"][0]["ErrorEquals"] == retrier["ErrorEquals"]


@pytest.mark.parametrize("error", PUBLISH_ERRORS, ids=lambda error: error.name)
def test_functions_retry_the_same_errors(error):
    """Ingest and Sweeper retry a report after the same errors of SNS as Deliver does."""
    status = error.metadata["error"]["httpStatusCode"]
    response = {"Error": {"Code": error.error_code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    assert is_transient(ClientError(response, "Publish")) == (error.name in RETRIED)
