"""What runs in a pod of the lab: a small HTTP server that answers with its pod and its node.

    python -m lbipam.commands.lab.pods POD NODE PORT

This file knows nothing of Services.
"""

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def serve(pod: str, node: str, port: int) -> None:
    """Answer every GET, for ever."""

    class Answer(BaseHTTPRequestHandler):
        """One connection."""

        def do_GET(self) -> None:
            """Say who answers, and whom it sees."""
            body = f"{pod} on {node} sees {self.client_address[0]}".encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the name of the method overridden
            """Keep no log of requests."""

    ThreadingHTTPServer(("", port), Answer).serve_forever()


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2], int(sys.argv[3]))
