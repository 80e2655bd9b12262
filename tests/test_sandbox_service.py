"""The sandbox over HTTP: real programs, a real server, and whatever can go wrong between the two."""

import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import psutil
import pytest

from tests.sandbox_server import serving
from vlrl.cli import main
from vlrl.config.sandbox import SandboxConfig
from vlrl.errors import UserError, WaitTimeout
from vlrl.sandbox.client import RemoteSandbox
from vlrl.sandbox.pool import Sandbox
from vlrl.sandbox.programs import Execution, Limits, Program, Report, Test

Test.__test__ = False  # type: ignore[attr-defined]  # it is none of pytest's
LOW = Limits(cpu_s=2.0, wall_s=5.0)
DOUBLE = "print(int(input()) * 2)"
SLEEP = "import time\ntime.sleep(float(input()))\nprint('slept')"


def doubling(number: int, right: bool = True) -> Program:
    return Program(code=DOUBLE, tests=[Test(input=f"{number}\n", output=f"{number * 2 + (not right)}\n")])


def sleeping(*seconds: float) -> Program:
    return Program(code=SLEEP, tests=[Test(input=f"{s}\n", output="slept\n") for s in seconds])


def lower(program: Program) -> Program:
    return replace(program, limits=LOW)


def told(report: Report) -> list[tuple[str, str, str, int]]:
    """Of each test, what does not depend on the clock."""
    ran = [(test.outcome, test.execution or Execution(status="ended")) for test in report.tests]
    return [(outcome, one.output, one.error, one.exit_code) for outcome, one in ran]


def outcomes(report: Report) -> list[str]:
    return [test.outcome for test in report.tests]


@contextmanager
def command(*arguments: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`vlrl sandbox serve` on a free port, and its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "vlrl.cli", "sandbox", "serve", "--port", "0", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )
    try:
        assert process.stdout is not None and process.stderr is not None
        line = process.stdout.readline()
        assert line.startswith("serving on "), process.stderr.read()
        yield process, line.split()[2].rstrip(",")
    finally:
        process.kill()
        process.communicate(timeout=20)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(workers=2, queue=4, body_mb=1, held_mb=2, cpu_s=2.0, wall_s=5.0) as address:
        yield address


@pytest.fixture
def remote(url: str) -> Iterator[RemoteSandbox]:
    with RemoteSandbox(url, timeout_s=60) as client:
        yield client


HTTP = httpx.Client(verify=False, timeout=30, limits=httpx.Limits(max_keepalive_connections=0))


def post(url: str, path: str = "/judge", **body: object) -> httpx.Response:
    return HTTP.post(url + path, json=body)


def error(response: httpx.Response) -> str:
    said = str(response.json()["error"])
    assert "\n" not in said
    return said


def wait_for(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.01)


def held(client: RemoteSandbox) -> int:
    queue = client.health()["queue"]
    return int(queue["running"] + queue["waiting"])


def test_remote_reports_are_those_of_the_pool(remote: RemoteSandbox) -> None:
    call = Program(
        code="def add(a, b):\n    return a + b",
        fn_name="add",
        tests=[Test(input="1\n2", output="3", testtype="functional")],
    )
    spin = Program(code="while True: pass", tests=[Test(input="")] * 2, limits=Limits(cpu_s=0.2, wall_s=5.0))
    broken = Program(code="x = '\ud800'\n1 / 0", tests=[Test(input="")])
    programs = [doubling(3), doubling(3, right=False), call, Program(code="")]
    programs = [*map(lower, programs), spin, lower(broken)]
    with Sandbox(SandboxConfig(workers=1)) as local:
        expected = local.judge(programs, stop_at_failure=True)
    reports = remote.judge(programs, stop_at_failure=True)
    assert list(map(told, reports)) == list(map(told, expected))
    assert outcomes(reports[4]) == ["timeout", "skipped"]
    assert "ZeroDivisionError" in told(reports[5])[0][2]
    assert remote.limits == LOW
    assert remote.health()["counters"]["tests"]["passed"] >= 2


def test_full_server_refuses_and_clients_come_again(url: str, remote: RemoteSandbox) -> None:
    """Four places, held by slow programs: a fifth is refused at once; a client that comes again gets in."""
    slow = [lower(sleeping(0.8))] * 4
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(remote.judge, slow)
        wait_for(lambda: held(remote) == 4)
        refused = post(url, code=DOUBLE, tests=[{"input": "1"}])
        assert refused.status_code == 429 and int(refused.headers["retry-after"]) >= 1
        assert "come again" in error(refused)
        waited = remote.judge([lower(doubling(4)), lower(doubling(5))])
        assert all(report.passed for report in (*waited, *first.result()))
    assert remote.health()["counters"]["programs"]["refused"] >= 2
    too_many = post(url, "/judge_many", programs=[{"code": "", "tests": []}] * 5)
    assert too_many.status_code == 413 and "more than the 4" in error(too_many)


def test_many_clients_lose_nothing(url: str) -> None:
    """Eight clients on four places: every verdict is that of its own program."""

    async def client(index: int) -> None:
        with RemoteSandbox(url, timeout_s=60) as sandbox:
            programs = [lower(doubling(100 * index + i, right=i % 3 != 0)) for i in range(12)]
            reports = await asyncio.gather(*map(sandbox.judge_async, programs))
            assert [report.passed for report in reports] == [i % 3 != 0 for i in range(12)]
            assert not any(report.errors for report in reports)

    async def all_of_them() -> None:
        await asyncio.gather(*map(client, range(8)))

    asyncio.run(all_of_them())


def test_killed_workers_never_make_a_verdict_wrong() -> None:
    stop = threading.Event()
    kills = 0

    def kill() -> None:
        nonlocal kills
        chance = random.Random(0)
        while not stop.wait(0.15):
            with suppress(psutil.NoSuchProcess, IndexError):
                launcher = chance.choice(psutil.Process().children())
                zygotes = launcher.children()  # whose own children are programs
                chance.choice([launcher, *zygotes]).kill()
                kills += 1

    with serving(workers=2) as address, RemoteSandbox(address, timeout_s=60) as client:
        killer = threading.Thread(target=kill)
        killer.start()
        try:
            programs = [doubling(i, right=i % 2 == 0) for i in range(60)] + [sleeping(0.05, 0.05)] * 20
            reports = client.judge(programs)
        finally:
            stop.set()
            killer.join()
    assert kills > 3
    for i, report in enumerate(reports):
        expected = "wrong" if i < 60 and i % 2 else "passed"
        assert set(outcomes(report)) <= {expected, "infra_error"}, (i, outcomes(report))
    assert sum(report.errors == 0 for report in reports) > 40


def test_limits_may_be_lowered_only(url: str, remote: RemoteSandbox) -> None:
    for name, value in (("cpu_s", 2.5), ("wall_s", 6.0), ("memory_mb", 1025), ("output_mb", 9)):
        refused = post(url, code="", tests=[], limits={name: value})
        assert refused.status_code == 422
        assert error(refused).startswith(f"limits.{name}: {value:g} is above the server's ")
    with pytest.raises(UserError, match=r"limits.cpu_s: 6 is above the server's 2"):
        remote.judge([doubling(1)])
    report = post(url, code=SLEEP, tests=[{"input": "3"}], limits={"wall_s": 0.2}).json()
    assert report["tests"][0]["outcome"] == "wall_timeout"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("{", "invalid JSON"),
        ("[]", "should be an object"),
        ('{"tests": []}', "missing key 'code'"),
        ('{"code": "", "test": []}', "unknown key 'test'"),
        ('{"code": "", "tests": [{"input": 3}]}', "key 'tests.0.input': input should be a valid string"),
        ('{"code": "", "limits": {"cpu_s": 0}}', "key 'limits.cpu_s': input should be greater than 0"),
        ('{"code": "", "limits": {"cpu_s": NaN}}', "key 'limits.cpu_s': input should be a finite number"),
        (
            '{"code": "", "tests": [{"input": "1", "testtype": "functional"}]}',
            "tests.0: a functional test needs",
        ),
        (
            '{"code": "", "fn_name": "f", "tests": [{"input": "x", "testtype": "functional"}]}',
            "tests.0: a functional test's input is JSON",
        ),
    ],
)
def test_bad_input_is_one_sentence(url: str, body: str, expected: str) -> None:
    headers = {"Content-Type": "application/json"}
    refused = HTTP.post(f"{url}/judge", content=body, headers=headers)
    assert refused.status_code == 422 and expected in error(refused)


def test_only_json_is_read(url: str) -> None:
    assert HTTP.post(f"{url}/judge", content="{}", headers={"Content-Type": "text/plain"}).status_code == 415


@pytest.mark.parametrize("chunked", [False, True])
def test_oversize_body(url: str, remote: RemoteSandbox, chunked: bool) -> None:
    text = json.dumps({"code": "#" * (1 << 20), "tests": []}).encode()
    content = iter([text[:500_000], text[500_000:]]) if chunked else text
    refused = HTTP.post(f"{url}/judge", content=content, headers={"Content-Type": "application/json"})
    assert refused.status_code == 413 and "1 MiB" in error(refused)
    with pytest.raises(UserError, match="larger than 1 MiB"):
        remote.judge([Program(code="#" * (1 << 20), limits=Limits(cpu_s=1.0, wall_s=1.0))])
    assert held(remote) == 0


def test_bytes_held_are_bounded(url: str, remote: RemoteSandbox) -> None:
    """Two bodies of nearly 1 MiB that do not end fill the server; their bytes come free with them."""
    host, port = url.removeprefix("http://").split(":")
    lines = [
        "POST /judge HTTP/1.1",
        f"Host: {host}",
        "Content-Type: application/json",
        "Content-Length: 1000000",
    ]
    with ExitStack() as stack:
        for _ in range(2):
            connection = stack.enter_context(socket.create_connection((host, int(port))))
            connection.sendall("\r\n".join([*lines, "", ""]).encode() + b" " * 999_999)
        code = "#" * 200_000
        wait_for(lambda: remote.health()["queue"]["bytes"] == 2 * 999_999)
        assert post(url, code=code, tests=[]).status_code == 429
    wait_for(lambda: post(url, code=code, tests=[]).status_code == 200)
    assert held(remote) == 0


def test_client_that_leaves_frees_its_place(url: str, remote: RemoteSandbox) -> None:
    tests = [{"input": "0.4"}] * 12
    body = {"programs": [{"code": SLEEP, "tests": tests}] * 4}
    with pytest.raises(httpx.ReadTimeout):
        HTTP.post(f"{url}/judge_many", json=body, timeout=0.3)
    began = time.monotonic()
    wait_for(lambda: held(remote) == 0)
    assert time.monotonic() - began < 3, "it ran the tests that nobody waits for"


def test_cancelled_coroutine_frees_its_place(remote: RemoteSandbox) -> None:
    program = lower(sleeping(*[0.3] * 12))

    async def leave() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(remote.judge_async(program), 0.3)

    asyncio.run(leave())
    wait_for(lambda: held(remote) == 0, 3)


def test_request_deadline_leaves_what_is_not_through_unknown() -> None:
    with serving(workers=1, request_s=1.0) as address, RemoteSandbox(address, timeout_s=60) as client:
        reports = client.judge([doubling(2), sleeping(0.2, *[1.0] * 5)])
        assert outcomes(reports[0]) == ["passed"]
        assert outcomes(reports[1]) == ["infra_error"] * 6 and reports[1].errors == 6
        assert "not through within the 1 s" in getattr(reports[1].tests[0].execution, "error", "")
        wait_for(lambda: held(client) == 0)


def test_infrastructure_failure_is_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> Report:
        raise OSError(24, "Too many open files")

    with serving(workers=1) as address, RemoteSandbox(address, timeout_s=5) as client:
        monkeypatch.setattr(Sandbox, "_judge", fail)
        report = client.judge([doubling(2)])[0]
        assert outcomes(report) == ["infra_error"] and not report.passed
        assert client.health()["counters"]["programs"]["failures"] == 1


def test_token() -> None:
    with serving(token="secret", workers=1) as address:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "secret"}):
            assert HTTP.get(f"{address}/health", headers=headers).status_code == 401
            assert HTTP.post(f"{address}/judge", json={"code": ""}, headers=headers).status_code == 401
        assert "GET /nowhere: Not Found" in HTTP.get(f"{address}/nowhere").json()["error"]
        with RemoteSandbox(address, "secret") as client:
            assert client.judge([doubling(1)])[0].passed
        with RemoteSandbox(address) as client, pytest.raises(UserError, match="asks for its token"):
            client.judge([doubling(1)])


def test_server_that_is_down_is_waited_for_and_then_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with RemoteSandbox(f"http://127.0.0.1:{port}", timeout_s=0.25) as client:
        report = client.judge([doubling(1), doubling(2)])
        assert [outcomes(one) for one in report] == [["infra_error"]] * 2
        assert asyncio.run(client.judge_async(doubling(3))).errors == 1
        with pytest.raises(WaitTimeout, match="sandbox at"):
            _ = client.limits
    with pytest.raises(UserError, match="http://HOST:PORT"):
        RemoteSandbox("sandbox:8330")


class _Faulty(BaseHTTPRequestHandler):
    """Hangs up, is full, fails behind a proxy; then answers."""

    seen: list[float] = []

    def do_POST(self) -> None:
        self.seen.append(time.monotonic())
        self.rfile.read(int(self.headers["Content-Length"]))
        answer = {"passed": True, "tests": [{"outcome": "passed", "execution": None}]}
        if len(self.seen) == 1:
            self.close_connection = True
        elif len(self.seen) == 2:
            self._answer(429, {"error": "full"}, {"Retry-After": "1"})
        elif len(self.seen) == 3:
            self._answer(502, {})
        else:
            self._answer(200, answer)

    def _answer(self, status: int, content: object, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def test_client_comes_again() -> None:
    with HTTPServer(("127.0.0.1", 0), _Faulty) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with RemoteSandbox(f"http://127.0.0.1:{server.server_port}", timeout_s=20) as client:
            assert client.judge([doubling(1)])[0].passed
        server.shutdown()
    seen = _Faulty.seen
    assert len(seen) == 4 and seen[2] - seen[1] >= 1.0, "it came before Retry-After"


def test_command_serves_and_ends_with_what_runs(tmp_path: Path) -> None:
    (tmp_path / "server.yaml").write_text("sandbox: {workers: 1, drain_s: 10}\n")
    arguments = ("--config", str(tmp_path / "server.yaml"), "sandbox.cpu_s=1", "--host", "0.0.0.0")
    with command(*arguments, VLRL_SANDBOX_TOKEN="abc") as (process, bound):
        address = bound.replace("0.0.0.0", "127.0.0.1")
        program = Program(code=SLEEP, tests=sleeping(0.7).tests, limits=Limits(cpu_s=1.0))
        with RemoteSandbox(address, "abc", timeout_s=30) as client, ThreadPoolExecutor(1) as threads:
            health = client.health()
            assert health["workers"] == 1 and "seccomp" in health["layers"] and health["uptime_s"] >= 0
            under_way = threads.submit(client.judge, [program])
            wait_for(lambda: held(client) == 1)
            process.send_signal(signal.SIGTERM)
            assert under_way.result(timeout=20)[0].passed
        assert process.wait(timeout=20) == 0
        assert process.stderr is not None and process.stderr.read() == ""


def test_command_ends_by_its_deadline() -> None:
    """What runs and what waits is told to come again; no process stays."""
    with command("sandbox.drain_s=1", "sandbox.workers=1") as (process, address):
        with ThreadPoolExecutor(4) as threads:
            test = {"input": "25"}
            waiting = [threads.submit(post, address, code=SLEEP, tests=[test]) for _ in range(4)]
            with RemoteSandbox(address) as client:
                wait_for(lambda: held(client) == 4)
            zygotes = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(signal.SIGINT)
            assert {answer.result(timeout=20).status_code for answer in waiting} == {503}
            assert process.wait(timeout=8) == 0
        assert process.stderr is not None
        said = process.stderr.read().splitlines()
        assert len(said) == 1 and "Cancel 4 running task(s)" in said[0]
        assert zygotes
        wait_for(lambda: not any(z.is_running() and z.status() != psutil.STATUS_ZOMBIE for z in zygotes))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--host", "0.0.0.0"], "can be reached from other machines: name a --token-file"),
        (["--token-file", "nowhere"], "--token-file nowhere: cannot be read"),
        (["--token-file", os.devnull], "a token is one line of printable ASCII"),
        (["--config", "nowhere.yaml"], "nowhere.yaml: cannot be read"),
        (["sandbox.worker=3"], "unknown key 'sandbox.worker'; did you mean 'workers'?"),
        (["workers=3"], "unknown key 'workers'"),
        (["sandbox.body_mb=600"], "held_mb (512) must be at least body_mb (600)"),
        (["--port", "99999"], "cannot be bound"),
    ],
)
def test_mistakes_on_the_command_line(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VLRL_SANDBOX_TOKEN", raising=False)
    assert main(["sandbox", "serve", *arguments]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and expected in lines[0]


def test_port_that_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert main(["sandbox", "serve", "--port", str(port)]) == 2
    assert f"--port {port}: cannot be bound" in capsys.readouterr().err
