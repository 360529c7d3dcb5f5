"""Is this string what its `format` says?

The formats are those that Kubernetes checks in custom resources (apiextensions' supported formats); a format
that is not listed is ignored, as there. The same functions tell built-in kinds whether a name is a DNS label.
Nothing here knows about objects.
"""

import base64
import binascii
import ipaddress
import re
from collections.abc import Callable
from datetime import date, datetime
from urllib.parse import urlsplit

LABEL_1123 = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
LABEL_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
QUALIFIED = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
_DURATION = re.compile(
    r"[-+]?(\d+(\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h|d|w)((\d+(\.\d*)?)(ns|us|µs|ms|s|m|h|d|w))*"
)
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[-+]\d\d:\d\d)")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
_HOSTNAME = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?)*"
)
_MAC = re.compile(r"[0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){5}|[0-9A-Fa-f]{4}(\.[0-9A-Fa-f]{4}){2}")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")
_COLOR = re.compile(r"#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})")


def _why_not(text: str, pattern: re.Pattern[str], longest: int, rule: str, examples: str) -> str:
    """Why `text` is too long or does not follow the pattern, as Kubernetes words it; empty when it is fine."""
    if len(text) > longest:
        return f"must be no more than {longest} characters"
    if pattern.fullmatch(text):
        return ""
    return f"{rule} (e.g. {examples}, regex used for validation is '{pattern.pattern}')"


def why_not_dns_label(name: str) -> str:
    """Why `name` is no RFC 1123 label; empty when it is one."""
    rule = (
        "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-',"
        " and must start and end with an alphanumeric character"
    )
    return _why_not(name, LABEL_1123, 63, rule, "'my-name',  or '123-abc'")


def why_not_dns_1035_label(name: str) -> str:
    """Why `name` is no RFC 1035 label; empty when it is one."""
    rule = (
        "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic"
        " character, and end with an alphanumeric character"
    )
    return _why_not(name, LABEL_1035, 63, rule, "'my-name',  or 'abc-123'")


def why_not_dns_subdomain(name: str) -> str:
    """Why `name` is no RFC 1123 subdomain; empty when it is one."""
    rule = (
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must"
        " start and end with an alphanumeric character"
    )
    return _why_not(name, SUBDOMAIN, 253, rule, "'example.com'")


def why_not_qualified_name(name: str) -> str:
    """Why `name` is no qualified name, as the keys of labels and annotations are; empty when it is one."""
    prefix, slash, rest = name.rpartition("/")
    if slash:
        why = why_not_dns_subdomain(prefix) if prefix else "prefix part must be non-empty"
        if why:
            return f"prefix part {why}"
    if not rest:
        return "name part must be non-empty"
    rule = (
        "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an"
        " alphanumeric character"
    )
    why = _why_not(rest, QUALIFIED, 63, rule, "'MyName',  or 'my.name',  or '123-abc'")
    return f"name part {why}" if why else ""


def why_not_label_value(value: str) -> str:
    """Why `value` may not be the value of a label; empty when it may."""
    rule = (
        "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must"
        " start and end with an alphanumeric character"
    )
    return _why_not(value, _LABEL_VALUE, 63, rule, "'MyValue',  or 'my_value',  or '12345'")


def is_address(text: str, version: int = 0) -> bool:
    """Whether `text` is an IP address, of the given version unless that is 0."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return not version or address.version == version


def _is_cidr(text: str) -> bool:
    if "/" not in text:
        return False
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return text.rpartition("/")[2].isdecimal()


def _is_date_time(text: str) -> bool:
    if not _RFC3339.fullmatch(text):
        return False
    try:
        datetime.fromisoformat(re.sub(r"\.\d+", "", text.upper()).replace("Z", "+00:00"))
    except ValueError:
        return False
    return True


def _is_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return len(text) == 10


def _is_base64(text: str) -> bool:
    try:
        base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        return False
    return True


def _is_uri(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return bool(parts.scheme) or text.startswith("/")


def _pattern(pattern: re.Pattern[str]) -> Callable[[str], bool]:
    return lambda text: pattern.fullmatch(text) is not None


CHECKS: dict[str, Callable[[str], bool]] = {
    "byte": _is_base64,
    "cidr": _is_cidr,
    "date": _is_date,
    "date-time": _is_date_time,
    "datetime": _is_date_time,
    "duration": _pattern(_DURATION),
    "email": _pattern(_EMAIL),
    "hexcolor": _pattern(_COLOR),
    "hostname": _pattern(_HOSTNAME),
    "ipv4": lambda text: is_address(text, 4),
    "ipv6": lambda text: is_address(text, 6),
    "mac": _pattern(_MAC),
    "uri": _is_uri,
    "uuid": _pattern(_UUID),
    "uuid3": _pattern(_UUID),
    "uuid4": _pattern(_UUID),
    "uuid5": _pattern(_UUID),
}
"""Format to the question whether a string has it."""
