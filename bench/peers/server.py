"""A web server of pictures, all from memory, over HTTP/1.1 with connections that are kept: never what a run waits for.

usage: server.py FOLDER...
A folder's files are at /FOLDER_NAME/FILE_NAME; what follows a `?` is not looked at. Prints its port, and ends with its standard input.
"""

import asyncio
import mimetypes
import sys
from pathlib import Path

# A request of the clients here has a few hundred bytes.
HEAD_BYTES_MAX = 64 * 1024


def answers(folders: list) -> dict:
    """The whole answer to each path: (head, body)."""
    found = {}
    for folder in map(Path, folders):
        for file in sorted(path for path in folder.iterdir() if path.is_file()):
            kind = mimetypes.guess_type(file.name)[0] or {".webp": "image/webp"}.get(file.suffix, "application/octet-stream")
            body = file.read_bytes()
            head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: keep-alive\r\n\r\n"
            found[f"/{folder.name}/{file.name}"] = (head.encode(), body)
    return found


NOT_FOUND = (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n", b"")


class Connection(asyncio.Protocol):
    def __init__(self, files: dict):
        self.files, self.received, self.transport = files, b"", None

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data: bytes):
        self.received += data
        while b"\r\n\r\n" in self.received:
            head, self.received = self.received.split(b"\r\n\r\n", 1)
            method, target, *_ = head.decode("latin-1").split(" ", 2)
            answer, body = self.files.get(target.split("?", 1)[0], NOT_FOUND)
            self.transport.writelines([answer] if method == "HEAD" else [answer, body])
        if len(self.received) > HEAD_BYTES_MAX:
            self.transport.close()


async def serve(files: dict) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(files), "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    # The driver holds the other end: when it ends, however it ends, so does this.
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    try:
        asyncio.run(serve(answers(sys.argv[1:])))
    except KeyboardInterrupt:
        pass
