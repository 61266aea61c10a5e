"""`comfyui`: a workflow on a ComfyUI server.

    idbench run --suite demo --method comfyui:workflow.json --method-args url=http://127.0.0.1:8188

The workflow is exported in API format (Workflow > Export (API)) and has nodes with the titles that
`idbench.methods.wrappers.comfyui_workflow` lists: prompt, reference, seed, output and others. Every
request fills them in, queues the workflow and waits for the image of `output`.

What cannot be made is a failure with the node's own words; a workflow that the server does not take
(a node or a model that it has not got), and a server that does not answer, stop the run with the
reason. The id of what was queued is kept in the folder `kept` of the run: after a kill it is
collected, where the server still knows it, and not made again.

The fingerprint holds the workflow, but not the address of the server: what its models are behind
their file names, and which versions run there, is for `as_of`.
"""

import hashlib
import io
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from PIL import Image

from idbench.methods.protocol import Capabilities, Failure, Kind, Reference, Request
from idbench.methods.wrappers.answers import sized, slug
from idbench.methods.wrappers.comfyui_server import ComfyServer, LostError
from idbench.methods.wrappers.comfyui_workflow import Graph, read_workflow
from idbench.methods.wrappers.image_file import read_image_bytes
from idbench.methods.wrappers.kept import Kept

VERSION = 1
ANY = 64  # people, where the workflow does not count them
ATTEMPTS = 2  # at a prompt that the server loses


class ComfyUI:
    """A workflow on a ComfyUI server."""

    MOVES_NO_PIXEL = frozenset(
        {"url", "label", "deterministic", "timeout", "retries", "first_wait"}
    )

    def __init__(
        self,
        *,
        workflow: Path,
        url: str = "http://127.0.0.1:8188",
        negative_prompt: str | None = None,
        label: str = "",
        deterministic: bool = True,
        timeout: float = 600.0,
        retries: int = 4,
        first_wait: float = 0.5,
        as_of: str = "",
    ) -> None:
        """Reads the workflow; the server is not asked.

        Args:
            workflow: File in API format.
            url: Address of the server.
            negative_prompt: In place of the text of the node `negative prompt`.
            label: What tables call it; the name of the file if empty.
            deterministic: Whether an equal seed gives an equal image there.
            timeout: Seconds until the image of a request has to be there, waiting included.
            retries: Further attempts at an exchange that fails for a reason that may pass.
            first_wait: Seconds before the first of them; doubled each time.
            as_of: What is known of models and versions on the server, for the fingerprint.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If the workflow lacks a node, or an argument is wrong.
        """
        self.workflow = read_workflow(Path(workflow))
        parts = urlsplit(url)
        if parts.username is not None or parts.query:
            raise ValueError("url must have no user or query; it is recorded with the run")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"url must be http://HOST:PORT, got {url!r}")
        if timeout <= 0 or retries < 0 or first_wait <= 0:
            raise ValueError(
                "timeout and first_wait must be positive and retries 0 or more, "
                f"got {timeout}, {first_wait} and {retries}"
            )
        if negative_prompt is not None and not self.workflow.has("negative prompt"):
            raise ValueError(f"{workflow} has no node with the title 'negative prompt'")
        self._server = ComfyServer(url=url.rstrip("/"), retries=retries, first_wait=first_wait)
        self._negative, self._timeout, self._as_of = negative_prompt, timeout, as_of
        self._label, self._deterministic = label or Path(workflow).stem, deterministic
        self._kept = Kept()
        self._keeps = False

    @property
    def name(self) -> str:
        """The label, else the name of the workflow's file."""
        return slug(self._label)

    @property
    def capabilities(self) -> Capabilities:
        """What the titles of the workflow allow; an edit where it has `original` or `edited`."""
        workflow, most = self.workflow, self.workflow.references
        edits = workflow.has("original") or workflow.has("edited")
        kinds: frozenset[Kind] = frozenset({"single_id", "subject"})
        if edits:
            kinds, most = frozenset({"edit_restoration"}), ANY
        elif most > 1:
            kinds = frozenset({"multi_id", "multi_subject"})
        elif most == 0:
            kinds, most = kinds | {"multi_id", "multi_subject"}, ANY
        return Capabilities(
            kinds=kinds,
            max_people=most,
            max_batch_size=1,
            deterministic=self._deterministic,
            uses_seed=workflow.has("seed"),
            uses_references=edits or workflow.references > 0,
        )

    def fingerprint(self) -> Mapping[str, object]:
        """The workflow without what requests replace, and what is known of the server."""
        given = self._negative is not None
        return {
            "method": "comfyui",
            "version": VERSION,
            "workflow_sha256": self.workflow.sha256(negative_given=given),
            "negative_prompt": self._negative,
            "as_of": self._as_of,
        }

    def keep_in(self, folder: Path) -> None:
        """Keeps the ids of what was queued there, for the next process."""
        self._kept, self._keeps = Kept(folder), True

    def generate(self, requests: Sequence[Request]) -> list[Image.Image | Failure]:
        """One RGB image or failure per request, in order.

        Raises:
            StoppedError: If the server cannot be reached or does not take the workflow.
        """
        return [sized(self._answer(request), request.width, request.height) for request in requests]

    def _answer(self, request: Request) -> Image.Image | Failure:
        graph = self._graph(request)
        if isinstance(graph, Failure):
            return graph
        # The names of uploaded files are made of their content.
        sample = json.dumps([request.case_id, request.sample, self._server.url, graph])
        key = hashlib.sha256(sample.encode()).hexdigest()
        deadline = time.monotonic() + self._timeout
        lost = ""
        for _ in range(ATTEMPTS):
            try:
                answer = self._made(key, graph, deadline)
            except LostError as error:
                lost = str(error)
                self._kept.drop_ticket(key)
                continue
            if isinstance(answer, Failure) or not self._keeps:
                self._kept.drop_ticket(key)
            return answer
        return Failure("lost", lost)

    def _made(self, key: str, graph: Graph, deadline: float) -> Image.Image | Failure:
        """The image of a graph that is queued now, or was by an earlier process."""
        with self._server.listening() as listener:
            prompt = self._kept.ticket(key)
            if prompt is None:
                queued = self._server.submit(graph, self.workflow.output, listener.client)
                if isinstance(queued, Failure):
                    return queued
                prompt = queued
                self._kept.keep_ticket(key, prompt)
            else:
                listener.ignore()  # the end is told to the client that queued it
            entry = self._server.wait(prompt, listener, deadline)
        if entry is None:
            self._server.cancel(prompt)
            return Failure("timeout", f"no image in {self._timeout:g} s; it was cancelled")
        file = self._file(entry)
        if isinstance(file, Failure):
            return file
        content = self._server.view(file)
        if isinstance(content, Failure):
            return content
        return read_image_bytes(content, str(file.get("filename")))

    def _file(self, entry: Mapping[str, Any]) -> Mapping[str, Any] | Failure:
        """The one image of the output node in an entry of the history, or why there is none."""
        failure = self._failure(entry.get("status"))
        if failure is not None:
            return failure
        called = self.workflow.called(self.workflow.output)
        outputs = entry.get("outputs")
        found = outputs.get(self.workflow.output) if isinstance(outputs, dict) else None
        images = found.get("images") if isinstance(found, dict) else None
        if not isinstance(images, list) or not images or not isinstance(images[0], dict):
            return Failure("no_image", f"{called} gave no image")
        if len(images) > 1:
            return Failure(
                "several_images", f"{called} gave {len(images)} images; make its batch_size 1"
            )
        return images[0]

    def _failure(self, status: object) -> Failure | None:
        """What went wrong by the status of an entry; old servers write none."""
        if not isinstance(status, dict) or status.get("status_str") != "error":
            return None
        for message in status.get("messages") or []:
            kind, data = message if isinstance(message, list) and len(message) == 2 else ("", {})
            if kind == "execution_interrupted":
                return Failure("interrupted", "somebody interrupted it on the server")
            if kind == "execution_error" and isinstance(data, dict):
                where = self.workflow.called(str(data.get("node_id")))
                what = str(data.get("exception_type") or "").rpartition(".")[2]
                words = " ".join(str(data.get("exception_message") or "").split())
                memory = what in ("OutOfMemoryError", "MemoryError")
                reason = "out_of_memory" if memory else "error"
                return Failure(reason, f"{where}: {what}: {words}"[:2000])
        return Failure("error", "the server says error and no more")

    def _graph(self, request: Request) -> Graph | Failure:
        """The workflow with a request filled in; its images are on the server then."""
        workflow = self.workflow
        values: dict[str, Any] = {"prompt": request.prompt, "seed": request.seed}
        if self._negative is not None:
            values["negative prompt"] = self._negative
        if request.width and request.height:
            values["size"] = (request.width, request.height)
        if request.kind == "edit_restoration" or workflow.has("original") or workflow.has("edited"):
            if request.edit is None:
                return Failure("no_reference", f"case {request.case_id} has no edit")
            values["prompt"] = request.edit.instruction or request.prompt
            for title, image in (
                ("original", request.edit.original),
                ("edited", request.edit.edited),
            ):
                if workflow.has(title):
                    name = self._uploaded(image)
                    if isinstance(name, Failure):
                        return name
                    values[title] = name
        chosen = _chosen(request.references, workflow.references)
        if isinstance(chosen, Failure):
            return replace(chosen, detail=f"case {request.case_id}: {chosen.detail}")
        names = []
        for reference in chosen:
            name = self._uploaded(reference.image)
            if isinstance(name, Failure):
                return name
            names.append(name)
        return workflow.filled(values, names)

    def _uploaded(self, image: Image.Image) -> str | Failure:
        buffer = io.BytesIO()
        image.convert("RGB").save(buffer, "PNG", compress_level=1)
        content = buffer.getvalue()
        name = f"idbench-{hashlib.sha256(content).hexdigest()[:32]}.png"
        return self._server.upload(name, content)


def _chosen(references: Sequence[Reference], wanted: int) -> Sequence[Reference] | Failure:
    """As many references as the workflow takes; of more, the first of each person."""
    if wanted == 0:
        return ()
    if len(references) > wanted:
        first: dict[int, Reference] = {}
        for reference in references:
            first.setdefault(reference.person, reference)
        references = list(first.values())
    if len(references) == wanted:
        return references
    reason = "no_reference" if len(references) < wanted else "too_many_people"
    return Failure(reason, f"{len(references)} references, the workflow takes {wanted}")
