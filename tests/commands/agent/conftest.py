"""What do tests of an agent's parts share? The two API servers that they must get along with."""

from tests.adapters.conftest import connection

__all__ = ("connection",)
