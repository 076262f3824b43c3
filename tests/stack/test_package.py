"""What `make package` writes, CloudFormation can deploy alone."""

import copy
import json
from datetime import UTC, datetime, timedelta

from tools.local import ARCHITECTURE, Consumer, LocalStack
from tools.package import package


def test_a_packaged_stack_delivers(other: LocalStack, tmp_path):
    code, template = package(other.folder / "build", tmp_path, ARCHITECTURE)
    s3, cloudformation = other.client("s3"), other.client("cloudformation")
    s3.create_bucket(Bucket="code", CreateBucketConfiguration={"LocationConstraint": other.region})
    s3.upload_file(str(code), "code", code.name)
    s3.upload_file(str(template), "code", template.name)
    cloudformation.create_stack(
        StackName="packaged",
        TemplateURL=f"{other.endpoint}/code/{template.name}",  # It is too large for TemplateBody.
        Parameters=[{"ParameterKey": "CodeBucket", "ParameterValue": "code"}],
        Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
    )
    cloudformation.get_waiter("stack_create_complete").wait(StackName="packaged", WaiterConfig={"Delay": 1})
    packaged = copy.copy(other)
    packaged.stack_name = "packaged"
    with Consumer(packaged) as consumer:
        event = {
            "date": (datetime.now(UTC) + timedelta(seconds=3)).isoformat(),
            "target": consumer.topic("packaged"),
            "user": "team@example.com",
            "payload": "order-4711",
        }
        topic = packaged.outputs["InputTopicArn"]
        other.client("sns").publish(TopicArn=topic, Message=json.dumps(event))
        assert consumer.wait_until(lambda arrivals: arrivals, seconds=30)
        assert [arrival.message for arrival in consumer.arrivals] == ["order-4711"]
