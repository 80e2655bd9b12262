"""An OpenAI-compatible endpoint that says what a test has it say."""

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, str]  # an HTTP status, and the reply's text or the error's
Script = Callable[[dict[str, Any]], Answer | None]


class ScriptedJudge(ThreadingHTTPServer):
    """`script` makes an answer of each request's body; None is no answer at all. `heard` keeps the bodies."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, script: Script) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script, self.heard, self.at_once, self.most = script, [], 0, 0  # type: ignore[var-annotated]
        self.counting = threading.Lock()
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def __exit__(self, *_: Any) -> None:
        self.shutdown()
        self.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: ScriptedJudge

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.counting:
            self.server.heard.append(body)
            self.server.at_once += 1
            self.server.most = max(self.server.most, self.server.at_once)
        answer = self.server.script(body)
        with self.server.counting:
            self.server.at_once -= 1
        if answer is None:
            time.sleep(3)
            return
        status, text = answer
        reason = "length" if text.endswith("CUT") else "stop"
        text = text.removesuffix("CUT")
        reply = {"choices": [{"message": {"content": text}, "finish_reason": reason}]}
        self.send_response(status)
        self.end_headers()
        self.wfile.write((json.dumps(reply) if status == 200 else text).encode())

    def log_message(self, *_: object) -> None:
        return
