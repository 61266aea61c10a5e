"""Asking a hosted service until there is an image, a miss, or a reason to stop."""

import base64
import binascii
import json
import threading
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

from PIL import Image

from idbench.methods.protocol import Failure
from idbench.methods.stopped import StoppedError
from idbench.methods.wrappers.hosted_key import without_key
from idbench.methods.wrappers.hosted_mapping import Call, HostedMapping, Poll, at_path
from idbench.methods.wrappers.image_file import read_image_bytes
from idbench.methods.wrappers.kept import Kept
from idbench.methods.wrappers.pacing import LONGEST_WAIT, Pace, backoff, retry_after
from idbench.methods.wrappers.spending import CeilingError, Reservation, Spending
from idbench.methods.wrappers.transport import Answered, TransportError, exchange

DONE = frozenset({200, 201, 202})
TRANSIENT = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529})
# No sample can be made at all: key, payment, permission, path or method is wrong.
FATAL = frozenset({401, 402, 403, 404, 405})
SHOWN = 300  # characters of an answer in a message


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """One call. Equal `key`s are the same image."""

    key: str
    body: bytes
    content_type: str


class Halt:
    """Whether calls go out; the first reason to stop is that of all."""

    def __init__(self) -> None:
        """They do."""
        self.event = threading.Event()
        self.reason = "the run was stopped"

    def __call__(self, reason: str) -> None:
        """No more."""
        if not self.event.is_set():
            self.reason = reason
            self.event.set()


@dataclass(frozen=True, slots=True)
class _Again:
    """An attempt that failed for a reason that may pass, and how long the service asks to wait."""

    reason: str
    detail: str
    wait: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Service:
    """A service with everything that its calls share, for one batch of them."""

    mapping: HostedMapping
    call: Call
    base_url: str
    key: str
    timeout: float
    retries: int
    first_wait: float
    pace: Pace
    spending: Spending
    kept: Kept
    halt: Halt

    @property
    def address(self) -> str:
        """Where orders go."""
        return self.base_url + self.call.path

    def image(self, order: Order) -> Image.Image | Failure:
        """The image of an order, as the service made it, or why there is none.

        Raises:
            StoppedError: If no order can be answered now.
        """
        attempt = 0
        while True:
            outcome = self._attempt(order)
            attempt += 1
            if not isinstance(outcome, _Again):
                return outcome
            if outcome.wait is not None and outcome.wait > LONGEST_WAIT:
                raise self._stopped(
                    f"the service asks to wait {outcome.wait:.0f} s; run the same command again "
                    f"then ({outcome.detail})"
                )
            if attempt > self.retries:
                detail = f"{outcome.detail} ({attempt} attempts)"
                if outcome.reason == "no_connection":
                    raise self._stopped(f"{self.base_url}: {detail}")
                return Failure(outcome.reason, detail)
            if outcome.wait is None:
                self.halt.event.wait(backoff(attempt - 1, self.first_wait))
            else:
                self.pace.pause(outcome.wait)

    def _attempt(self, order: Order) -> Image.Image | Failure | _Again:
        self.pace.wait(self.halt.event)
        if self.halt.event.is_set():
            raise StoppedError(self.halt.reason)
        poll, ticket = self.mapping.poll, self.kept.ticket(order.key)
        if poll is not None and ticket is not None:  # paid for by an earlier process
            return self._collected(order, poll, ticket, None)
        try:
            reservation = self.spending.reserve()
        except CeilingError as error:
            raise self._stopped(str(error)) from error
        except (OSError, ValueError) as error:  # what cannot be counted is not spent
            raise self._stopped(f"the count of money cannot be kept: {error}") from error
        headers = {"Content-Type": order.content_type, "Accept": "*/*", **self._key_header()}
        if self.mapping.idempotency_header:
            headers[self.mapping.idempotency_header] = order.key
        try:
            answered = exchange(
                self.address, body=order.body, headers=headers, timeout=self.timeout
            )
        except TransportError as error:
            if error.reason == "no_connection":
                reservation.release()
            return self._lost(error)
        if poll is None or answered.status not in DONE:
            return self._judged(order, answered, reservation)
        ticket = at_path(_json(answered.body), poll.url)
        if not isinstance(ticket, str) or not ticket:
            return Failure("bad_reply", f"the answer has no {poll.url}: {self._shown(answered)}")
        ticket = urljoin(self.base_url + "/", ticket)
        self.kept.keep_ticket(order.key, ticket)
        return self._collected(order, poll, ticket, reservation)

    def _collected(
        self, order: Order, poll: Poll, ticket: str, reservation: Reservation | None
    ) -> Image.Image | Failure | _Again:
        """The last answer of a service that gave a ticket first; asking for it costs nothing."""
        own = urlsplit(ticket)[:2] == urlsplit(self.base_url)[:2]
        headers = self._key_header() if own else {}
        deadline = time.monotonic() + self.timeout
        while time.monotonic() < deadline and not self.halt.event.is_set():
            try:
                answered = exchange(ticket, headers=headers, timeout=self.timeout)
            except TransportError:
                self.halt.event.wait(poll.every)
                continue
            except ValueError as error:
                self.kept.drop_ticket(order.key)
                return Failure("bad_reply", self._plain(f"the ticket: {error}"))
            if answered.status in DONE:
                state = at_path(_json(answered.body), poll.status)
                if state in poll.done:
                    return self._image(order, answered)
                if state in poll.refused or state in poll.failed:
                    self.kept.drop_ticket(order.key)
                    if reservation is not None:
                        reservation.release()
                    if state in poll.refused:
                        return Failure("refused", self._shown(answered))
                    return _Again("server_error", self._shown(answered))
            elif answered.status not in TRANSIENT:
                self.kept.drop_ticket(order.key)
                detail = f"the ticket is not known: {self._shown(answered)}"
                return (
                    _Again("server_error", detail)
                    if reservation is None
                    else self._judged(order, answered, reservation)
                )
            self.halt.event.wait(poll.every)
        return Failure("timeout", f"not done in {self.timeout:g} s; its ticket is kept")

    def _judged(
        self, order: Order, answered: Answered, reservation: Reservation
    ) -> Image.Image | Failure | _Again:
        document = _json(answered.body)
        detail = f"status {answered.status}: {self._shown(answered)}"
        status = answered.status
        if status not in DONE:
            reservation.release()
        if self.mapping.refusals.seen(status, document):
            return Failure("refused", detail)
        if self.mapping.exhausted.seen(status, document) or status in FATAL:
            raise self._stopped(f"{self.address} has {detail}")
        if 300 <= status < 400:
            raise self._stopped(
                f"{self.address} has {detail}; redirects are not followed, "
                "set base_url to where the service is"
            )
        if status in DONE:
            return self._image(order, answered)
        if status in TRANSIENT:
            reason = "rate_limited" if status == 429 else "server_error"
            return _Again(reason, detail, retry_after(answered.headers.get("retry-after")))
        return Failure("server_error" if status >= 500 else "rejected", detail)

    def _image(self, order: Order, answered: Answered) -> Image.Image | Failure:
        """The image of an answer that was paid for; it is kept before anything else happens."""
        found = self._content(answered)
        if isinstance(found, Failure):
            return found
        image = read_image_bytes(found, "the answer")
        if isinstance(image, Image.Image):
            self.kept.keep_answer(order.key, found)
        else:
            self.kept.drop_ticket(order.key)
        return image

    def _content(self, answered: Answered) -> bytes | Failure:
        where = self.mapping.answer
        if where.encoding == "bytes":
            return answered.body
        document = _json(answered.body)
        if document is None:
            return Failure("bad_reply", f"the answer is not JSON: {self._shown(answered)}")
        found = at_path(document, where.image)
        encoding = where.encoding
        if not found and where.url:
            found, encoding = at_path(document, where.url), "url"
        if not isinstance(found, str) or not found:
            return Failure("bad_reply", f"the answer has no {where.image}: {self._shown(answered)}")
        if encoding == "url" and not found.startswith("data:"):
            return self._fetched(urljoin(self.base_url + "/", found))
        try:
            return base64.b64decode(found.partition("base64,")[2] or found, validate=True)
        except (ValueError, binascii.Error):
            return Failure("bad_reply", f"{where.image} is not base64")

    def _fetched(self, address: str) -> bytes | Failure:
        """The image behind an address, which may be anybody's: the key does not go there."""
        detail = ""
        for attempt in range(self.retries + 1):
            try:
                answered = exchange(address, timeout=self.timeout)
            except TransportError as error:
                detail = str(error)
                if error.reason == "too_large":
                    break
            except ValueError as error:
                detail = str(error)
                break
            else:
                if answered.status == 200:
                    return answered.body
                detail = f"status {answered.status}"
                if answered.status not in TRANSIENT:
                    break
            if attempt < self.retries:
                self.halt.event.wait(backoff(attempt, self.first_wait))
        return Failure("bad_reply", self._plain(f"the image could not be fetched: {detail}"))

    def _lost(self, error: TransportError) -> Failure | _Again:
        detail = self._plain(str(error))
        if error.reason == "too_large":
            return Failure("too_large", detail)
        return _Again(error.reason, detail)

    def _key_header(self) -> dict[str, str]:
        return {self.mapping.key_header: self.mapping.key_prefix + self.key} if self.key else {}

    def _shown(self, answered: Answered) -> str:
        # The key is taken out before the rest is cut off: half a key is too much.
        return self._plain(answered.body.decode(errors="replace"))[:SHOWN]

    def _plain(self, text: str) -> str:
        return without_key(text, self.key)

    def _stopped(self, message: str) -> StoppedError:
        self.halt(self._plain(message))
        return StoppedError(self.halt.reason)


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
