"""The AWS clients: how long a call may take, and how often it is made."""

import os

import pytest
from botocore.exceptions import ClientError
from punctual_core.clients import client

from tests.conftest import TARGET


def test_a_call_whose_answer_does_not_come_ends_within_6_seconds():
    """3 attempts of 1 s for the answer, and between them at most 3 s of backoff: an event waits for it."""
    config = client("sns").meta.config
    assert (config.connect_timeout, config.read_timeout) == (1, 1)
    assert config.retries == {"mode": "standard", "total_max_attempts": 3}


@pytest.mark.parametrize(("faults", "succeeds"), [(2, True), (3, False)])
def test_a_call_is_made_three_times(cloud, faults, succeeds):
    """Two faults are not noticed, a third is raised."""
    cloud.fail("Publish", "InternalError", status=500, times=faults)
    if succeeds:
        client("sns").publish(TopicArn=TARGET + "-failed", Message="hello")
    else:
        with pytest.raises(ClientError):
            client("sns").publish(TopicArn=TARGET + "-failed", Message="hello")
    assert len(cloud.calls("Publish")) == 3


def test_threads_share_the_connections_of_one_client():
    """As many as are asked for: Ingest processes a batch of ten side by side."""
    assert client("sns").meta.config.max_pool_connections == 10
    assert client("sns", 32).meta.config.max_pool_connections == 32
    assert client("sns") is client("sns") is not client("sns", 32)


def test_a_call_that_aws_would_refuse_fails_the_test_that_makes_it(cloud):
    """At its end, even if the code catches what moto says: every other test checks each of its calls."""
    arguments = {"stateMachineArn": os.environ["DELIVER_ARN"], "input": "{}"}
    client("stepfunctions").start_execution(name="a-name", **arguments)
    assert not cloud.refused
    client("stepfunctions").start_execution(name="a." * 41, **arguments)
    limits = ["StartExecution.name has 82, of which 80 are allowed", f"StartExecution: name '{'a.' * 41}'"]
    assert cloud.refused == limits
    cloud.refused.clear()
