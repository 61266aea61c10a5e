"""Real programs on the other side of a pipe, well behaved and not."""

import gc
import json
import os
import shlex
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from idbench.methods.protocol import (
    Capabilities,
    Edit,
    EditFace,
    Element,
    Failure,
    Person,
    Reference,
    Request,
)
from idbench.methods.registry import build
from idbench.methods.wrappers.command import Command
from idbench.methods.wrappers.program import ProgramError

PROGRAM = Path(__file__).parent / "data" / "program.py"
BAD_SEED = 13
PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)


def words(mode, *arguments):
    return shlex.join([sys.executable, str(PROGRAM), mode, *map(str, arguments)])


def request(seed=1, **changes):
    reference = Reference(image=Image.fromarray(PIXELS), sha256="ab", face_box=(1.0, 2.0, 3.5, 4.0))
    fields = {"case_id": "c0", "sample": 0, "prompt": "", "references": (reference,)}
    return Request(seed=seed, **(fields | changes))


def is_painted(found, seed):
    assert isinstance(found, Image.Image), found
    assert found.mode == "RGB"
    pixels = np.asarray(found)
    np.testing.assert_array_equal(pixels[:, :, 0], seed)
    np.testing.assert_array_equal(pixels[:, :, 1:], PIXELS[:, :, 1:])
    return True


def is_gone(pid):
    """Whether a process has ended; an unreaped orphan in a container counts as ended."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"


def eventually(condition, seconds=5.0):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest.fixture
def start():
    """Builds a command and ends its program afterwards."""
    built = []

    def build_command(mode, *arguments, **options):
        method = Command(command=words(mode, *arguments), **options)
        built.append(method)
        return method

    yield build_command
    for method in built:
        method.close()


def test_it_answers_in_order_and_is_started_once(start, tmp_path, monkeypatch):
    log = tmp_path / "count"
    monkeypatch.setenv("COUNT_FILE", str(log))
    method = start("counts")
    for _ in range(2):
        answers = method.generate([request(1), request(2), request(3)])
        assert all(is_painted(found, seed) for found, seed in zip(answers, (1, 2, 3), strict=True))
    assert log.read_text() == "started\n"
    method.close()
    assert log.read_text() == "started\nended\n"  # the end of its input let it end by itself


def test_the_hello_gives_name_capabilities_and_fingerprint(start):
    method = start("ok", 4)
    assert method.name == "painter"
    assert method.capabilities == Capabilities(max_batch_size=4)
    fingerprint = method.fingerprint()
    assert fingerprint["program_version"] == "1.0"
    assert "program.py" in fingerprint["files_sha256"]
    assert str(PROGRAM.parent) not in json.dumps(fingerprint)
    assert start("ok", 4).fingerprint() == fingerprint
    assert start("ok", 5).fingerprint() != fingerprint


def test_requests_arrive_whole(start, tmp_path, monkeypatch):
    echo = tmp_path / "echo.json"
    monkeypatch.setenv("ECHO_FILE", str(echo))
    stranger = Reference(image=Image.new("RGB", (2, 2)), sha256="cd", role="style", gender="male")
    edit = Edit(
        original=Image.new("RGB", (4, 4)),
        edited=Image.new("RGB", (4, 4), (9, 9, 9)),
        instruction="add a hat",
        elements=(Element(text="hat", mask=Image.new("L", (4, 4), 255)), Element(text="coat")),
        faces=(EditFace(person=0, edited_box=(0.0, 1.0, 2.0, 3.0), restore=False),),
    )
    asked = request(
        5,
        prompt="Grüße an ein\nKind",
        kind="edit_restoration",
        alias="somebody-1",
        sample=2,
        people=(Person(expression="sad", box=(0.1, 0.2, 0.3, 0.4)),),
        edit=edit,
        distractor=stranger,
        width=8,
    )
    method = start("echo", device="cuda:3")
    is_painted(method.generate([asked])[0], 5)
    seen = json.loads(echo.read_text())
    assert seen["device"] == "cuda:3"
    got = seen["request"]
    folder = Path(got["output"]).parent
    assert not folder.exists()
    plain = {key: got[key] for key in ("case_id", "alias", "sample", "seed", "prompt", "kind")}
    assert plain == {
        "case_id": "c0",
        "alias": "somebody-1",
        "sample": 2,
        "seed": 5,
        "prompt": "Grüße an ein\nKind",
        "kind": "edit_restoration",
    }
    assert (got["width"], got["height"], got["batch"]) == (8, None, 1)
    assert got["people"] == [
        {"person": 0, "expression": "sad", "orientation": None, "box": [0.1, 0.2, 0.3, 0.4]}
    ]
    (reference,) = got["references"]
    assert Path(reference.pop("image")).parent == folder
    assert reference == {
        "sha256": "ab",
        "role": "identity",
        "person": 0,
        "class_word": None,
        "gender": None,
        "face_box": [1.0, 2.0, 3.5, 4.0],
    }
    assert got["distractor"]["role"] == "style"
    assert got["distractor"]["gender"] == "male"
    assert got["edit"]["instruction"] == "add a hat"
    assert [element["text"] for element in got["edit"]["elements"]] == ["hat", "coat"]
    assert got["edit"]["elements"][0]["mask"].endswith(".png")
    assert got["edit"]["elements"][1]["mask"] is None
    assert got["edit"]["faces"][0]["restore"] is False


def test_batches_go_out_together_and_come_back_in_any_order(start):
    seeds = [1, 2, 3, 4, 5]
    answers = start("backwards", 3).generate([request(seed) for seed in seeds])
    assert all(is_painted(found, seed) for found, seed in zip(answers, seeds, strict=True))


def test_chatter_on_the_output_does_no_harm(start):
    is_painted(start("chatter").generate([request(4)])[0], 4)


def test_an_image_may_have_a_name_of_its_own_within_the_folder(start):
    is_painted(start("own-name").generate([request(4)])[0], 4)


MISBEHAVIOUR = {
    "dies": ("died", "exit code 3; it said last: CUDA error: device-side assert"),
    "killed": ("died", "ended by signal 9 (SIGKILL)"),
    "closes-output": ("died", "the program closed its output"),
    "hangs": ("timeout", "no answer in time"),
    "ignores-signals": ("timeout", "no answer in time"),
    "garbage": ("timeout", "{garbage"),
    "wrong-id": ("bad_reply", "nobody asked for id '999'"),
    "number-id": ("bad_reply", "nobody asked for id "),
    "no-ok": ("bad_reply", '"ok" is true or false, got None'),
    "text-ok": ("bad_reply", "got 'yes'"),
    "refuses": ("no_face", "none found"),
    "bad-reason": ("bad_reply", "are strings"),
    "writes-nothing": ("no_image", "wrote no"),
    "names-a-number": ("bad_reply", "got 7"),
    "not-an-image": ("not_an_image", "not an image that Pillow can read"),
    "fifo": ("no_image", "wrote no"),
    "outside": ("outside", "outside the folder"),
    "dot-dot": ("outside", "outside the folder"),
    "link": ("outside", "outside the folder"),
}


@pytest.mark.parametrize(
    ("mode", "batch"),
    [(mode, 1) for mode in MISBEHAVIOUR]
    + [(mode, 3) for mode in ("dies", "hangs", "wrong-id", "refuses", "outside")],
)
def test_misbehaviour_costs_one_sample_only(start, tmp_path, monkeypatch, mode, batch):
    reason, detail = MISBEHAVIOUR[mode]
    monkeypatch.setenv("OUTSIDE_FILE", str(tmp_path / "outside.png"))
    method = start(mode, batch, timeout=1.5 if reason == "timeout" else 60.0)
    answers = method.generate([request(1), request(BAD_SEED), request(3)])
    is_painted(answers[0], 1)
    is_painted(answers[2], 3)
    assert isinstance(answers[1], Failure)
    assert answers[1].reason == reason
    assert detail in answers[1].detail


def test_a_program_that_stops_reading_blocks_nobody(start):
    long = "x" * 200_000  # three of them exceed what a pipe holds
    method = start("hangs", 3, timeout=1.5)
    asked = [request(BAD_SEED, prompt=long), request(2, prompt=long), request(3, prompt=long)]
    answers = method.generate(asked)
    assert answers[0].reason == "timeout"
    is_painted(answers[1], 2)
    is_painted(answers[2], 3)


def test_a_wrong_size_is_a_failure(start):
    answers = start("wrong-size").generate([request(1), request(BAD_SEED, width=8, height=6)])
    assert answers[1] == Failure("wrong_size", "asked for 8 x 6 pixels, got 3 x 3")


def test_a_second_answer_is_not_taken_for_the_next_request(start):
    method = start("twice")
    answers = method.generate([request(BAD_SEED), request(2)])
    is_painted(answers[0], BAD_SEED)
    assert isinstance(answers[1], Failure)
    assert answers[1].reason == "bad_reply"
    is_painted(method.generate([request(5)])[0], 5)


def test_a_program_that_always_dies_fails_every_request(start):
    answers = start("dies-always", 2).generate([request(1), request(2), request(3)])
    assert [found.reason for found in answers] == ["died"] * 3


@pytest.mark.parametrize(
    ("mode", "reason", "detail"),
    [
        ("dies-at-once", "died", "exit code 1; it said last: no module named torch"),
        ("no-hello", "timeout", "did not say hello"),
        ("strange-hello", "bad_reply", "capabilities.kindes"),
        ("future-hello", "bad_reply", "protocol 2, this is protocol 1"),
    ],
)
def test_a_program_that_cannot_start_says_why(start, mode, reason, detail):
    method = start(mode, start_timeout=0.5 if mode == "no-hello" else 20.0)
    for ask in (lambda: method.capabilities, lambda: method.name, method.fingerprint):
        with pytest.raises(ProgramError) as caught:
            ask()
        assert caught.value.reason == reason
        assert detail in str(caught.value)
    (found,) = method.generate([request()])
    assert isinstance(found, Failure)
    assert found.reason == reason


def test_a_command_that_does_not_exist_is_named():
    (found,) = Command(command="no-such-program --x").generate([request()])
    assert found.reason == "not_found"
    assert "'no-such-program'" in found.detail


def test_a_program_that_comes_back_as_another_is_not_believed(start):
    method = start("changing")
    answers = method.generate([request(1), request(BAD_SEED), request(3)])
    is_painted(answers[0], 1)
    assert [found.reason for found in answers[1:]] == ["died", "bad_reply"]
    assert "introduced itself differently" in answers[2].detail


def test_what_a_program_has_started_ends_with_it(start, tmp_path, monkeypatch):
    pids = tmp_path / "pids"
    monkeypatch.setenv("CHILD_FILE", str(pids))
    method = start("hangs-with-child", timeout=1.0)
    assert method.generate([request(BAD_SEED)])[0].reason == "timeout"
    for pid in pids.read_text().split():
        assert eventually(lambda pid=pid: is_gone(pid))


def test_dropping_the_method_ends_the_program():
    method = Command(command=words("ok"))
    is_painted(method.generate([request(1)])[0], 1)
    pid = method._program._process.pid
    assert not is_gone(pid)
    del method
    gc.collect()
    assert eventually(lambda: is_gone(pid))


def test_leaving_the_interpreter_ends_the_program():
    code = f"""
        from idbench.methods.wrappers.command import Command
        method = Command(command={words("ok")!r})
        assert method.name == "painter"
        print(method._program._process.pid)
    """
    out = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    assert out.stderr == ""
    assert eventually(lambda: is_gone(int(out.stdout)))


def test_a_killed_run_takes_the_program_along():
    code = f"""
        import os, signal
        from idbench.methods.wrappers.command import Command
        method = Command(command={words("ok")!r})
        assert method.name == "painter"
        print(method._program._process.pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True
    )
    assert ended.returncode == -9
    assert eventually(lambda: is_gone(int(ended.stdout)))


def test_no_temporary_files_stay(start, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    start("dies", 2).generate([request(1), request(BAD_SEED), request(2)])
    assert os.listdir(tmp_path) == []  # noqa: PTH208 - the message shows the names


def test_it_is_built_by_name(start):
    method = build(f"command:{words('ok')}", {"timeout": "30"})
    is_painted(method.generate([request(9)])[0], 9)
    method.close()
    with pytest.raises(ValueError, match=r"timeout must be in \(0, 1e\+06\] seconds, got 0"):
        build("command:x", {"timeout": 0})


def test_the_program_of_the_documentation_works(tmp_path):
    document = sys.modules[Command.__module__].__doc__
    lines = document.splitlines()
    start = next(index for index, line in enumerate(lines) if line == "    import json, sys")
    program = textwrap.dedent("\n".join(lines[start:]))
    make = "from PIL import Image\ndef make_image(path, seed):\n    return Image.open(path)\n"
    (tmp_path / "program.py").write_text(make + program)
    method = Command(command=shlex.join([sys.executable, str(tmp_path / "program.py")]))
    np.testing.assert_array_equal(np.asarray(method.generate([request()])[0]), PIXELS)
    method.close()
