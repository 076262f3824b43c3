"""template.yaml as tests and tools read it, so that no table, setting or definition is declared twice.

`Template` evaluates intrinsic functions as CloudFormation does. Names that only a deployment knows are made up.
"""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
ACCOUNT, REGION = "123456789012", "eu-central-1"
_NO_VALUE = object()
# References to resources by their kind and attribute. Physical names are the logical ids, of tables too.
_ARN = "arn:{Partition}:%s:{Region}:{AccountId}:%s{name}"
_MADE_UP = {
    ("Topic", "Ref"): _ARN % ("sns", ""),
    ("Topic", "TopicName"): "{name}",
    ("Queue", "Ref"): "https://sqs.{Region}.amazonaws.com/{AccountId}/{name}",
    ("Queue", "Arn"): _ARN % ("sqs", ""),
    ("Queue", "QueueName"): "{name}",
    ("Table", "Ref"): "{name}",
    ("Table", "Arn"): _ARN % ("dynamodb", "table/"),
    ("Function", "Ref"): "{name}",
    ("Function", "Arn"): _ARN % ("lambda", "function:"),
    ("StateMachine", "Ref"): _ARN % ("states", "stateMachine:"),
    ("StateMachine", "Arn"): _ARN % ("states", "stateMachine:"),
    ("Role", "Ref"): "{name}",
    ("Role", "Arn"): "arn:{Partition}:iam::{AccountId}:role/{name}",
    ("Alarm", "Arn"): _ARN % ("cloudwatch", "alarm:"),
    ("LogGroup", "Ref"): "{name}",
    ("LogGroup", "Arn"): _ARN % ("logs", "log-group:") + ":*",  # It ends like this on AWS, too.
}


class _Loader(yaml.CSafeLoader):  # In C, because it is six times as fast.
    """YAML with CloudFormation's short tags, as their long forms."""


def _long_form(loader: _Loader, tag: str, node: yaml.Node) -> Any:
    value: Any
    match node:
        case yaml.ScalarNode():
            value = loader.construct_scalar(node)
        case yaml.SequenceNode():
            value = loader.construct_sequence(node, deep=True)
        case yaml.MappingNode():
            value = loader.construct_mapping(node, deep=True)
    if tag == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {tag if tag in ("Ref", "Condition") else f"Fn::{tag}": value}


_Loader.add_multi_constructor("!", _long_form)


@cache
def _parsed() -> Any:
    # Our own file, read with a subclass of the safe loader.
    return yaml.load((ROOT / "template.yaml").read_text(), _Loader)


class Template:
    """The template with these parameters; the others have their defaults.

    `known` gives the values of references: `{"Deliver": "arn:..."}` for `!Ref Deliver`, `{"Hold.Arn": "arn:..."}` for
    `!GetAtt Hold.Arn`. Other references to resources become ARNs, URLs or names in a made-up account.
    """

    def __init__(self, known: dict[str, str] | None = None, **parameters: str):
        self.text = _parsed()
        defaults = {name: str(parameter["Default"]) for name, parameter in self.text["Parameters"].items()}
        if unknown := parameters.keys() - defaults.keys():
            raise ValueError(f"not parameters of the template: {sorted(unknown)}")
        self._known = {
            "AWS::AccountId": ACCOUNT,
            "AWS::Region": REGION,
            "AWS::Partition": "aws",
            "AWS::StackName": "punctual",
            "AWS::NoValue": _NO_VALUE,
            **defaults,
            **parameters,
            **(known or {}),
        }

    def resources(self, type: str) -> dict[str, Any]:
        """The resources of a type, such as "AWS::SQS::Queue", by logical id, as they stand in the template."""
        return {name: item for name, item in self.text["Resources"].items() if item["Type"] == type}

    def deployed(self, type: str) -> dict[str, Any]:
        """The properties of the resources of a type that exist with these parameters, by logical id."""
        return {name: self.properties(name) for name in self.resources(type) if self.exists(name)}

    def exists(self, logical_id: str) -> bool:
        """Whether a resource exists with these parameters."""
        condition = self.text["Resources"][logical_id].get("Condition")
        return condition is None or self._holds({"Condition": condition})

    def properties(self, logical_id: str) -> Any:
        """A resource's properties, with all intrinsic functions evaluated."""
        return self.resolve(self.text["Resources"][logical_id]["Properties"])

    def function(self, logical_id: str) -> Any:
        """The properties of a function, including those that all functions share."""
        return _merged(self.resolve(self.text["Globals"]["Function"]), self.properties(logical_id))

    def environment(self, function: str) -> dict[str, str]:
        """The environment variables that a function runs with."""
        return {name: str(value) for name, value in self.function(function)["Environment"]["Variables"].items()}

    def table(self, logical_id: str) -> Any:
        """The arguments of DynamoDB's CreateTable for a table: its name, keys and billing."""
        properties = self.properties(logical_id)
        arguments = {name: properties[name] for name in ("AttributeDefinitions", "KeySchema", "BillingMode")}
        return {"TableName": self.resolve({"Ref": logical_id}), **arguments}

    def definition(self, state_machine: str) -> str:
        """A state machine's definition (JSON text) with its DefinitionSubstitutions made."""
        properties = self.properties(state_machine)
        text: str = (ROOT / properties["DefinitionUri"]).read_text()
        for name, value in properties["DefinitionSubstitutions"].items():
            text = text.replace("${" + name + "}", json.dumps(value)[1:-1])
        return text

    def outputs(self) -> dict[str, str]:
        """The stack's outputs."""
        return {name: self.resolve(output["Value"]) for name, output in self.text["Outputs"].items()}

    def arn(self, logical_id: str) -> Any:
        """The ARN of a resource, whichever of its attributes that is."""
        is_reference = self.text["Resources"][logical_id]["Type"].split("::")[-1] in ("Topic", "StateMachine")
        return self.resolve({"Ref": logical_id} if is_reference else {"Fn::GetAtt": [logical_id, "Arn"]})

    def resolve(self, value: Any) -> Any:
        """`value` with its intrinsic functions evaluated; what is AWS::NoValue disappears."""
        match value:
            case {"Ref": name}:
                return self._known[name] if name in self._known else self._made_up(name, "Ref")
            case {"Fn::GetAtt": [name, attribute]}:
                return self._known.get(f"{name}.{attribute}") or self._made_up(name, attribute)
            case {"Fn::Sub": str(text)}:
                return self._substituted(text, {})
            case {"Fn::Sub": [text, variables]}:
                return self._substituted(text, self.resolve(variables))
            case {"Fn::If": [condition, then, otherwise]}:
                return self.resolve(then if self._holds({"Condition": condition}) else otherwise)
            case {"Fn::FindInMap": [name, *keys]}:
                found = self.text["Mappings"][name]
                for key in keys:
                    found = found[self.resolve(key)]
                return found
            case {"Fn::Split": [separator, text]}:
                return self.resolve(text).split(separator)
            case dict():
                if any(key.startswith("Fn::") for key in value):
                    raise ValueError(f"not understood: {value}")
                resolved = {key: self.resolve(item) for key, item in value.items()}
                return {key: item for key, item in resolved.items() if item is not _NO_VALUE}
            case list():
                return [item for item in map(self.resolve, value) if item is not _NO_VALUE]
        return value

    def _substituted(self, text: str, variables: dict[str, str]) -> str:
        def named(match: re.Match[str]) -> Any:
            name = match[1]
            if name in variables:
                return variables[name]
            return self.resolve({"Fn::GetAtt": name.split(".", 1)} if "." in name else {"Ref": name})

        return re.sub(r"\$\{([\w:.]+)\}", named, text)

    def _holds(self, condition: Any) -> Any:
        match condition:
            case {"Condition": name}:
                return self._holds(self.text["Conditions"][name])
            case {"Fn::Not": [inner]}:
                return not self._holds(inner)
            case {"Fn::And": parts}:
                return all(map(self._holds, parts))
            case {"Fn::Or": parts}:
                return any(map(self._holds, parts))
            case {"Fn::Equals": [left, right]}:
                return self.resolve(left) == self.resolve(right)
        raise ValueError(f"not a condition: {condition}")

    def _made_up(self, name: str, attribute: str) -> Any:
        if not self.exists(name):
            raise ValueError(f"{name} does not exist with these parameters")
        resource, known = self.text["Resources"][name], self._known
        kind = resource["Type"].split("::")[-1]
        if kind == "LogGroup":  # Others read these by their physical names.
            name = self.resolve(resource["Properties"].get("LogGroupName", name))
        if (kind, attribute) not in _MADE_UP:
            raise ValueError(f"{resource['Type']} has no {attribute}")
        places = {part: known[f"AWS::{part}"] for part in ("Partition", "Region", "AccountId")}
        return _MADE_UP[kind, attribute].format(name=name, **places)


def _merged(shared: Any, own: Any) -> Any:
    if not (isinstance(shared, dict) and isinstance(own, dict)):
        return own
    return shared | {key: _merged(shared.get(key), value) for key, value in own.items()}
