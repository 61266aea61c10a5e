"""The suite's own guard: nothing but this machine can be reached while tests run."""

import http.server
import multiprocessing
import os
import re
import socket
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
OUTSIDE = "203.0.113.1"  # a documentation address (RFC 5737): nobody has it

# Every module that may speak to a network, and for which verb it does.
SPEAKERS = {
    "metrics/fetch.py": "idbench weights fetch",
    "prompts/acquisition/network.py": "idbench data fetch",
    "metrics/judge.py": "idbench judge, to the endpoint that the user names",
    "methods/wrappers/transport.py": "methods that the user hosts or rents",
    "methods/wrappers/comfyui_server.py": "a ComfyUI that the user runs",
    "bench/ray_executor.py": "a cluster that the user names",
    "bench/ray_actors.py": "the same: the name of a node",
}
SPOKEN = re.compile(
    r"^\s*(?:import|from)\s+(?:socket|urllib\.request|http\.client|ftplib|smtplib|telnetlib"
    r"|requests|httpx|aiohttp|websockets?|paramiko|huggingface_hub)\b|urllib\.request\.urlopen"
    r"|import\s+urllib\.request",
    re.MULTILINE,
)


def speakers(root: Path) -> set[str]:
    """Modules of the product that import something that speaks to a network."""
    return {
        str(path.relative_to(root))
        for folder in ("bench", "metrics", "methods", "prompts")
        for path in (root / folder).rglob("*.py")
        if SPOKEN.search(path.read_text(encoding="utf-8"))
    }


def expect(attempts: Path) -> None:
    """The attempt is on record; the test that made it on purpose takes it off."""
    assert OUTSIDE in attempts.read_text()
    attempts.write_text("")


def test_a_connection_to_another_machine_is_refused(attempts: Path) -> None:
    with pytest.raises(PermissionError, match="may not use the network"):
        socket.create_connection((OUTSIDE, 9), timeout=1)
    expect(attempts)


def test_a_datagram_to_another_machine_is_refused(attempts: Path) -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
        pytest.raises(PermissionError),
    ):
        sender.sendto(b"x", (OUTSIDE, 9))
    expect(attempts)


def test_a_name_is_not_even_looked_up(attempts: Path) -> None:
    with pytest.raises(PermissionError):
        socket.getaddrinfo(f"{OUTSIDE}.example.com", 80)
    expect(attempts)


def test_programs_in_python_are_refused_too(attempts: Path) -> None:
    code = f"import socket; socket.create_connection(('{OUTSIDE}', 9), timeout=1)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert b"may not use the network" in ended.stderr
    expect(attempts)


def reach() -> None:
    """Run in a spawned process, as workers are."""
    socket.create_connection((OUTSIDE, 9), timeout=1)


def test_spawned_workers_are_refused_too(attempts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    process = multiprocessing.get_context("spawn").Process(target=reach)
    process.start()
    process.join()
    assert process.exitcode == 1
    expect(attempts)


def test_this_machine_can_be_reached() -> None:
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    thread = threading.Thread(target=server.handle_request)
    thread.start()
    with urllib.request.urlopen(f"http://localhost:{server.server_port}/", timeout=10) as answer:
        assert answer.status == 200
    thread.join()
    server.server_close()
    one, two = socket.socketpair()
    one.close()
    two.close()


@pytest.mark.parametrize("swallowed", [True, False])
def test_a_test_that_uses_the_network_fails(swallowed: bool, tmp_path: Path) -> None:
    handler = "except OSError: pass" if swallowed else "finally: pass"
    (tmp_path / "test_it.py").write_text(
        f"import socket\ndef test_it():\n    try: socket.create_connection(('{OUTSIDE}', 9))\n"
        f"    {handler}\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "conftest", "-p", "no:cacheprovider"]
    environment = os.environ | {"PYTHONPATH": f"{TESTS}{os.pathsep}{os.environ['PYTHONPATH']}"}
    ended = subprocess.run(
        [*command, "--rootdir", str(tmp_path), str(tmp_path)],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "the network was used" in ended.stdout


def test_only_known_modules_speak() -> None:
    assert speakers(ROOT) <= set(SPEAKERS)


def test_the_rule_can_fail(tmp_path: Path) -> None:
    for folder in ("bench", "metrics", "methods", "prompts"):
        (tmp_path / folder).mkdir()
    (tmp_path / "bench" / "spy.py").write_text("def f():\n    import urllib.request\n")
    assert speakers(tmp_path) == {"bench/spy.py"}
