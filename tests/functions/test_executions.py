"""Starting an execution: which answers of Step Functions are final."""

import os

import pytest
from botocore.exceptions import ClientError
from punctual_core.clients import client
from punctual_core.executions import Executions, PermanentStartError


@pytest.fixture
def workflow(cloud) -> Executions:
    return Executions(client("stepfunctions"), os.environ["DELIVER_ARN"])


def test_an_execution_that_exists_is_started(cloud, workflow):
    """A Standard workflow or an emulator says so at a retry whose first answer was lost."""
    cloud.fail("StartExecution", "ExecutionAlreadyExists")
    workflow.start("order", "{}")
    assert len(cloud.calls("StartExecution")) == 1


@pytest.mark.parametrize("code", ["InvalidExecutionInput", "InvalidName", "ValidationException"])
def test_what_concerns_the_input_is_permanent(cloud, workflow, code):
    """With Step Functions' code and words as the reason."""
    cloud.fail("StartExecution", code)
    with pytest.raises(PermanentStartError) as raised:
        workflow.start("order", "{}")
    assert str(raised.value) == f"{code}: {code} by the test"


@pytest.mark.parametrize("code", ["StateMachineDoesNotExist", "AccessDeniedException", "Other"])
def test_anything_else_may_pass(cloud, workflow, code):
    """It is raised as it came: the event is retried."""
    cloud.fail("StartExecution", code)
    with pytest.raises(ClientError, match=code):
        workflow.start("order", "{}")
