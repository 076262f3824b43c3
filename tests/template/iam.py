"""What IAM decides about a request, by the policies in template.yaml.

moto's evaluator compares actions and resources. It knows neither conditions nor the principals used here, so these are
compared here. (docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html)
"""

import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

from moto.iam.access_control import IAMPolicyStatement, PermissionResult

from tools.cloudformation import Template

type Statements = list[dict[str, Any]]
# The values of condition keys. A key that the request does not have is not in it.
type Context = dict[str, str | list[str]]


def allows(
    statements: Statements,
    action: str,
    resource: str = "*",
    principal: tuple[str, str] | None = None,
    **context: str | list[str],
) -> bool:
    """Whether a policy's statements allow a request: at least one allows it, and none denies it.

    `principal` is ("AWS", account id) or ("Service", name) for the policies of resources, None for those of roles.
    `context` has condition keys with `_` for `:`, such as `aws_SourceArn`.
    """
    keys = {name.replace("_", ":", 1): value for name, value in context.items()}
    decisions = {
        _without_condition(statement).is_action_permitted(action, resource)
        for statement in statements
        if _concerns(statement, principal) and _holds(statement.get("Condition", {}), keys)
    }
    return PermissionResult.PERMITTED in decisions and PermissionResult.DENIED not in decisions


def role_statements(template: Template, role: str) -> Statements:
    """The statements of all policies of a role: those in it, and those attached to it."""
    documents = [policy["PolicyDocument"] for policy in template.properties(role).get("Policies", [])]
    for policy in template.deployed("AWS::IAM::Policy").values():
        if template.resolve({"Ref": role}) in policy["Roles"]:
            documents.append(policy["PolicyDocument"])
    return [*_statements(documents)]


def trust_statements(template: Template, role: str) -> Statements:
    """The statements that say who may assume a role."""
    return [*_statements([template.properties(role)["AssumeRolePolicyDocument"]])]


def topic_statements(template: Template, topic: str) -> Statements:
    """The statements of a topic's policy."""
    policies = template.deployed("AWS::SNS::TopicPolicy").values()
    ref = template.resolve({"Ref": topic})
    return [*_statements(policy["PolicyDocument"] for policy in policies if ref in policy["Topics"])]


def queue_statements(template: Template, queue: str) -> Statements:
    """The statements of a queue's policy."""
    policies = template.deployed("AWS::SQS::QueuePolicy").values()
    ref = template.resolve({"Ref": queue})
    return [*_statements(policy["PolicyDocument"] for policy in policies if ref in policy["Queues"])]


def listed(value: str | list[str]) -> list[str]:
    """An element that may be one text or a list of them, as a list."""
    return value if isinstance(value, list) else [value]


def _statements(documents: Iterable[dict]) -> Iterator[dict]:
    for document in documents:
        assert document["Version"] == "2012-10-17"  # The other version has no variables.
        yield from document["Statement"]


@cache
def _evaluator(effect: str, actions: tuple[str, ...], resources: tuple[str, ...]) -> IAMPolicyStatement:
    # moto has no wildcard for a single character, but takes a pattern for a regular expression.
    patterns = [pattern.replace("?", ".") for pattern in resources]
    return IAMPolicyStatement({"Effect": effect, "Action": [*actions], "Resource": patterns})


def _without_condition(statement: dict) -> IAMPolicyStatement:
    assert statement.keys() <= {"Sid", "Effect", "Principal", "Action", "Resource", "Condition"}
    assert statement["Effect"] in ("Allow", "Deny")
    # The policy that says who may assume a role has no resources.
    resources = listed(statement.get("Resource", "*"))
    return _evaluator(statement["Effect"], tuple(listed(statement["Action"])), tuple(resources))


def _concerns(statement: dict, principal: tuple[str, str] | None) -> bool:
    match statement.get("Principal"):
        case None:
            return principal is None
        case "*":
            return True
        case dict() as named if principal:
            kind, value = principal
            accounts = [re.sub(r"^arn:aws:iam::(\d+):root$", r"\1", name) for name in listed(named.get(kind, []))]
            return value in accounts
    return False


def _holds(condition: dict, context: Context) -> bool:
    return all(
        _compare(operator, listed(expected), context.get(key))
        for operator, keys in condition.items()
        for key, expected in keys.items()
    )


def _compare(operator: str, expected: list[str], actual: str | list[str] | None) -> bool:
    match operator:
        case "StringEquals" | "ArnEquals" | "Bool":
            return actual in expected
        case "ForAllValues:StringEquals":  # Of a request without the key, too.
            return {*listed(actual or [])} <= {*expected}
    raise ValueError(f"not understood: {operator}")
