"""`command`: a program in an environment of its own, asked in JSON lines.

`command:PROGRAM ARGUMENTS` starts the program once and keeps it; words are split as a POSIX shell
does, but no shell runs. One JSON object is one line, UTF-8, on the program's standard input and
output. Lines of output that are no JSON object with an "id" are taken for chatter and kept, with
standard error, to explain failures. IDBENCH_DEVICE and IDBENCH_DTYPE are set in its environment.

1. The program says hello, before it loads weights:

    {"idbench": 1, "name": "mine", "version": "2.1",
     "capabilities": {"kinds": ["single_id"], "max_people": 1, "max_batch_size": 4,
                      "distractor": false, "deterministic": true, "uses_seed": true,
                      "uses_references": true},
     "fingerprint": {"weights": "<sha256>", "steps": 20}}

   Only "idbench", the version of this protocol, is required. Without capabilities the program is
   asked for one person per image and for one image at a time. "fingerprint" is everything that can
   move a pixel and cannot be seen in the command or in the files that it names.

2. It reads requests until its input ends, then exits. As many as its "max_batch_size" may come
   before the first answer; "batch" says how many come together.

    {"id": "7", "batch": 1, "case_id": "cded8f8cbfaad2316", "sample": 0, "seed": 861516190,
     "prompt": "...", "kind": "single_id", "width": 1024, "height": null,
     "references": [{"image": "/.../7-reference-0.png", "role": "identity", "person": 0,
                     "class_word": "man", "gender": "male", "face_box": [10.0, 8.0, 90.0, 99.5]}],
     "people": [{"person": 0, "expression": "happy", "orientation": "side", "box": null}],
     "edit": {"original": "/.../7-original.png", "edited": "/.../7-edited.png",
              "instruction": "add a red cap",
              "elements": [{"text": "red cap", "mask": "/.../7-mask-0.png", "person": 0}],
              "faces": [{"person": 0, "original_box": [..], "edited_box": [..], "restore": true}]},
     "distractor": null, "output": "/.../7.png"}

   "edit" is null for other kinds; "distractor" is a reference if the capabilities ask for one.
   Absent values are null, sizes null where the program may choose. Images are RGB PNG files
   (masks: grey, 255 is the element) in a folder that is removed after the answer.

3. It answers each, in any order, after the image is completely written:

    {"id": "7", "ok": true}
    {"id": "7", "ok": false, "reason": "no_face", "detail": "no face in reference 0"}

   An image may go to another file of the folder of "output" and be named: {"id": "7", "ok": true,
   "image": "7.jpg"}. Elsewhere it is refused.

A program that dies, that does not answer within `timeout` seconds per request, or that answers to
an id which nobody asked for is ended, and the next request starts a new one. What it left
unanswered of a batch is asked again, one by one, so that one request cannot cost the others their
images; the request that fails alone is the failure. The shortest program is a loop:

    import json, sys
    print(json.dumps({"idbench": 1}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        make_image(request["references"][0]["image"], request["seed"]).save(request["output"])
        print(json.dumps({"id": request["id"], "ok": True}), flush=True)
"""

import hashlib
import itertools
import json
import shlex
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image
from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

from idbench.methods.protocol import Capabilities, Failure, Kind, Request
from idbench.methods.wrappers.answers import sized, slug
from idbench.methods.wrappers.image_file import read_image
from idbench.methods.wrappers.program import Program, ProgramError
from idbench.methods.wrappers.request_files import written

PROTOCOL = 1
MAX_SECONDS = 1e6


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True, kw_only=True, slots=True)
class _Abilities:
    kinds: frozenset[Kind] = frozenset({"single_id"})
    max_people: int = 1
    max_batch_size: int = 1
    distractor: bool = False
    deterministic: bool = True
    uses_seed: bool = True
    uses_references: bool = True


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True, kw_only=True, slots=True)
class _Hello:
    idbench: int
    name: str = ""
    version: str = ""
    capabilities: _Abilities = field(default_factory=_Abilities)
    fingerprint: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Unanswered:
    """A request that the program was lost over."""

    failure: Failure


class Command:
    """A program that answers requests in JSON lines; the protocol is in the module's docstring.

    Name, capabilities and fingerprint are the program's own: reading them starts it. Not for use
    from several threads.
    """

    MOVES_NO_PIXEL = frozenset({"timeout", "start_timeout", "cwd"})

    def __init__(
        self,
        *,
        command: str,
        timeout: float = 600.0,
        start_timeout: float = 120.0,
        cwd: Path | None = None,
        device: str = "cpu",
        dtype: str = "float32",
    ) -> None:
        """Remembers the command; nothing is started yet.

        Args:
            command: Program and arguments.
            timeout: Seconds that one request may take.
            start_timeout: Seconds until the program has said hello.
            cwd: Folder to run in; the current one by default.
            device: Passed on as IDBENCH_DEVICE.
            dtype: Passed on as IDBENCH_DTYPE.

        Raises:
            ValueError: If the command cannot be split into words or a timeout is not positive.
        """
        try:
            self._words = shlex.split(command)
        except ValueError as error:
            raise ValueError(f"command {command!r} cannot be split: {error}") from error
        if not self._words:
            raise ValueError("command must name a program, got nothing")
        for key, value in (("timeout", timeout), ("start_timeout", start_timeout)):
            if not 0 < value <= MAX_SECONDS:
                raise ValueError(f"{key} must be in (0, {MAX_SECONDS:g}] seconds, got {value!r}")
        self._timeout, self._start_timeout, self._cwd = timeout, start_timeout, cwd
        self._env = {"IDBENCH_DEVICE": device, "IDBENCH_DTYPE": dtype}
        self._program: Program | None = None
        self._greeting: _Hello | None = None
        self._ids = itertools.count(1)

    @property
    def name(self) -> str:
        """What the program calls itself, else its first word."""
        return slug(self._hello().name or Path(self._words[0]).stem)

    @property
    def capabilities(self) -> Capabilities:
        """What the program says it can do.

        Raises:
            ProgramError: If the program cannot be started or does not say hello.
        """
        can = self._hello().capabilities
        return Capabilities(
            kinds=can.kinds,
            max_people=can.max_people,
            max_batch_size=can.max_batch_size,
            distractor=can.distractor,
            deterministic=can.deterministic,
            uses_seed=can.uses_seed,
            uses_references=can.uses_references,
        )

    def fingerprint(self) -> Mapping[str, object]:
        """The command, the files it names by sha256, and what the program says of itself.

        Raises:
            ProgramError: If the program cannot be started or does not say hello.
        """
        hello = self._hello()
        words, files = [], {}
        for word in self._words:
            path = (self._cwd or Path()) / word
            if path.is_file():
                with path.open("rb") as file:
                    files[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
                word = path.name
            words.append(word)
        return {
            "method": "command",
            "version": 1,
            "command": words,
            "files_sha256": files,
            "dtype": self._env["IDBENCH_DTYPE"],
            "name": hello.name,
            "program_version": hello.version,
            "own": hello.fingerprint,
        }

    def generate(self, requests: Sequence[Request]) -> list[Image.Image | Failure]:
        """One RGB image or failure per request, in order."""
        try:
            size = max(1, self._hello().capabilities.max_batch_size)
        except ProgramError as error:
            return [Failure(error.reason, str(error))] * len(requests)
        answers: list[Image.Image | Failure] = []
        for start in range(0, len(requests), size):
            answers += self._batch(requests[start : start + size])
        return answers

    def close(self) -> None:
        """Ends the program, if it runs; the next request starts it again."""
        self._drop(grace=2.0)

    def _batch(self, requests: Sequence[Request]) -> list[Image.Image | Failure]:
        answers: list[Image.Image | Failure] = []
        for request, answer in zip(requests, self._ask(requests), strict=True):
            if isinstance(answer, _Unanswered) and len(requests) > 1:
                (answer,) = self._ask([request])
            answers.append(answer.failure if isinstance(answer, _Unanswered) else answer)
        return answers

    def _ask(self, requests: Sequence[Request]) -> list[Image.Image | Failure | _Unanswered]:
        try:
            program = self._started()
        except ProgramError as error:
            self._drop()
            return [_Unanswered(Failure(error.reason, str(error)))] * len(requests)
        asked = {str(next(self._ids)): request for request in requests}
        answers: dict[str, Image.Image | Failure | _Unanswered] = {}
        with tempfile.TemporaryDirectory(prefix="idbench-", ignore_cleanup_errors=True) as name:
            folder = Path(name).resolve()
            messages = [
                {"id": key, "batch": len(asked), **written(request, folder, key)}
                for key, request in asked.items()
            ]
            try:
                for message in messages:
                    program.send(message)
                deadline = time.monotonic() + self._timeout * len(asked)
                while len(answers) < len(asked):
                    reply = program.receive(deadline)
                    if "id" not in reply:
                        continue
                    key = reply["id"]
                    if not isinstance(key, str) or key not in asked or key in answers:
                        raise ProgramError("bad_reply", f"nobody asked for id {key!r}")
                    image = _answer(reply, folder, folder / f"{key}.png")
                    answers[key] = sized(image, asked[key].width, asked[key].height)
            except ProgramError as error:
                lost = _Unanswered(Failure(error.reason, str(error)))
                return [answers.get(key, lost) for key in asked]
            finally:
                if len(answers) < len(asked):  # what it still says would be for nobody
                    self._drop()
        return [answers[key] for key in asked]

    def _hello(self) -> _Hello:
        if self._greeting is None:
            try:
                self._started()
            except ProgramError:
                self._drop()
                raise
        if self._greeting is None:
            raise ProgramError("bad_reply", "the program did not say hello")
        return self._greeting

    def _started(self) -> Program:
        if self._program is not None and self._program.alive:
            return self._program
        self._drop()
        self._program = Program(self._words, cwd=self._cwd, env=self._env)
        hello = self._read_hello(self._program)
        if self._greeting not in (None, hello):
            raise ProgramError(
                "bad_reply", "the program introduced itself differently when it was restarted"
            )
        self._greeting = hello
        return self._program

    def _read_hello(self, program: Program) -> _Hello:
        deadline = time.monotonic() + self._start_timeout
        try:
            message = program.receive(deadline)
            while "idbench" not in message:
                message = program.receive(deadline)
        except ProgramError as error:
            what = f"{self._words[0]!r} did not say hello"
            raise ProgramError(error.reason, f"{what}: {error}") from error
        try:
            hello = TypeAdapter(_Hello).validate_json(json.dumps(message), strict=True)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise ProgramError("bad_reply", f"in its hello, {place}: {first['msg']}") from error
        if hello.idbench != PROTOCOL:
            raise ProgramError(
                "bad_reply", f"it speaks protocol {hello.idbench}, this is protocol {PROTOCOL}"
            )
        return hello

    def _drop(self, *, grace: float = 0.0) -> None:
        if self._program is not None:
            self._program.close(grace=grace)
            self._program = None


def _answer(reply: Mapping[str, Any], folder: Path, output: Path) -> Image.Image | Failure:
    if reply.get("ok") is False:
        reason, detail = reply.get("reason", "error"), reply.get("detail", "")
        if isinstance(reason, str) and isinstance(detail, str):
            return Failure(slug(reason), detail)
        return Failure("bad_reply", '"reason" and "detail" are strings')
    if reply.get("ok") is not True:
        return Failure("bad_reply", f'"ok" is true or false, got {reply.get("ok")!r}')
    named = reply.get("image", str(output))
    if not isinstance(named, str):
        return Failure("bad_reply", f'"image" is a path, got {named!r}')
    path = (folder / named).resolve()
    if not path.is_relative_to(folder):
        return Failure("outside", f"the program named {named!r}, outside the folder of its output")
    if not path.is_file():
        return Failure("no_image", f"the program said ok but wrote no {path.name}")
    return read_image(path)
