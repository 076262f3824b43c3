"""The ways to deploy that are not sam: what `make package` writes, and the examples for CDK and Terraform."""

import json
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from punctual import __version__
from tools.cloudformation import ROOT, Template
from tools.package import package

CDK = ROOT / ".venv/cdk/bin/python"


@pytest.fixture(scope="module")
def packaged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """What is made of a build with one file, for x86_64."""
    build, out = tmp_path_factory.mktemp("build"), tmp_path_factory.mktemp("out")
    (build / "Ingest" / "punctual_core").mkdir(parents=True)
    (build / "Ingest" / "punctual_core" / "ingest.py").write_text("pass\n")
    return package(build, out, "x86_64")


def test_the_code_is_in_the_zip_as_lambda_wants_it(packaged):
    code, _ = packaged
    with zipfile.ZipFile(code) as archive:
        [file] = archive.infolist()
        assert file.filename == "punctual_core/ingest.py"
        assert file.external_attr >> 16 == 0o644, "Lambda could not read it"


def test_the_template_needs_no_file_but_the_zip(packaged):
    """Nor an architecture or a version of Python for which its code was not built."""
    code, file = packaged
    template = json.loads(file.read_text())
    assert template["Globals"]["Function"]["CodeUri"] == {"Bucket": {"Ref": "CodeBucket"}, "Key": {"Ref": "CodeKey"}}
    parameters = template["Parameters"]
    assert "Default" not in parameters["CodeBucket"] and parameters["CodeKey"]["Default"] == code.name
    assert code.name == f"punctual-{__version__}.zip"
    assert parameters["Architecture"]["Default"] == "x86_64"
    for name in ("Architecture", "PythonRuntime"):
        assert parameters[name]["AllowedValues"] == [parameters[name]["Default"]]
    for name in Template().resources("AWS::Serverless::StateMachine"):
        properties = template["Resources"][name]["Properties"]
        assert "States" in properties["Definition"] and "DefinitionUri" not in properties
    assert not any("CodeUri" in resource["Properties"] for resource in template["Resources"].values())


@pytest.mark.slow
@pytest.mark.skipif(not CDK.exists(), reason="the environment of the CDK is not there: make .venv/cdk/.ready")
def test_the_app_of_the_cdk_is_synthesized(packaged, tmp_path):
    """The stack is nested, and a role may publish to the topic that is one of its outputs."""
    environment = os.environ | {
        "CDK_OUTDIR": str(tmp_path),
        "CDK_CONTEXT_JSON": json.dumps({"package": str(packaged[0].parent)}),
        "JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION": "1",
    }
    done = subprocess.run([CDK, ROOT / "examples/cdk/app.py"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    resources = json.loads((tmp_path / "Shop.template.json").read_text())["Resources"]
    [(stack, properties)] = [
        (name, resource["Properties"])
        for name, resource in resources.items()
        if resource["Type"] == "AWS::CloudFormation::Stack"
    ]
    assert properties["Parameters"].keys() == {"CodeBucket", "CodeKey", "AlarmEmail"}
    [policy] = [resource for resource in resources.values() if resource["Type"] == "AWS::IAM::Policy"]
    [statement] = policy["Properties"]["PolicyDocument"]["Statement"]
    assert statement["Resource"] == {"Fn::GetAtt": [stack, "Outputs.InputTopicArn"]}


@pytest.mark.skipif(not shutil.which("terraform"), reason="terraform is not installed")
def test_the_configuration_of_terraform_is_formatted():
    """Which it is not if it cannot be parsed. Validation needs the provider, from a registry."""
    command = ["terraform", "fmt", "-check", "-diff", str(ROOT / "examples/terraform")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
