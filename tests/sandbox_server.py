"""The sandbox's service in a thread of the test."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from vlrl.config.sandbox import SandboxConfig
from vlrl.sandbox.pool import Sandbox
from vlrl.sandbox.service import Service


@contextmanager
def serving(token: str | None = None, **values: object) -> Iterator[str]:
    """A service in a thread of this process; its address."""
    config = SandboxConfig.model_validate(values)
    with Sandbox(config) as sandbox, socket.create_server(("127.0.0.1", 0)) as listener:
        app = Service(sandbox, config, sandbox.start(), token).app()
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(timeout=20)
            assert not thread.is_alive()
