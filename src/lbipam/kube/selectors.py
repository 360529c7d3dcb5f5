"""A label selector as written in an object, into one that can be asked.

Cilium compiles selectors when it meets them and fails whoever asked; here a selector that does not compile
is a reported problem. This file does not match anything.
"""

from lbipam.core.ipam.labels import Operator, Requirement, Selector
from lbipam.kube.forms import LabelSelector

NAME_LABEL = "io.kubernetes.service.name"
NAMESPACE_LABEL = "io.kubernetes.service.namespace"


def compile_selector(selector: LabelSelector) -> Selector:
    """Compile `matchLabels` and `matchExpressions`; an empty selector matches everything.

    Raises:
        ValueError: an operator is unknown, or takes other values than are given.
    """
    requirements = [
        Requirement(key, Operator.IN, (value,))
        for key, value in sorted((selector.match_labels or {}).items())
    ]
    for expression in selector.match_expressions or ():
        try:
            operator = Operator(expression.operator)
        except ValueError:
            raise ValueError(f"'{expression.operator}' is not an operator of a label selector") from None
        requirements.append(Requirement(expression.key, operator, expression.values or ()))
    return Selector(tuple(requirements))


def service_labels(labels: dict[str, str] | None, namespace: str, name: str) -> dict[str, str]:
    """A Service's labels with Cilium's synthetic ones laid over them, so that nobody can forge these."""
    return {**(labels or {}), NAME_LABEL: name, NAMESPACE_LABEL: namespace}
