"""Which kinds must a cluster know before lbipam can work there?

The CustomResourceDefinitions in the order in which they are printed. This file describes none of them.
"""

from typing import Any

from lbipam.kube.crds import ipam


def all_crds() -> tuple[dict[str, Any], ...]:
    """Every CustomResourceDefinition, as plain JSON values; each call makes new ones."""
    return (ipam.pool(), ipam.reservation())
