"""What `make package` writes, CloudFormation can deploy alone."""

import copy

from tests.stack.conftest import event, in_seconds, publish
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
        publish(packaged, event(consumer.topic("packaged"), "order-4711", in_seconds(3)))
        assert consumer.wait_until(lambda arrivals: arrivals, seconds=30)
        assert [arrival.message for arrival in consumer.arrivals] == ["order-4711"]
