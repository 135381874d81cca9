"""A witness for a machine without the extra of our own: the least HTTP server that conforms.

    register_server.py HOST PORT

One record for each path, in memory, with a strong ETag as its version (RFC 9110, section 13.1).
"""

from __future__ import annotations

import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_turn = threading.Lock()
_records: dict[str, tuple[str, bytes]] = {}
_versions = iter(range(1, 2**62))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # the head and the body of an answer in one piece

    def do_GET(self) -> None:
        found = _records.get(self.path)
        if found is None:
            self._answer(404)
        else:
            self._answer(200, *found)

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        wanted = self.headers["If-Match"]
        with _turn:
            found = _records.get(self.path)
            if (found[0] if found else None) != wanted:
                self._answer(412)
                return
            tag = f'"{next(_versions)}"'
            _records[self.path] = tag, body
        self._answer(204 if found else 201, tag)

    def _answer(self, status: int, tag: str = "", body: bytes = b"") -> None:
        self.send_response(status)
        if tag:
            self.send_header("ETag", tag)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Handler)
    print("answers on", *sys.argv[1:], flush=True)
    server.serve_forever()
