"""Facts about the host."""

from ipaddress import ip_address

from lbipam.controllers.host import NO_HOST, DefaultRoute, Host, Interface


def test_the_default_route_with_the_lowest_metric_is_taken() -> None:
    host = Host(
        default_routes=(
            DefaultRoute(gateway=ip_address("10.0.0.1"), interface="eth0", metric=100),
            DefaultRoute(gateway=ip_address("10.0.1.1"), interface="eth1", metric=50),
            DefaultRoute(gateway=ip_address("fe80::1"), interface="eth0"),
        )
    )
    gateway = host.gateway(4)
    assert gateway is not None
    assert gateway.interface == "eth1"
    assert NO_HOST.gateway(6) is None


def test_an_interface_is_found_by_its_name() -> None:
    eth0 = Interface(name="eth0", up=True)
    assert Host(interfaces=(eth0,)).interface("eth0") is eth0
    assert Host(interfaces=(eth0,)).interface("eth1") is None
