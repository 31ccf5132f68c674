"""Servers on the loopback address that serve folders, and fail in the ways that servers and networks do."""

import re
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

_CHUNK = 1 << 16


class Faults:
    """What the server does wrong; a test sets it at any time."""

    def __init__(self) -> None:
        self.ranges = True  # whether it knows any
        self.drop_after: int | None = None  # bytes of one answer
        self.drops = 10**9  # answers so cut, from now on
        self.errors: list[int] = []  # the statuses of the next answers
        self.flipped: str | None = None  # the file that has a wrong byte
        self.pause = 0.0  # seconds after each chunk
        self.truncated: str | None = None  # the file that has half its bytes


class FolderServer:
    """An HTTP server of a folder's files.

    Attributes
    ----------
    requests : list of (str, int)
        The file's name and the first byte of every request that was made.
    served : dict of str to int
        The bytes that were sent of each file.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.faults = Faults()
        self.requests: list[tuple[str, int]] = []
        self.served: dict[str, int] = {}
        self.queries: set[str] = set()
        self.headers: Any = {}  # of the last request
        self.started = threading.Event()  # the first bytes of an array were sent
        self.before: Callable[[str], Any] = lambda name: None
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def bytes_served(self) -> int:
        return sum(self.served.values())

    def forget(self) -> None:
        self.requests.clear()
        self.served.clear()

    def _handler(server) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                url = urlsplit(self.path)  # a path, or a whole URL if this server is used as a proxy
                file = server.folder / unquote(url.path).lstrip("/")
                start, stop = self._range()
                with server._lock:
                    server.requests.append((file.name, start))
                    server.queries.add(url.query)
                    server.headers = self.headers
                    status = server.faults.errors.pop(0) if server.faults.errors else 0
                server.before(file.name)
                if status or not file.is_file():
                    self.send_error(status or (404 if not file.is_dir() else 200))
                    return
                data = file.read_bytes()
                faults = server.faults
                if faults.flipped == file.name:
                    data = data[:-1] + bytes([data[-1] ^ 1])
                if faults.truncated == file.name:
                    data = data[: len(data) // 2]
                if start >= len(data) and start:
                    self.send_error(416)
                    return
                stop = min(stop, len(data))
                self.send_response(206 if self.headers["Range"] and faults.ranges else 200)
                self.send_header("Content-Length", str(stop - start))
                self.end_headers()
                self._send(file.name, memoryview(data)[start:stop])

            def _range(self) -> tuple[int, int]:
                match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers["Range"] or "")
                if not match or not server.faults.ranges:
                    return 0, 1 << 62
                return int(match[1]), int(match[2]) + 1 if match[2] else 1 << 62

            def _send(self, name: str, data: memoryview) -> None:
                faults = server.faults
                for first in range(0, len(data), _CHUNK):
                    chunk = data[first : first + _CHUNK]
                    if faults.drop_after is not None and first + len(chunk) > faults.drop_after and faults.drops > 0:
                        faults.drops -= 1
                        self.close_connection = True
                        return
                    try:
                        self.wfile.write(chunk)
                    except ConnectionError:
                        self.close_connection = True
                        return
                    with server._lock:
                        server.served[name] = server.served.get(name, 0) + len(chunk)
                    if name.endswith(".npy"):
                        server.started.set()
                    time.sleep(faults.pause)

            def log_message(self, *arguments: Any) -> None:
                """Print nothing."""

        return Handler
