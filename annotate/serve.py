"""The web server: uvicorn, patient when it is told to stop.

    python -m annotate.serve --port 8000
    python -m annotate.serve --fd 3          a listening socket that systemd, or whoever started us, holds

Servers that share one socket make restarts that nobody notices: start the next one, stop the last one, or with
systemd just restart it, since connections wait in the socket meanwhile.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys

import uvicorn
from django.core.exceptions import ImproperlyConfigured
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

LINGER_SECONDS = 1.0
"""How long open connections are listened to after the order to stop."""


class PatientProtocol(HttpToolsProtocol):
    """Told to stop, still answers what arrives within a moment on connections that are open.

    uvicorn closes idle connections at once, and with them those whose first request is on its way: a browser or
    proxy sees a reset. Here such a request is answered, with a word to close the connection after it.
    """

    stopping = False

    def shutdown(self) -> None:
        """Finish what is being answered; close the rest in a moment.

        An answer that has begun said that the connection stays: its reader may send the next request on it.
        """
        self.stopping = True
        if self._idle() or self.cycle.response_started:
            self.loop.call_later(LINGER_SECONDS, self._close_when_idle)
        else:
            self.cycle.keep_alive = False

    def on_headers_complete(self) -> None:
        """Begin to answer a request; the last one of this connection where we are stopping."""
        super().on_headers_complete()
        if self.stopping and self.cycle is not None:
            self.cycle.keep_alive = False

    def _idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _close_when_idle(self) -> None:
        if self._idle():
            self.transport.close()
        else:
            self.loop.call_later(LINGER_SECONDS, self._close_when_idle)


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m annotate.serve")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, default=8000, help="port to listen on (8000)")
    parser.add_argument("--fd", type=int, help="number of a listening socket to use instead")
    parser.add_argument(
        "--graceful-seconds", type=int, default=30, help="how long requests may still take once told to stop (30)"
    )
    options = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "annotate.settings")
    config = uvicorn.Config(
        "annotate.asgi:application",
        host=options.host,
        port=options.port,
        http=PatientProtocol,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=options.graceful_seconds,
    )
    given = [] if options.fd is None else [socket.socket(fileno=options.fd)]
    try:
        uvicorn.Server(config).run(sockets=given or None)
    except ImproperlyConfigured as problem:
        sys.exit(f"error: {problem}")


if __name__ == "__main__":
    main()
