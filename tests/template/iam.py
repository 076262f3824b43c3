"""What IAM decides about a request, by the policies in template.yaml.

docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
"""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

import botocore.session

from tools.cloudformation import Template

type Statements = list[dict[str, Any]]
# The values of condition keys, such as aws:SourceArn. A key that the request does not have is not in it.
type Context = Mapping[str, str | list[str]]
# ("AWS", account id) or ("Service", name). A role's own policies name none.
type Principal = tuple[str, str] | None
# IAM's name for an operation where it is another one.
# (docs.aws.amazon.com/service-authorization/latest/reference/list_awslambda.html, list_amazonsqs.html)
IAM_ACTIONS = {
    "lambda:Invoke": "lambda:InvokeFunction",
    **{f"sqs:{name}Batch": f"sqs:{name}" for name in ("ChangeMessageVisibility", "DeleteMessage", "SendMessage")},
}


def action_of(service: str, operation: str) -> str:
    """The action of an operation, by their names in IAM."""
    return IAM_ACTIONS.get(f"{service}:{operation}", f"{service}:{operation}")


@cache
def actions_of(service: str) -> set[str]:
    """Every action of a service, which has botocore's name."""
    model = botocore.session.get_session().get_service_model(service)
    return {action_of(model.signing_name, name) for name in model.operation_names}


def allows(
    statements: Statements, action: str, resource: str, context: Context | None = None, principal: Principal = None
) -> bool:
    """Whether a policy's statements allow a request: at least one allows it, and none denies it."""
    effects = {
        statement["Effect"]
        for statement in statements
        if any(fnmatchcase(action.lower(), pattern.lower()) for pattern in _listed(statement["Action"]))
        and any(fnmatchcase(resource, pattern) for pattern in _listed(statement.get("Resource", "*")))
        and _concerns(statement.get("Principal"), principal)
        and all(
            _holds(operator, _listed(expected), key, context or {})
            for operator, keys in statement.get("Condition", {}).items()
            for key, expected in keys.items()
        )
    }
    return effects == {"Allow"}


def role_statements(template: Template, role: str) -> Statements:
    """The statements of all policies of a role: those in it, and those attached to it."""
    attached = (policy for policy in template.deployed("AWS::IAM::Policy").values() if role in policy["Roles"])
    return statements_of(policy["PolicyDocument"] for policy in (*template.properties(role)["Policies"], *attached))


def resource_statements(template: Template, name: str) -> Statements:
    """The statements of the one policy that a topic or queue has: a second one would replace the first."""
    topics, queues = (template.deployed(f"AWS::{type}").values() for type in ("SNS::TopicPolicy", "SQS::QueuePolicy"))
    ref = template.resolve({"Ref": name})
    [policy] = [policy for policy in (*topics, *queues) if ref in policy.get("Topics", policy.get("Queues"))]
    return statements_of([policy["PolicyDocument"]])


def statements_of(documents: Any) -> Statements:
    """The statements of policies, all of them such as IAM accepts and `allows` understands."""
    found = []
    for document in documents:
        assert document["Version"] == "2012-10-17"
        sids = [statement.get("Sid") for statement in document["Statement"]]
        assert len({*sids}) == len(sids), "IAM refuses the same Sid twice"
        found += document["Statement"]
    for statement in found:
        assert statement.keys() <= {"Sid", "Effect", "Principal", "Action", "Resource", "Condition"}
        for resource in _listed(statement.get("Resource", "*")):
            assert resource == "*" or resource.startswith("arn:"), resource
    return found


def _listed(value: str | list[str]) -> list[str]:
    return value if isinstance(value, list) else [value]


def _concerns(named: str | dict | None, principal: Principal) -> bool:
    if not isinstance(named, dict):
        return named == "*" or principal is None
    kind, value = principal or ("", "")
    return not {value, f"arn:aws:iam::{value}:root"}.isdisjoint(_listed(named.get(kind, [])))


def _holds(operator: str, expected: list[str], key: str, context: Context) -> bool:
    set_operator, _, name = operator.rpartition(":")
    compare = {"StringEquals": str.__eq__, "Bool": str.__eq__}.get(name, fnmatchcase)
    assert name in ("StringEquals", "Bool", "StringLike", "ArnEquals", "ArnLike"), f"not understood: {operator}"
    fits = [any(compare(actual, wanted) for wanted in expected) for actual in _listed(context.get(key, []))]
    # ForAllValues holds without the key, too: a test has to give the keys that such a condition names.
    assert fits or not set_operator, f"{key} is in no request"
    return all(fits) if set_operator == "ForAllValues" else any(fits)
