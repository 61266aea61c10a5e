"""`http`: models that run elsewhere and are asked over HTTP.

`http:openai` speaks to OpenAI's image endpoints, `http:https://host/v1` to a server that copies
them, `http:mapping.yaml` to any other (`idbench.methods.wrappers.hosted_mapping` documents the
file):

    export OPENAI_API_KEY=...
    idbench run --suite demo --method http:openai \
        --method-args model=gpt-image-1 price_per_image=0.04 cost_ceiling=5

The key is read from the environment when it is needed; it is in no file, no fingerprint and no
message, and goes to the service's own address alone: redirects are not followed.

- What the service will not make because of its content is the failure "refused": a miss, like an
  image without a face, and not an error of the run.
- A call that fails for a reason that may pass (408, 409, 425, 429, 5xx, no connection, no whole
  answer) is repeated after growing waits, or after the wait that the service asks for.
- What no repetition can mend stops the run with the reason: a key that is not accepted, a wrong
  address, money or quota that is spent, no connection. What was not asked for stays pending, and
  the same command goes on from there.
- Every answer is kept in the folder `kept` of the run as soon as it is there, and found again
  after a kill: no answer that came is paid for twice. The prices are counted in
  `kept/spending.jsonl`, before a call goes out. Calls that were under way when the process was
  killed are counted, and asked again; with a ticket (`poll`) they are picked up where they are.

A hosted model may change under its name. The fingerprint has the mapping, the model's name and
`as_of`, which is for what is known of the version, such as a date; nothing sees more. Limits hold
per process: use `concurrency`, not several `--workers`.
"""

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from urllib.parse import urlsplit

from PIL import Image, ImageOps

from idbench.methods.protocol import Capabilities, Failure, Request
from idbench.methods.stopped import StoppedError
from idbench.methods.wrappers.answers import sized, slug
from idbench.methods.wrappers.hosted_body import body_of, pictures_of
from idbench.methods.wrappers.hosted_key import read_key, require_name, without_key
from idbench.methods.wrappers.hosted_mapping import Call, read_mapping
from idbench.methods.wrappers.hosted_service import Halt, Order, Service
from idbench.methods.wrappers.image_file import read_image_bytes
from idbench.methods.wrappers.kept import Kept
from idbench.methods.wrappers.pacing import Pace
from idbench.methods.wrappers.spending import LEDGER, Spending
from idbench.methods.wrappers.transport import is_private

VERSION = 1


class Hosted:
    """A model behind an HTTP interface."""

    MOVES_NO_PIXEL = frozenset(
        {
            "key_env", "concurrency", "requests_per_minute", "timeout", "retries", "first_wait",
            "price_per_image", "cost_ceiling", "ledger",
        }
    )  # fmt: skip

    def __init__(
        self,
        *,
        target: str,
        model: str = "",
        base_url: str = "",
        key_env: str | None = None,
        references: bool = True,
        concurrency: int = 4,
        requests_per_minute: float | None = None,
        timeout: float = 300.0,
        retries: int = 5,
        first_wait: float = 1.0,
        price_per_image: float | None = None,
        cost_ceiling: float | None = None,
        ledger: Path | None = None,
        as_of: str = "",
    ) -> None:
        """Reads the mapping; nothing is sent.

        Args:
            target: "openai", the path of a YAML mapping, or the URL of a server that copies
                OpenAI's interface.
            model: The service's name of the model.
            base_url: In place of the mapping's.
            key_env: Environment variable with the key, in place of the mapping's; empty for none.
            references: Whether pictures are sent; false asks by the prompt alone, for the
                without-ID counterpart.
            concurrency: Calls at a time; not more than `--batch-size`.
            requests_per_minute: Most calls that go out in a minute.
            timeout: Seconds until an answer has to be whole.
            retries: Further attempts at a call that fails for a reason that may pass.
            first_wait: Seconds before the first of them; doubled each time.
            price_per_image: In place of the mapping's, for the cost counter.
            cost_ceiling: Most that may be spent; what comes after it stops the run.
            ledger: File that keeps the count, for a ceiling over several runs; by default each
                run has its own.
            as_of: What is known of the model's version, for the fingerprint.

        Raises:
            LookupError: If there is no such service.
            FileNotFoundError: If there is no such file.
            ValueError: If the mapping or an argument is wrong.
        """
        if "//" in target and not target.endswith((".yaml", ".yml")):
            # "http:https://host" comes as https://host, "http://host" as //host
            base_url = base_url or (f"http:{target}" if target.startswith("//") else target)
            target = "openai"
        self.mapping = read_mapping(target)
        wanted = self.mapping.pictures if references else self.mapping.text
        if wanted is None:
            part = "pictures" if references else "text"
            raise ValueError(f"{target} has no call for {part}; set references={not references}")
        self._call: Call = wanted
        if "model" in self._call.inputs.values() and not model:
            raise ValueError(f"{target} needs the name of a model; set model=NAME")
        for key, value in (("concurrency", concurrency), ("timeout", timeout)):
            if value <= 0:
                raise ValueError(f"{key} must be positive, got {value}")
        if retries < 0 or first_wait <= 0:
            raise ValueError(
                f"retries must be 0 or more and first_wait positive, got {retries} and {first_wait}"
            )
        self._base_url = (base_url or self.mapping.base_url).rstrip("/")
        _require_address(self._base_url)
        self._model, self._references, self._as_of = model, references, as_of
        self._key_env = self.mapping.key_env if key_env is None else key_env
        require_name(self._key_env)
        self._concurrency, self._timeout = concurrency, timeout
        self._retries, self._first_wait = retries, first_wait
        self._pace = Pace(requests_per_minute)
        price = self.mapping.price_per_image if price_per_image is None else price_per_image
        self._spending = functools.partial(Spending, price=price, ceiling=cost_ceiling)
        self._ledger = ledger
        self.spending = self._spending(ledger=ledger)
        self._kept = Kept()

    @property
    def name(self) -> str:
        """The model's name, else the mapping's."""
        return slug(self._model or self.mapping.name)

    @property
    def capabilities(self) -> Capabilities:
        """What the mapping says; an edit needs its picture."""
        kinds = frozenset(self.mapping.kinds)
        if not self._references:
            kinds = (kinds - {"edit_restoration"}) or kinds
        return Capabilities(
            kinds=kinds,
            max_people=self.mapping.max_people,
            deterministic=self.mapping.deterministic,
            uses_seed="seed" in self._call.inputs.values(),
            uses_references=self._references,
        )

    def fingerprint(self) -> Mapping[str, object]:
        """Mapping, address, model and what is known of its version; never the key."""
        mapping = asdict(self.mapping)
        for key in ("summary", "price_per_image", "key_env", "base_url", "idempotency_header"):
            del mapping[key]
        return {
            "method": "http",
            "version": VERSION,
            "mapping": mapping,
            "base_url": self._base_url,
            "model": self._model,
            "references": self._references,
            "as_of": self._as_of,
        }

    def keep_in(self, folder: Path) -> None:
        """Keeps answers, tickets and the count of money there, for the next process."""
        self._kept = Kept(folder)
        self.spending = self._spending(ledger=self._ledger or folder / LEDGER)

    def generate(self, requests: Sequence[Request]) -> list[Image.Image | Failure]:
        """One RGB image or failure per request, in order; `concurrency` of them at a time.

        Raises:
            StoppedError: If there is no use in asking on; answers that came before are kept.
        """
        key = read_key(self._key_env)
        if key and not is_private(self._base_url):
            raise StoppedError(f"a key is not sent to {self._base_url} without https")
        if key and without_key(text := json.dumps(self.fingerprint()), key) != text:
            raise StoppedError(f"the arguments hold the key itself; keep it in {self._key_env}")
        halt = Halt()
        service = Service(
            mapping=self.mapping,
            call=self._call,
            base_url=self._base_url,
            key=key,
            timeout=self._timeout,
            retries=self._retries,
            first_wait=self._first_wait,
            pace=self._pace,
            spending=self.spending,
            kept=self._kept,
            halt=halt,
        )
        answer = functools.partial(self._answer, service)
        with ThreadPoolExecutor(self._concurrency, thread_name_prefix="idbench-http") as pool:
            try:
                return list(pool.map(answer, requests))
            finally:  # after an error, or Ctrl-C, nothing more goes out
                halt.event.set()

    def _answer(self, service: Service, request: Request) -> Image.Image | Failure:
        pictures = pictures_of(request) if self._references else []
        if self._references and not pictures:
            return Failure("no_reference", f"case {request.case_id} has no picture to send")
        edit = request.edit.instruction if request.edit is not None else None
        if request.kind == "edit_restoration" and not edit:
            return Failure("no_instruction", f"case {request.case_id} says no edit")
        body, content_type = body_of(
            request, pictures, call=self._call, model=self._model, sizes=self.mapping.sizes
        )
        # Two samples of a case may be asked with the same words, but are two images.
        sample = f"{request.case_id} {request.sample} {request.seed}\n{service.address}\n"
        digest = hashlib.sha256(sample.encode() + body).hexdigest()
        order = Order(key=digest, body=body, content_type=content_type)
        kept = self._kept.answer(digest)
        answer = read_image_bytes(kept, "the kept answer") if kept else None
        if not isinstance(answer, Image.Image):
            answer = service.image(order)
        if isinstance(answer, Failure):
            return answer
        if request.width and request.height and self.mapping.sizes:
            return ImageOps.fit(answer, (request.width, request.height), Image.Resampling.LANCZOS)
        return sized(answer, request.width, request.height)


def _require_address(address: str) -> None:
    """Checks a base address; what may be a secret in it is not repeated."""
    try:
        parts = urlsplit(address)
        _ = parts.port
    except ValueError:
        raise ValueError("base_url is not an address") from None
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise ValueError(
            "base_url must have no user, password, query or fragment; it is recorded with the "
            "run. A key goes into the environment variable of key_env"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"base_url must be http or https, got {address!r}")
