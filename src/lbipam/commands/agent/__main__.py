"""`python -m lbipam.commands.agent`: the process in which an agent lives.

`lbipam agent` turns into it once it has understood its command line. On each node of a cluster that saves the
memory which the libraries for command lines and tables take. This file is not for people: `lbipam agent` is.
"""

import os
import sys

# structlog would take it along, to draw tracebacks on terminals, and it weighs more than all of lbipam.
sys.modules["rich"] = None  # type: ignore[assignment]

from asyncio import sslproto  # noqa: E402

import msgspec  # noqa: E402

from lbipam.adapters import telemetry  # noqa: E402
from lbipam.adapters.kube_client import ApiError, UnreachableError  # noqa: E402
from lbipam.adapters.kube_config import ConfigError  # noqa: E402
from lbipam.commands.agent.run import run_agent  # noqa: E402
from lbipam.commands.agent.settings import START, Start  # noqa: E402
from lbipam.commands.process import until_told  # noqa: E402

_READ_LENGTH = 32 * 1024


def main() -> int:
    """Run an agent until it is told to stop; the exit code of the process."""
    # What asyncio sets aside for each TLS connection to read into: a quarter of a megabyte, for watches that are
    # mostly silent.
    sslproto.SSLProtocol.max_size = _READ_LENGTH
    start = msgspec.json.decode(os.environ.pop(START), type=Start)
    telemetry.configure_logging(start.log_level)
    code = 0
    try:
        until_told(lambda: run_agent(start.kubeconfig, start.context, start.settings))
    except* ConfigError as problems:
        code = _told(problems.exceptions[0], 2)
    except* (ApiError, UnreachableError, OSError) as problems:
        code = _told(problems.exceptions[0], 1)
    return code


def _told(problem: BaseException, code: int) -> int:
    sys.stderr.write(f"lbipam: {problem}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
