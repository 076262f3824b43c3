"""What the estimates need to know of template.yaml."""

from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]


class _Loader(yaml.SafeLoader):
    """YAML in which CloudFormation's tags are dropped."""


def _without_tag(loader: _Loader, _: str, node: yaml.Node) -> Any:
    match node:
        case yaml.MappingNode():
            return loader.construct_mapping(node, deep=True)
        case yaml.SequenceNode():
            return loader.construct_sequence(node, deep=True)
        case _:
            return node.value


_Loader.add_multi_constructor("!", _without_tag)


@cache
def _template() -> dict[str, Any]:
    template: dict[str, Any] = yaml.load((ROOT / "template.yaml").read_text(), _Loader)
    return template


def default(parameter: str) -> str:
    """The default value of a parameter."""
    return str(_template()["Parameters"][parameter]["Default"])


def allowed_values(parameter: str) -> list[str]:
    """The values that a parameter can have."""
    return [str(value) for value in _template()["Parameters"][parameter]["AllowedValues"]]


def properties(logical_id: str) -> dict[str, Any]:
    """The properties of a resource."""
    found: dict[str, Any] = _template()["Resources"][logical_id]["Properties"]
    return found


def count(resource_type: str, condition: str | None = None) -> int:
    """How many resources of a type, such as "AWS::CloudWatch::Alarm", a stack has under a condition, or always."""
    resources = _template()["Resources"].values()
    return sum(item["Type"] == resource_type and item.get("Condition") == condition for item in resources)


def system_log_level() -> str:
    """The level of the lines that Lambda itself adds to the functions' logs."""
    return str(_template()["Globals"]["Function"]["LoggingConfig"]["SystemLogLevel"])


def memory_gb(function: str) -> float:
    """The memory of a function."""
    return float(properties(function)["MemorySize"]) / 1024


def horizon_seconds(interval_seconds: int) -> int:
    """How long before its due time an event is started at most, at this sweep interval."""
    return int(_template()["Mappings"]["Horizon"][str(interval_seconds)]["Seconds"])
