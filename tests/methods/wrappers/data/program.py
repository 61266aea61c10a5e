"""A program for the `command` method that behaves, or misbehaves as its first argument says.

Requests whose seed is 13 are the ones that it misbehaves over. It answers with the reference,
its red channel replaced by the seed.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from PIL import Image

MODE = sys.argv[1]
BATCH = int(sys.argv[2]) if len(sys.argv) > 2 else 1
BAD_SEED = 13


def say(message):
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def paint(request, path):
    with Image.open(request["references"][0]["image"]) as image:
        _, green, blue = image.convert("RGB").split()
    red = Image.new("L", image.size, request["seed"] % 256)
    Image.merge("RGB", (red, green, blue)).save(path)


def answer(request):
    paint(request, request["output"])
    say({"id": request["id"], "ok": True})


def misbehave(request):
    output = Path(request["output"])
    if MODE in ("dies", "dies-always", "changing"):
        sys.stderr.write("CUDA error: device-side assert\n")
        sys.stderr.flush()
        os._exit(3)
    if MODE == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if MODE == "hangs":
        time.sleep(1000)
    if MODE == "hangs-with-child":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
        Path(os.environ["CHILD_FILE"]).write_text(f"{os.getpid()} {child.pid}")
        time.sleep(1000)
    if MODE == "ignores-signals":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(1000)
    if MODE == "garbage":
        while True:
            sys.stdout.write("{garbage" * 100 + "\n")
    if MODE == "closes-output":
        os.close(1)
        time.sleep(1000)
    replies = {
        "wrong-id": {"id": "999", "ok": True},
        "number-id": {"id": int(request["id"]), "ok": True},
        "no-ok": {"id": request["id"]},
        "text-ok": {"id": request["id"], "ok": "yes"},
        "refuses": {"id": request["id"], "ok": False, "reason": "no_face", "detail": "none found"},
        "bad-reason": {"id": request["id"], "ok": False, "reason": 7},
        "writes-nothing": {"id": request["id"], "ok": True},
        "names-a-number": {"id": request["id"], "ok": True, "image": 7},
    }
    if MODE in replies:
        return say(replies[MODE])
    if MODE == "not-an-image":
        output.write_bytes(b"this is no image")
    if MODE == "wrong-size":
        Image.new("RGB", (3, 3)).save(output)
    if MODE == "fifo":
        os.mkfifo(output)
    if MODE == "outside":
        Image.new("RGB", (8, 8)).save(os.environ["OUTSIDE_FILE"])
        return say({"id": request["id"], "ok": True, "image": os.environ["OUTSIDE_FILE"]})
    if MODE == "dot-dot":
        return say({"id": request["id"], "ok": True, "image": "../../etc/hostname"})
    if MODE == "link":
        Image.new("RGB", (8, 8)).save(os.environ["OUTSIDE_FILE"])
        output.symlink_to(os.environ["OUTSIDE_FILE"])
    if MODE == "twice":
        answer(request)
    return say({"id": request["id"], "ok": True})


def main():
    if MODE == "no-hello":
        time.sleep(1000)
    if MODE == "dies-at-once":
        sys.exit("no module named torch")
    if MODE == "strange-hello":
        say({"idbench": 1, "capabilities": {"kindes": ["single_id"]}})
    if MODE == "future-hello":
        say({"idbench": 2})
    capabilities = {"max_batch_size": BATCH}
    name = "changing" + str(os.getpid()) if MODE == "changing" else "painter"
    say({"idbench": 1, "name": name, "version": "1.0", "capabilities": capabilities})
    if MODE == "counts":
        with Path(os.environ["COUNT_FILE"]).open("a") as file:
            file.write("started\n")
    waiting = []
    for line in sys.stdin:
        request = json.loads(line)
        if MODE == "chatter":
            sys.stdout.write('loading...\n{"step": 1}\n[1, 2]\n{"broken\n\n')
        if MODE == "backwards":
            waiting.append(request)
            if len(waiting) == request["batch"]:
                for entry in reversed(waiting):
                    answer(entry)
                waiting = []
        elif MODE == "own-name":
            paint(request, Path(request["output"]).parent / "mine.bmp")
            say({"id": request["id"], "ok": True, "image": "mine.bmp"})
        elif MODE == "echo":
            Path(os.environ["ECHO_FILE"]).write_text(
                json.dumps({"request": request, "device": os.environ["IDBENCH_DEVICE"]})
            )
            answer(request)
        elif request["seed"] == BAD_SEED or MODE == "dies-always":
            misbehave(request)
        else:
            answer(request)
    if MODE == "counts":
        with Path(os.environ["COUNT_FILE"]).open("a") as file:
            file.write("ended\n")


main()
