"""`vlrl sandbox serve`: the service on a socket, until it is told to end."""

import ipaddress
import os
import signal
import socket
from pathlib import Path

from vlrl.config.sandbox import SandboxConfig
from vlrl.errors import UserError

TOKEN_VARIABLE = "VLRL_SANDBOX_TOKEN"
_CONNECTIONS = 512  # open at a time; each may be bringing a body
_IDLE_S = 30  # longer than clients keep a connection, so that none sends into one that is being closed


def read_token(path: Path | None) -> str | None:
    """The token in `path`, else that of the environment, else None.

    Raises:
        UserError: a file that cannot be read, or a token that is empty or cannot stand in a header.
    """
    if path is None:
        if TOKEN_VARIABLE not in os.environ:
            return None
        origin, text = TOKEN_VARIABLE, os.environ[TOKEN_VARIABLE]
    else:
        try:
            origin, text = f"--token-file {path}", path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"--token-file {path}: cannot be read ({error})") from None
    token = text.strip()
    if not token or not (token.isascii() and token.isprintable()):
        raise UserError(f"{origin}: a token is one line of printable ASCII; this one is empty or has others")
    return token


def serve(config: SandboxConfig, host: str, port: int, token: str | None) -> None:
    """Serve until SIGTERM or SIGINT; requests under way then have `config.drain_s` seconds.

    Raises:
        UserError: an address that cannot be bound, or one that others reach without a token.
        EngineError: the sandbox does not start, or a required layer does not hold.
    """
    if token is None and not _is_loopback(host):
        raise UserError(
            f"--host {host} can be reached from other machines: name a --token-file or set {TOKEN_VARIABLE}"
        )
    with _bind(host, port) as listener:
        _serve_on(listener, config, token)


def _serve_on(listener: socket.socket, config: SandboxConfig, token: str | None) -> None:
    import uvicorn

    from vlrl.sandbox.pool import Sandbox
    from vlrl.sandbox.service import Service

    with Sandbox(config) as sandbox:
        layers = sandbox.start()
        app = Service(sandbox, config, layers, token).app()
        server = uvicorn.Server(
            uvicorn.Config(
                app,
                log_level="warning",
                access_log=False,
                server_header=False,
                limit_concurrency=_CONNECTIONS,
                timeout_keep_alive=_IDLE_S,
                timeout_graceful_shutdown=max(1, round(config.drain_s)),
            )
        )

        def end(number: int, frame: object) -> None:
            server.should_exit = True

        # uvicorn puts these back when it is through and raises what it caught again, which must not kill.
        signal.signal(signal.SIGTERM, end)
        signal.signal(signal.SIGINT, end)
        host, port = listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        workers = f"{config.workers} worker{'s' if config.workers > 1 else ''}"
        print(f"serving on http://{shown}:{port}, {workers}, layers: {', '.join(layers)}", flush=True)
        server.run(sockets=[listener])
    print("ended", flush=True)


def _bind(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=_CONNECTIONS)
    except (OSError, OverflowError) as error:
        raise UserError(f"--host {host} --port {port}: cannot be bound ({error}); choose another") from None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
