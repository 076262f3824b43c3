# examples/cdk/app.py
"""Punctual in an app of the AWS CDK: a construct around what `make package` writes, and a stack that uses it.

Usage: cdk deploy --app "python examples/cdk/app.py" --context package=build
"""

from pathlib import Path
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3_assets as assets
from aws_cdk import aws_sns as sns
from constructs import Construct


class Punctual(Construct):
    """The stack, nested in the one of `scope`. `package` is the folder that `make package` has written; `parameters`
    are those of template.yaml. Its outputs are `input_topic`, `failure_topic`, and `output(name)`."""

    def __init__(self, scope: Construct, id: str, *, package: Path, **parameters: str) -> None:
        super().__init__(scope, id)
        [code], [template] = package.glob("punctual-*.zip"), package.glob("punctual-*.template.json")
        zip = assets.Asset(self, "Code", path=str(code))
        self._stack = cdk.CfnStack(
            self,
            "Stack",
            template_url=assets.Asset(self, "Template", path=str(template)).http_url,
            parameters={"CodeBucket": zip.s3_bucket_name, "CodeKey": zip.s3_object_key, **parameters},
        )
        self.input_topic = sns.Topic.from_topic_arn(self, "InputTopic", self.output("InputTopicArn"))
        self.failure_topic = sns.Topic.from_topic_arn(self, "FailureTopic", self.output("FailureTopicArn"))

    def output(self, name: str) -> str:
        """An output of template.yaml."""
        return self._stack.get_att(f"Outputs.{name}").to_string()


class Shop(cdk.Stack):
    """An example: a target topic, and a role that may schedule events."""

    def __init__(self, scope: Construct, id: str, **options: Any) -> None:
        super().__init__(scope, id, **options)
        punctual = Punctual(
            self, "Punctual", package=Path(self.node.get_context("package")), AlarmEmail="team@example.com"
        )
        sns.Topic(self, "Reminders")
        publisher = iam.Role(self, "Publisher", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
        punctual.input_topic.grant_publish(publisher)


app = cdk.App()
Shop(app, "Shop")
app.synth()
