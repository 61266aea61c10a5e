"""`idbench judge`: answers of an endpoint on this machine become columns of a run."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from idbench.cli import main
from idbench.store import RunStore, find_runs


@pytest.fixture
def endpoint():
    """An endpoint that gives 3 to two pictures and refuses pictures without a prompt of ours."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.server.count += 1
            described = asked["messages"][2]["content"][0]["type"] == "text"
            message = {"content": "Score: 1" if described else "Score: 3"}
            data = json.dumps({"choices": [{"message": message}]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.count = 0
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def run(tmp_path):
    output = tmp_path / "runs"
    arguments = ["--suite", "tiny-single", "--method", "copy", "--limit", "2"]
    assert main(["generate", *arguments, "--output", str(output)]) == 0
    (directory,) = find_runs([output])
    return directory


def test_answers_become_columns_and_are_not_asked_for_twice(run, endpoint, capsys):
    url = f"http://127.0.0.1:{endpoint.server_port}/v1"
    arguments = ["judge", str(run), "--endpoint", url, "--model", "m", "--passes", "2"]
    assert main(arguments) == 0
    with RunStore.open(run) as store:
        scores = {(s.column, s.case_id): s.value for s in store.scores()}
    assert {column for column, _ in scores} == {
        "dreambench_cp@strict[m]",
        "dreambench_pf@strict[m]",
        "dreambench_cp_pf@strict[m]",
    }
    for (column, _), value in scores.items():
        wanted = {"cp": 0.75, "pf": 0.25, "cp_pf": 0.1875}
        assert value == wanted[column.partition("@")[0].removeprefix("dreambench_")]
    asked = endpoint.count
    assert asked > 0
    assert main(arguments) == 0
    assert endpoint.count == asked
    assert "0 samples judged" in capsys.readouterr().err


def test_an_endpoint_that_is_not_there_is_one_line(run, capsys, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: None)
    arguments = ["judge", str(run), "--endpoint", "http://127.0.0.1:1/v1", "--model", "m"]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert "127.0.0.1:1" in error
    assert "Traceback" not in error


def test_nothing_leaves_the_machine_in_offline_mode(run, capsys, monkeypatch):
    monkeypatch.setenv("IDBENCH_OFFLINE", "1")
    arguments = ["judge", str(run), "--endpoint", "https://api.example.org/v1", "--model", "m"]
    assert main(arguments) == 2
    assert "offline" in capsys.readouterr().err
