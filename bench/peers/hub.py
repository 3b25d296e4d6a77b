"""A model hub for a peer that takes a model from a hub's cache and no folder: it says that what is in the cache is up to date.

That the peer finds no hub, and tries again, would count as its start. A process of its own, because such a peer waits with Python's lock held.

usage: hub.py FOLDER   Prints its port, and ends with its standard input.
"""

import http.server
import sys
import threading
from pathlib import Path

COMMIT = "0" * 40


class Hub(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        file = Path(sys.argv[1]) / self.path.rsplit("/", 1)[1]
        self.send_response(200 if file.is_file() else 404)
        self.send_header("Content-Length", str(file.stat().st_size if file.is_file() else 0))
        self.send_header("ETag", f'"{file.name}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()

    def log_message(self, *_):
        pass


def cache(folder: Path, model: Path, name: str, revision: str) -> None:
    """What a client that has downloaded the model from this hub has in its cache."""
    repository = folder / "hub" / f"models--{name.replace('/', '--')}"
    for part in ("refs", "blobs", f"snapshots/{COMMIT}"):
        (repository / part).mkdir(parents=True)
    (repository / "refs" / revision).write_text(COMMIT)
    for file in model.iterdir():
        for part in ("blobs", f"snapshots/{COMMIT}"):
            (repository / part / file.name).symlink_to(file)


if __name__ == "__main__":
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.read()
