"""A hosted model that behaves badly: what is tried again, a failure, a miss, or the end."""

import base64
import io
import json
import socket
import threading
import time
from dataclasses import replace

import pytest
from PIL import Image

from idbench.methods.conformance.sample_requests import drawn_portrait, sound_request
from idbench.methods.protocol import Failure
from idbench.methods.registry import build
from idbench.methods.stopped import StoppedError
from idbench.methods.wrappers import transport

PAIR = (drawn_portrait(0), drawn_portrait(1))

SEEDED = """
name: seeded
base_url: {url}
key_env: LOCAL_KEY
kinds: [single_id, multi_id, edit_restoration]
max_people: 2
deterministic: true
pictures:
  path: /make
  inputs: {{prompt: prompt, seed: seed, size: size, images: images_data_url}}
text:
  path: /make
  inputs: {{prompt: prompt, seed: seed, size: size}}
answer: {{image: data.0.b64_json}}
refusals: {{statuses: [200, 422], code: error.code, codes: [content]}}
"""


def request(number=0, **changes):
    asked = sound_request("single_id", PAIR, seed=11 + number)
    return replace(asked, **{"width": None, "height": None, **changes})


def openai(service, **args):
    defaults = {
        "model": "local-1",
        "base_url": f"{service.url}/v1",
        "key_env": "LOCAL_KEY",
        "first_wait": 0.01,
        "timeout": 5.0,
    }
    return build("http:openai", {**defaults, **args})


def only(method, asked=None):
    (answer,) = method.generate([asked or request()])
    return answer


def in_turn(*behaviours):
    """The n-th request meets the n-th behaviour, later ones the last."""

    def behave(asked, number, handler):
        chosen = behaviours[min(number, len(behaviours) - 1)]
        return chosen(asked, number, handler) if callable(chosen) else chosen

    return behave


# Failures that pass


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again(serve, replies, key, status):
    service = serve(
        in_turn(
            replies.error(status, "busy"),
            replies.error(status, "busy"),
            lambda asked, *_: replies.picture(asked),
        )
    )
    method = openai(service, price_per_image=0.5)
    assert isinstance(only(method), Image.Image)
    assert len(service.asked) == 3
    assert method.spending.total() == pytest.approx(0.5)  # two were not served


@pytest.mark.parametrize(
    ("status", "reason"), [(429, "rate_limited"), (500, "server_error"), (503, "server_error")]
)
def test_what_does_not_pass_is_a_failure_of_the_sample(serve, replies, key, status, reason):
    service = serve(in_turn(replies.error(status, "busy", "all lines are busy")))
    answer = only(openai(service, retries=2))
    assert isinstance(answer, Failure)
    assert answer.reason == reason
    assert f"status {status}" in answer.detail
    assert "all lines are busy" in answer.detail
    assert "(3 attempts)" in answer.detail
    assert len(service.asked) == 3


def test_retry_after_is_waited_for_by_all(serve, replies, key):
    service = serve(
        in_turn(
            replies.error(429, "slow", Retry_After="0.4"), lambda asked, *_: replies.picture(asked)
        )
    )
    answers = openai(service, concurrency=1).generate([request(0), request(1)])
    assert all(isinstance(answer, Image.Image) for answer in answers)
    first, second = service.asked[:2]
    assert 0.39 < second.at - first.at < 2.0


def test_a_wait_that_is_too_long_stops_the_run(serve, replies, key):
    service = serve(in_turn(replies.error(429, "slow", Retry_After="86400")))
    with pytest.raises(StoppedError, match=r"asks to wait 86400 s; run the same command again"):
        only(openai(service))
    assert len(service.asked) == 1


def test_a_slow_answer_times_out(serve, replies, key):
    over = threading.Event()

    def behave(asked, number, handler):
        over.wait(5)

    service = serve(behave)
    began = time.monotonic()
    answer = only(openai(service, timeout=0.2, retries=1, price_per_image=1.0))
    over.set()
    assert answer == Failure("timeout", "no answer in 0.2 s (2 attempts)")
    assert time.monotonic() - began < 3


def test_an_answer_that_drips_times_out_as_a_whole(serve, key):
    def behave(asked, number, handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "100000")
        handler.end_headers()
        for _ in range(100):  # each byte comes well within the time-out
            handler.wfile.write(b"x")
            handler.wfile.flush()
            time.sleep(0.05)

    began = time.monotonic()
    answer = only(openai(serve(behave), timeout=0.3, retries=0))
    assert answer.reason == "timeout"
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("how", ["length", "chunks", "closed", "reset"])
def test_half_an_answer_is_none(serve, replies, key, how):
    def behave(asked, number, handler):
        if number:
            return replies.picture(asked)
        if how == "length":
            return replace(replies.picture(asked), cut=100)
        if how == "chunks":
            handler.protocol_version = "HTTP/1.1"
            handler.send_response(200)
            handler.send_header("Transfer-Encoding", "chunked")
            handler.end_headers()
            handler.wfile.write(b"400\r\nnot a kibibyte")
        if how == "reset":
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        handler.close_connection = True
        return None

    service = serve(behave)
    method = openai(service, price_per_image=1.0)
    assert isinstance(only(method), Image.Image)
    assert len(service.asked) == 2
    assert method.spending.total() == 2.0  # the first may have been served: counted


# Answers that are no image


def transparent():
    return Image.new("RGBA", (8, 8), (255, 0, 0, 128))


def as_json(content):
    return json.dumps({"data": [{"b64_json": base64.b64encode(content).decode()}]}).encode()


def png(image):
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("body", "reason", "said"),
    [
        (b"<html>sign in</html>", "bad_reply", "not JSON: <html>sign in"),
        (b"{}", "bad_reply", "no data.0.b64_json"),
        (b'{"data": [{"b64_json": "no base64!"}]}', "bad_reply", "is not base64"),
        (b'{"data": [{"b64_json": 7}]}', "bad_reply", "no data.0.b64_json"),
        (b"[" * 100_000, "bad_reply", "not JSON"),
        (as_json(b"words"), "not_an_image", "not an image"),
        (as_json(png(PAIR[0].image)[:2000]), "unreadable", "truncated"),
        (as_json(png(transparent())), "transparent", "transparent pixels"),
    ],
)
def test_an_answer_that_is_no_image_is_a_failure_and_not_paid_again(
    serve, replies, key, body, reason, said
):
    service = serve(in_turn(replies.Reply(body=body)))
    method = openai(service, price_per_image=1.0)
    answer = only(method)
    assert isinstance(answer, Failure)
    assert answer.reason == reason
    assert said in answer.detail
    assert len(answer.detail) < 500
    assert len(service.asked) == 1
    assert method.spending.total() == 1.0


@pytest.mark.parametrize("declared", [True, False])
def test_a_huge_answer_is_not_read(serve, key, monkeypatch, declared):
    monkeypatch.setattr(transport, "MAX_BYTES", 300_000)
    sent = []

    def behave(asked, number, handler):
        handler.send_response(200)
        if declared:
            handler.send_header("Content-Length", str(10**12))
        handler.end_headers()
        for _ in range(1000):
            handler.wfile.write(b"x" * 65536)
            sent.append(65536)

    service = serve(behave)
    answer = only(openai(service))
    assert answer.reason == "too_large"
    assert len(service.asked) == 1
    time.sleep(0.1)
    assert sum(sent) < 60_000_000


def test_a_small_file_of_a_huge_picture_is_refused(serve, replies, key):
    bomb = bytearray(png(Image.new("L", (8, 8))))
    bomb[16:24] = (60000).to_bytes(4, "big") * 2
    import zlib

    bomb[29:33] = zlib.crc32(bytes(bomb[12:29])).to_bytes(4, "big")
    service = serve(in_turn(replies.Reply(body=as_json(bytes(bomb)))))
    assert only(openai(service)).reason == "too_large"


# Misses, and reasons to stop


def test_a_refusal_is_a_miss_with_its_reason_and_costs_nothing(serve, replies, key):
    service = serve(
        in_turn(replies.error(400, "moderation_blocked", "rejected by the safety system"))
    )
    method = openai(service, price_per_image=1.0)
    answer = only(method)
    assert answer.reason == "refused"
    assert "rejected by the safety system" in answer.detail
    assert len(service.asked) == 1
    assert method.spending.total() == 0.0


def test_a_refusal_may_come_with_status_200(serve, replies, key, tmp_path):
    mapping = tmp_path / "seeded.yaml"
    service = serve(in_turn(replies.error(200, "content", "filtered")))
    mapping.write_text(SEEDED.format(url=service.url))
    assert only(build(f"http:{mapping}")).reason == "refused"


def test_another_bad_request_is_a_failure_of_its_sample(serve, replies, key):
    service = serve(in_turn(replies.error(400, "invalid_image", "too small")))
    answer = only(openai(service))
    assert (answer.reason, len(service.asked)) == ("rejected", 1)
    assert "too small" in answer.detail


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (401, "invalid_api_key"),
        (402, "payment"),
        (403, "forbidden"),
        (404, "model_not_found"),
        (429, "insufficient_quota"),
        (400, "billing_hard_limit_reached"),
    ],
)
def test_what_no_sample_can_mend_stops_the_run(serve, replies, key, status, code):
    service = serve(in_turn(replies.error(status, code, "see our site")))
    with pytest.raises(StoppedError, match=f"status {status}.*see our site"):
        openai(service, concurrency=1).generate([request(n) for n in range(4)])
    assert len(service.asked) == 1


def test_no_connection_stops_the_run(key):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    method = build(
        f"http:http://127.0.0.1:{port}",
        {"model": "m", "key_env": "", "retries": 2, "first_wait": 0.01, "price_per_image": 1},
    )
    with pytest.raises(StoppedError, match=r"no connection .*refused.*\(3 attempts\)"):
        only(method)
    assert method.spending.total() == 0.0


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_to_another_host_is_not_followed(serve, replies, key, status):
    thief = serve()
    service = serve(
        in_turn(replies.Reply(status=status, headers={"Location": f"{thief.url}/v1/images/edits"}))
    )
    with pytest.raises(StoppedError, match="redirects are not followed"):
        only(openai(service))
    assert thief.asked == []


def test_a_redirect_of_an_image_is_not_followed_either(serve, replies, key):
    thief = serve()
    pictures = serve(in_turn(replies.Reply(status=302, headers={"Location": thief.url})))
    body = json.dumps({"data": [{"url": f"{pictures.url}/a.png"}]}).encode()
    answer = only(openai(serve(in_turn(replies.Reply(body=body)))))
    assert answer.reason == "bad_reply"
    assert thief.asked == []


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/a.png", "data:,x"])
def test_an_image_is_fetched_over_http_only(serve, replies, key, url):
    body = json.dumps({"data": [{"url": url}]}).encode()
    answer = only(openai(serve(in_turn(replies.Reply(body=body)))))
    assert answer.reason in ("bad_reply", "not_an_image")
