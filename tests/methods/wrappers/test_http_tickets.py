"""Services that give a ticket first: what was ordered is collected, not ordered again."""

import base64
import json
from dataclasses import replace

import pytest
from PIL import Image

from idbench.methods.conformance.kit import check_named
from idbench.methods.conformance.sample_requests import drawn_portrait, sound_request
from idbench.methods.protocol import Failure
from idbench.methods.registry import build

PAIR = (drawn_portrait(0), drawn_portrait(1))

MAPPING = """
name: tickets
base_url: {url}
key_env: LOCAL_KEY
key_header: X-Key
key_prefix: ""
kinds: [single_id]
deterministic: true
price_per_image: 0.25
idempotency_header: Idempotency-Key
pictures:
  path: /order
  inputs: {{prompt: prompt, seed: seed, size: size, images: images_data_url}}
answer: {{image: result.sample, encoding: url}}
poll: {{url: polling_url, status: status, done: [Ready], refused: [Moderated], failed: [Error],
       every: 0.02}}
"""


class Counter:
    """Takes orders and hands them out after `looks` looks at the ticket."""

    def __init__(self, replies, looks=2, states=("Ready",)):
        self.replies, self.looks, self.states = replies, looks, list(states)
        self.orders, self.seen, self.open = {}, {}, True

    def __call__(self, asked, number, handler):
        if asked.method == "POST":
            ticket = f"t{len(self.orders)}"
            self.orders[ticket] = asked
            return self.json({"polling_url": f"/tickets/{ticket}"})
        _, kind, ticket = asked.path.split("/")
        if kind == "pictures":
            return self.replies.Reply(
                body=self.replies.png(self.replies.picture_for(self.orders[ticket]))
            )
        if ticket not in self.orders:
            return self.json({"status": "Task not found"}, 404)
        self.seen[ticket] = self.seen.get(ticket, 0) + 1
        if not self.open or self.seen[ticket] <= self.looks:
            return self.json({"status": "Pending"})
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        return self.json({"status": state, "result": {"sample": f"/pictures/{ticket}"}})

    def json(self, document, status=200):
        return self.replies.Reply(status=status, body=json.dumps(document).encode())


def request(number=0):
    asked = sound_request("single_id", PAIR, seed=11 + number)
    return replace(asked, width=None, height=None)


@pytest.fixture
def ordered(serve, replies, key, tmp_path):
    """A method over a service of tickets, and the service's counter."""

    def make(**options):
        counter = Counter(replies, **options)
        service = serve(counter)
        path = tmp_path / "tickets.yaml"
        path.write_text(MAPPING.format(url=service.url))

        def method(**args):
            built = build(f"http:{path}", {"first_wait": 0.01, "timeout": 5.0, **args})
            built.keep_in(tmp_path / "kept")
            return built

        return method, counter, service

    return make


def test_a_ticket_is_looked_at_until_the_image_is_there(ordered, key):
    method, _counter, service = ordered()
    (image,) = method().generate([request()])
    assert isinstance(image, Image.Image)
    assert [asked.method for asked in service.asked] == ["POST", "GET", "GET", "GET", "GET"]
    assert all(asked.headers["x-key"] == key for asked in service.asked[:4])
    assert "x-key" not in service.asked[4].headers  # the picture may lie anywhere
    assert len(service.asked[0].headers["idempotency-key"]) == 64


def test_a_service_of_tickets_passes_the_check(ordered, tmp_path):
    ordered(looks=0)
    found = list(check_named(f"http:{tmp_path / 'tickets.yaml'}", pair=PAIR))
    assert [entry for entry in found if entry.passed is False] == []


def test_what_was_ordered_before_a_kill_is_collected_after_it(ordered):
    method, counter, _service = ordered()
    counter.open = False
    first = method(timeout=0.2)
    (answer,) = first.generate([request()])
    assert answer == Failure("timeout", "not done in 0.2 s; its ticket is kept")
    counter.open = True
    second = method()  # another process
    (image,) = second.generate([request()])
    assert isinstance(image, Image.Image)
    assert len(counter.orders) == 1
    assert second.spending.total() == pytest.approx(0.25)
    assert second.generate([request()])[0].tobytes() == image.tobytes()
    assert len(counter.orders) == 1


def test_a_ticket_that_the_service_has_forgotten_is_ordered_again(ordered):
    method, counter, service = ordered()
    counter.open = False
    method(timeout=0.1).generate([request()])
    counter.orders, counter.open = {"other": service.asked[0]}, True
    (image,) = method().generate([request()])
    assert isinstance(image, Image.Image)
    assert len(counter.orders) == 2


def test_a_refusal_of_a_ticket_is_a_miss_and_costs_nothing(ordered):
    method, _counter, _service = ordered(states=("Moderated",))
    made = method()
    (answer,) = made.generate([request()])
    assert answer.reason == "refused"
    assert "Moderated" in answer.detail
    assert made.spending.total() == 0.0


def test_an_order_that_failed_is_given_again(ordered):
    method, counter, _service = ordered(looks=0, states=("Error", "Ready"))
    made = method()
    (image,) = made.generate([request()])
    assert isinstance(image, Image.Image)
    assert len(counter.orders) == 2
    assert made.spending.total() == pytest.approx(0.25)


@pytest.mark.parametrize("ticket", ["file:///etc/passwd", 7, "", None])
def test_a_ticket_that_is_no_address_is_a_bad_reply(serve, replies, key, tmp_path, ticket):
    body = json.dumps({"polling_url": ticket}).encode()
    service = serve(lambda asked, number, handler: replies.Reply(body=body))
    path = tmp_path / "tickets.yaml"
    path.write_text(MAPPING.format(url=service.url))
    (answer,) = build(f"http:{path}").generate([request()])
    assert answer.reason == "bad_reply"
    assert len(service.asked) == 1


def test_the_key_does_not_go_to_a_ticket_elsewhere(serve, replies, key, tmp_path):
    ready = {"status": "Ready", "result": {"sample": "data:image/png;base64,"}}
    ready["result"]["sample"] += base64.b64encode(replies.png(PAIR[0].image)).decode()
    other = serve(lambda asked, number, handler: replies.Reply(body=json.dumps(ready).encode()))
    body = json.dumps({"polling_url": f"{other.url}/t0"}).encode()
    service = serve(lambda asked, number, handler: replies.Reply(body=body))
    path = tmp_path / "tickets.yaml"
    path.write_text(MAPPING.format(url=service.url))
    (image,) = build(f"http:{path}").generate([request()])
    assert image.tobytes() == PAIR[0].image.tobytes()
    assert "x-key" not in other.asked[0].headers
