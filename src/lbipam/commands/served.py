"""In which versions does the API server have the kinds that come in several?

This file asks once; a server that is upgraded is met by processes that start anew.
"""

from lbipam.adapters.kube_client import ApiError, Client
from lbipam.kube import bgp_forms, forms
from lbipam.kube.ipam import IP_POOL, IP_POOL_ALPHA
from lbipam.kube.kinds import Kind


async def served_pool_kind(client: Client) -> Kind:
    """The newest version of pools that the server has; the newest there is if it has none."""
    return (
        IP_POOL
        if await _serves(client, IP_POOL) or not await _serves(client, IP_POOL_ALPHA)
        else IP_POOL_ALPHA
    )


async def served_slice_kind(client: Client) -> Kind:
    """The version of EndpointSlices that the server has."""
    return forms.ENDPOINT_SLICE if await _serves(client, forms.ENDPOINT_SLICE) else forms.ENDPOINT_SLICE_BETA


async def served_bgp_kinds(client: Client) -> bgp_forms.Kinds:
    """The newest version of the BGP kinds that the server has; the newest there is if it has none."""
    newest, older = bgp_forms.V2, bgp_forms.V2_ALPHA
    is_old = not await _serves(client, newest.node_config) and await _serves(client, older.node_config)
    return older if is_old else newest


async def _serves(client: Client, kind: Kind) -> bool:
    try:
        await client.request("GET", kind.path(), params={"limit": "1"})
    except ApiError as problem:
        if problem.code == 404:
            return False
        raise
    return True
