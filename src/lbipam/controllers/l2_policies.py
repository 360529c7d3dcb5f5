"""L2 announcement policies → conditions that say what is wrong with them.

The leader writes them, once; in Cilium every agent writes the same. This file announces nothing.
"""

from lbipam.controllers.cache import Cache
from lbipam.controllers.ports import Apply
from lbipam.kube import conditions, l2
from lbipam.kube.kinds import Key


def policy_status(cache: Cache, key: Key, now: float) -> Apply | None:
    """The write that makes a policy's conditions right; None if they are, or the policy is gone."""
    written: l2.AnnouncementPolicy | None = cache.objects(l2.ANNOUNCEMENT_POLICY).get(key)
    if written is None:
        return None
    observed, generation = written.status.conditions, written.metadata.generation
    stands = l2.policy_stands(observed, l2.read_policy(written).problems)
    if conditions.same(observed, stands, l2.POLICY_CONDITIONS, generation):
        return None
    rendered = conditions.render(observed, stands, generation, now)
    return Apply(
        kind=l2.ANNOUNCEMENT_POLICY,
        key=key,
        body=l2.policy_status_body(written, rendered),
        subresource="status",
    )
