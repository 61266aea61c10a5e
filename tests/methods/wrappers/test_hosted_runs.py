"""Whole runs over a local service: table, key, ceiling, kill."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time

import pytest

from idbench.cli import main
from idbench.methods.wrappers.spending import spent_in

pytest.importorskip("dlib", reason="needs the embedded extra")


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IDBENCH_DATA", str(tmp_path / "data"))


def arguments(verb, service, *more, limit=4, **args):
    given = {
        "model": "local-1",
        "base_url": f"{service.url}/v1",
        "key_env": "LOCAL_KEY",
        "first_wait": 0.01,
        **args,
    }
    return [
        verb, "--suite", "demo", "--limit", str(limit), "--output", "runs",
        "--method", "http:openai", *more,
        "--method-args", *(f"{name}={value}" for name, value in given.items()),
    ]  # fmt: skip


def run_folder(tmp_path):
    (found,) = (tmp_path / "runs").rglob("run.json")
    return found.parent


def samples(folder):
    with sqlite3.connect(folder / "run.sqlite") as database:
        found = database.execute("SELECT status, reason FROM samples").fetchall()
    database.close()
    return found


def test_a_run_ends_in_a_table_and_holds_the_key_nowhere(
    serve, replies, key, tmp_path, capfd, caplog
):
    def behave(asked, number, handler):
        if number == 0:
            return replies.error(400, "moderation_blocked", f"not for {key}")
        if number == 1:
            return replies.error(500, "oops", f"{key} broke us")
        return replies.picture(asked)

    caplog.set_level("DEBUG")
    service = serve(behave)
    more = ("--max-failures", "0.5")  # metrics: embedded
    assert main(arguments("run", service, *more, limit=3, price_per_image=0.04, concurrency=1)) == 0
    out, err = capfd.readouterr()
    assert "local-1" in out
    assert "facesim" in out
    assert "2/3" in out
    assert "no_image 1 of 3" in out
    assert "1 x refused" in err
    assert "0.08 spent" in err
    assert samples(run_folder(tmp_path)).count(("failed", "refused")) == 1
    assert key not in out + err + caplog.text
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"run.json", "run.sqlite", "spending.jsonl"} <= {path.name for path in files}
    for path in files:
        assert key.encode() not in path.read_bytes(), path
    before = len(service.asked)
    assert main(arguments("run", service, *more, limit=3, price_per_image=0.04)) == 0
    assert len(service.asked) == before


def test_a_spent_budget_stops_the_run_and_more_money_goes_on(
    serve, key, tmp_path, capsys, monkeypatch
):
    service = serve()
    assert main(arguments("generate", service, price_per_image=0.1, cost_ceiling=0.3)) == 2
    err = capsys.readouterr().err
    assert "0.3000 of 0.3000 are spent, the next call costs 0.1000; raise cost_ceiling" in err
    assert len(service.asked) == 3
    assert {status for status, _ in samples(run_folder(tmp_path))} == {"pending"}
    assert main(arguments("generate", service, price_per_image=0.1, cost_ceiling=0.4)) == 0
    assert len(service.asked) == 4
    assert max(service.answered.values()) == 1
    assert samples(run_folder(tmp_path)) == [("ok", None)] * 4
    assert spent_in(run_folder(tmp_path) / "kept" / "spending.jsonl") == pytest.approx(0.4)


def test_a_rejected_key_leaves_the_samples_pending(serve, replies, key, tmp_path, capsys):
    service = serve(lambda asked, number, handler: replies.error(401, "invalid_api_key"))
    assert main(arguments("generate", service)) == 2
    assert "status 401" in capsys.readouterr().err
    assert {status for status, _ in samples(run_folder(tmp_path))} == {"pending"}


def test_no_answer_is_paid_for_twice_after_a_kill(serve, replies, key, tmp_path):
    released = threading.Event()

    def behave(asked, number, handler):
        if number >= 5:  # the last one of the first process is under way when it is killed
            released.wait(30)
        return replies.picture(asked)

    service = serve(behave)
    command = [sys.executable, "-m", "idbench"]
    command += arguments("generate", service, limit=6, price_per_image=0.1)
    process = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 60
    while len(list(tmp_path.rglob("*.answer"))) < 5 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    folder = run_folder(tmp_path)
    assert {status for status, _ in samples(folder)} == {"pending"}  # nothing was recorded yet
    assert spent_in(folder / "kept" / "spending.jsonl") == pytest.approx(0.6)
    paid = {asked.body for asked in service.asked[:5]}
    released.set()
    assert main(arguments("generate", service, limit=6, price_per_image=0.1)) == 0
    assert samples(folder) == [("ok", None)] * 6
    assert not paid & {asked.body for asked in service.asked[5:][1:]}
    assert len(service.asked) == 7  # six, and again the one whose answer never came
    assert spent_in(folder / "kept" / "spending.jsonl") == pytest.approx(0.7)
