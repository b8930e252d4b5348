"""A moto S3 server in a process that is nobody's child: prints its port, and ends when its standard input does.

Tests that look for children of theirs must not find it.
"""

from __future__ import annotations

import logging
import os
import sys

from moto.server import ThreadedMotoServer


def main() -> None:
    if os.fork():
        os._exit(0)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    sys.stdout.write(f"{server.get_host_and_port()[1]}\n")
    sys.stdout.flush()
    sys.stdin.read()
    server.stop()


if __name__ == "__main__":
    main()
