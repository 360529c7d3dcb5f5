"""What nft prints, read back."""
# ruff: noqa: E101 - nft indents by tabs and continues by spaces

from ipaddress import ip_address

from lbipam.core.datapath import report
from lbipam.core.datapath.report import Learned
from lbipam.core.datapath.ruleset import Element

LISTING = """\
table inet lbipam {
	map services4 {
		type ipv4_addr . inet_proto . inet_service : verdict
		elements = { 198.19.0.1 . 6 . 80 : goto tcp-3,
			     198.19.0.2 . 17 . 80 : drop }
	}

	map clients-tcp-198.19.0.1-80-8080-60s {
		type ipv4_addr : ipv4_addr
		size 65536
		flags dynamic,timeout
		timeout 1m
		elements = { 192.0.2.9 expires 59s996ms : 10.1.0.2 }
	}

	set pods4 {
		type ipv4_addr
		flags interval
		elements = { 10.1.0.0/24 }
	}

	set addresses6 {
		type ipv6_addr
	}

	chain refuse {
		meta l4proto { 1, 58 } drop
	}

	chain prerouting {
		type nat hook prerouting priority -100; policy accept;
		jump services
	}
}
"""


def test_a_listing_tells_chains_sets_and_the_elements_that_were_put_there() -> None:
    assert report.read(LISTING) == report.Report(
        chains=frozenset({"refuse", "prerouting"}),
        sets={
            "services4": "map",
            "clients-tcp-198.19.0.1-80-8080-60s": "map",
            "pods4": "set",
            "addresses6": "set",
        },
        elements=frozenset(
            {
                Element("services4", "198.19.0.1 . 6 . 80", "goto tcp-3"),
                Element("services4", "198.19.0.2 . 17 . 80", "drop"),
                Element("pods4", "10.1.0.0/24"),
            }
        ),
    )


def test_learned_clients_are_told_with_their_endpoints() -> None:
    learning = LISTING[LISTING.index("\tmap clients") : LISTING.index("\tset pods4")]
    (learned,) = report.learned(learning)
    assert learned == Learned(ip_address("192.0.2.9"), ip_address("10.1.0.2"))
