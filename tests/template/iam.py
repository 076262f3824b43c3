"""What IAM decides about a request, by the policies in template.yaml.

docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
"""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from tools.cloudformation import Template

type Statements = list[dict[str, Any]]
# The values of condition keys, such as aws:SourceArn. A key that the request does not have is not in it.
type Context = Mapping[str, str | list[str]]


def allows(
    statements: Statements,
    action: str,
    resource: str = "*",
    context: Context | None = None,
    principal: tuple[str, str] | None = None,
) -> bool:
    """Whether a policy's statements allow a request: at least one allows it, and none denies it.

    `principal` is ("AWS", account id) or ("Service", name) for the policies of resources, None for those of roles.
    """
    effects = {
        statement["Effect"]
        for statement in statements
        if any(_matches(pattern, action, re.IGNORECASE) for pattern in listed(statement["Action"]))
        and any(_matches(pattern, resource) for pattern in listed(statement.get("Resource", "*")))
        and _concerns(statement, principal)
        and _holds(statement.get("Condition", {}), context or {})
    }
    return effects == {"Allow"}


def role_statements(template: Template, role: str) -> Statements:
    """The statements of all policies of a role: those in it, and those attached to it."""
    documents = [policy["PolicyDocument"] for policy in template.properties(role)["Policies"]]
    for policy in template.deployed("AWS::IAM::Policy").values():
        if template.resolve({"Ref": role}) in policy["Roles"]:
            documents.append(policy["PolicyDocument"])
    return _statements(documents)


def trust_statements(template: Template, role: str) -> Statements:
    """The statements that say who may assume a role."""
    return _statements([template.properties(role)["AssumeRolePolicyDocument"]])


def resource_statements(template: Template, name: str) -> Statements:
    """The statements of the one policy that a topic or queue has: a second one would replace the first."""
    ref = template.resolve({"Ref": name})
    policies = [
        *(policy for policy in template.deployed("AWS::SNS::TopicPolicy").values() if ref in policy["Topics"]),
        *(policy for policy in template.deployed("AWS::SQS::QueuePolicy").values() if ref in policy["Queues"]),
    ]
    assert len(policies) == 1, name
    return _statements([policies[0]["PolicyDocument"]])


def listed(value: str | list[str]) -> list[str]:
    """An element that may be one text or a list of them, as a list."""
    return value if isinstance(value, list) else [value]


def _statements(documents: Iterable[dict]) -> Statements:
    found = []
    for document in documents:
        assert document["Version"] == "2012-10-17"
        sids = [statement.get("Sid") for statement in document["Statement"]]
        assert len({*sids}) == len(sids), "IAM refuses the same Sid twice"
        found += document["Statement"]
    for statement in found:
        assert statement.keys() <= {"Sid", "Effect", "Principal", "Action", "Resource", "Condition"}
        for resource in listed(statement.get("Resource", "*")):
            assert resource == "*" or resource.startswith("arn:"), resource
    return found


@cache
def _expression(pattern: str, flags: re.RegexFlag) -> re.Pattern:
    return re.compile(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."), flags)


def _matches(pattern: str, text: str, flags: re.RegexFlag = re.NOFLAG) -> bool:
    return _expression(pattern, flags).fullmatch(text) is not None


def _concerns(statement: dict, principal: tuple[str, str] | None) -> bool:
    match statement.get("Principal"):
        case None | "*" as anybody:
            return anybody == "*" or principal is None
        case dict() as named if principal:
            kind, value = principal
            names = listed(named.get(kind, []))
            return any(re.fullmatch(rf"{value}|arn:aws:iam::{value}:root", name) for name in names)
    return False


def _holds(condition: dict, context: Context) -> bool:
    return all(
        _compare(operator, listed(expected), context.get(key))
        for operator, keys in condition.items()
        for key, expected in keys.items()
    )


def _compare(operator: str, expected: list[str], actual: str | list[str] | None) -> bool:
    set_operator, _, name = operator.rpartition(":")
    if name not in ("StringEquals", "StringLike", "ArnEquals", "ArnLike", "Bool"):
        raise ValueError(f"not understood: {operator}")
    exact = name in ("StringEquals", "Bool")
    fits = [any(e == a if exact else _matches(e, a) for e in expected) for a in listed(actual or [])]
    # ForAllValues holds without the key, too: so recorded requests have all their keys, and tests give them.
    return all(fits) if set_operator == "ForAllValues" else any(fits)
