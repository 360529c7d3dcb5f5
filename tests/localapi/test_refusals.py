from lbipam.localapi import refusals
from lbipam.localapi.refusals import Subject

POOL = Subject(
    group="cilium.io", resource="ciliumloadbalancerippools", kind="CiliumLoadBalancerIPPool", name="a"
)


def test_one_problem_is_told_alone_and_several_in_brackets() -> None:
    one, two = refusals.required("spec.a"), refusals.duplicate("spec.b", "x")
    assert (
        refusals.invalid(POOL, [one]).message
        == 'CiliumLoadBalancerIPPool.cilium.io "a" is invalid: spec.a: Required value'
    )
    refusal = refusals.invalid(POOL, [one, two])
    assert refusal.message.endswith('is invalid: [spec.a: Required value, spec.b: Duplicate value: "x"]')
    assert refusal.status == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": refusal.message,
        "reason": "Invalid",
        "details": {
            "name": "a",
            "group": "cilium.io",
            "kind": "CiliumLoadBalancerIPPool",
            "causes": [
                {"reason": "FieldValueRequired", "message": "Required value", "field": "spec.a"},
                {"reason": "FieldValueDuplicate", "message": 'Duplicate value: "x"', "field": "spec.b"},
            ],
        },
        "code": 422,
    }


def test_other_refusals_name_the_resource() -> None:
    refusal = refusals.not_found(POOL)
    assert refusal.message == 'ciliumloadbalancerippools.cilium.io "a" not found'
    assert refusal.details == {"name": "a", "group": "cilium.io", "kind": "ciliumloadbalancerippools"}


def test_details_are_told_even_when_there_are_none_of_them() -> None:
    assert refusals.method_not_supported().status["details"] == {}
    assert "details" not in refusals.bad_request("why").status
