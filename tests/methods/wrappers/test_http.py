"""A hosted model that behaves well and badly."""

import base64
import io
import json
import socket
import textwrap
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from idbench.methods.conformance.kit import check_named
from idbench.methods.conformance.sample_requests import drawn_portrait, sound_request
from idbench.methods.protocol import Failure
from idbench.methods.registry import build
from idbench.methods.stopped import StoppedError
from idbench.methods.wrappers import hosted_mapping, transport

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


# What is sent


def test_edits_are_sent_as_openai_documents_them(serve, key):
    service = serve()
    asked = replace(sound_request("multi_id", PAIR), width=None, height=None)
    image = only(openai(service), asked)
    (sent,) = service.asked
    assert (sent.method, sent.path) == ("POST", "/v1/images/edits")
    assert sent.headers["authorization"] == f"Bearer {key}"
    assert sent.headers["content-type"].startswith("multipart/form-data; boundary=")
    assert sent.fields["model"] == "local-1"
    assert sent.fields["prompt"] == asked.prompt
    assert sent.fields["n"] == "1"
    assert sent.fields["size"] == "1024x1024"
    assert len(sent.fields["image[]"]) == 2
    for picture, reference in zip(sent.pictures, asked.references, strict=True):
        np.testing.assert_array_equal(np.asarray(picture), np.asarray(reference.image))
    assert image.size == (1024, 1024)


def test_the_prompt_alone_goes_to_the_other_endpoint(serve, key):
    service = serve()
    method = openai(service, references=False)
    assert isinstance(only(method), Image.Image)
    (sent,) = service.asked
    assert sent.path == "/v1/images/generations"
    assert sent.fields == {
        "model": "local-1",
        "prompt": request().prompt,
        "size": "1024x1024",
        "n": 1,
        "background": "opaque",
    }
    assert not method.capabilities.uses_references
    assert method.fingerprint() != openai(service).fingerprint()


def test_an_edit_sends_the_original_and_the_instruction(serve, key):
    service = serve()
    asked = sound_request("edit_restoration", PAIR)
    assert isinstance(only(openai(service), asked), Image.Image)
    (sent,) = service.asked
    assert sent.fields["prompt"] == "add a red headband"
    np.testing.assert_array_equal(np.asarray(sent.pictures[0]), np.asarray(asked.edit.original))


@pytest.mark.parametrize(
    ("size", "nearest"),
    [((1200, 800), "1536x1024"), ((500, 900), "1024x1536"), ((300, 320), "1024x1024")],
)
def test_the_nearest_size_is_asked_for_and_the_answer_cropped(serve, key, size, nearest):
    service = serve()
    image = only(openai(service), request(width=size[0], height=size[1]))
    assert service.asked[0].fields["size"] == nearest
    assert image.size == size


def test_an_address_in_place_of_the_image_is_fetched_without_the_key(serve, replies, key):
    pictures = serve(lambda asked, number, handler: replies.Reply(body=replies.png(PAIR[0].image)))
    body = json.dumps({"data": [{"url": f"{pictures.url}/a.png"}]}).encode()
    service = serve(in_turn(replies.Reply(body=body)))
    image = only(openai(service))
    np.testing.assert_array_equal(np.asarray(image), np.asarray(PAIR[0].image))
    assert "authorization" not in pictures.asked[0].headers


# The contract


def failed(name, args):
    found = list(check_named(name, args, pair=PAIR))
    assert any(entry.name == "fresh_process" or entry.name == "seed" for entry in found)
    return [entry for entry in found if entry.passed is False]


def test_openai_passes_the_check(serve, key):
    args = {"model": "local-1", "base_url": f"{serve().url}/v1", "key_env": "LOCAL_KEY"}
    assert failed("http:openai", args) == []


def test_a_server_that_copies_openai_is_named_by_its_address(serve, key):
    service = serve()
    method = build(f"http:{service.url}/v1", {"model": "m", "key_env": ""})
    assert isinstance(only(method), Image.Image)
    assert "authorization" not in service.asked[0].headers


def test_a_seeded_service_passes_the_check_to_the_pixel(serve, key, tmp_path):
    mapping = tmp_path / "seeded.yaml"
    mapping.write_text(SEEDED.format(url=serve().url))
    assert failed(f"http:{mapping}", {}) == []


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


# Pace


def test_no_more_calls_at_a_time_than_allowed(serve, replies, key):
    def behave(asked, number, handler):
        time.sleep(0.1)
        return replies.picture(asked)

    service = serve(behave)
    answers = openai(service, concurrency=3).generate([request(n) for n in range(8)])
    assert all(isinstance(answer, Image.Image) for answer in answers)
    assert service.most_busy == 3


def test_answers_come_in_the_order_of_the_requests(serve, replies, key):
    def behave(asked, number, handler):
        time.sleep(0.1 if number == 0 else 0.0)
        return replies.picture(asked)

    prompts = ["first", "second", "third"]
    service = serve(behave)
    together = openai(service).generate([request(prompt=prompt) for prompt in prompts])
    alone = [only(openai(service), request(prompt=prompt)) for prompt in prompts]
    assert [image.tobytes() for image in together] == [image.tobytes() for image in alone]


def test_calls_keep_to_the_rate(serve, key):
    service = serve()
    openai(service, requests_per_minute=600, concurrency=4).generate([request(n) for n in range(5)])
    times = sorted(asked.at for asked in service.asked)
    assert times[-1] - times[0] > 0.38  # five calls, a tenth of a second apart


# Money


def test_the_ceiling_is_never_passed_whatever_the_concurrency(serve, key):
    service = serve()
    method = openai(service, price_per_image=0.1, cost_ceiling=0.3, concurrency=8)
    with pytest.raises(StoppedError, match=r"0\.3000 of 0\.3000 are spent"):
        method.generate([request(n) for n in range(12)])
    assert len(service.asked) == 3
    assert method.spending.total() == pytest.approx(0.3)


def test_what_was_paid_for_is_not_asked_again(serve, key, tmp_path):
    service = serve()
    requests = [request(n) for n in range(3)]
    first = openai(service, price_per_image=0.1)
    first.keep_in(tmp_path / "kept")
    before = first.generate(requests)
    second = openai(service, price_per_image=0.1)  # as in another process
    second.keep_in(tmp_path / "kept")
    after = second.generate([*requests, request(3)])
    assert [image.tobytes() for image in after[:3]] == [image.tobytes() for image in before]
    assert len(service.asked) == 4
    assert second.spending.total() == pytest.approx(0.4)


def test_two_samples_of_equal_words_are_two_images(serve, key, tmp_path):
    service = serve()
    method = openai(service)
    method.keep_in(tmp_path / "kept")
    method.generate([request(), request(sample=1)])
    assert len(service.asked) == 2


def test_a_damaged_kept_answer_is_asked_again(serve, key, tmp_path):
    service = serve()
    method = openai(service)
    method.keep_in(tmp_path / "kept")
    before = only(method)
    (kept,) = (tmp_path / "kept").glob("*.answer")
    kept.write_bytes(kept.read_bytes()[:1000])
    assert only(method).tobytes() == before.tobytes()
    assert len(service.asked) == 2


# The key


def test_a_missing_key_stops_the_run_and_names_the_variable(serve):
    service = serve()
    with pytest.raises(StoppedError, match="set LOCAL_KEY to the key of the service"):
        only(openai(service))
    assert service.asked == []


@pytest.mark.parametrize("key", ["sk-with\nnewline-in-it", "sk-with-…-dots"])
def test_a_key_that_no_header_carries_is_not_repeated(serve, monkeypatch, key):
    monkeypatch.setenv("LOCAL_KEY", key)
    with pytest.raises(StoppedError, match="characters that no header can carry") as caught:
        only(openai(serve()))
    assert "sk-with" not in str(caught.value)


def test_a_newline_after_the_key_does_not_matter(serve, monkeypatch):
    monkeypatch.setenv("LOCAL_KEY", "sk-from-a-file\n")
    service = serve()
    assert isinstance(only(openai(service)), Image.Image)
    assert service.asked[0].headers["authorization"] == "Bearer sk-from-a-file"


@pytest.mark.parametrize("status", [200, 400, 401, 429, 500, 302])
@pytest.mark.parametrize("ahead", [0, 120, 285])  # a message is cut off after 300
def test_a_service_that_repeats_the_key_is_not_believed(serve, replies, key, status, ahead):
    spelled = " ".join([key, json.dumps(key), base64.b64encode(key.encode()).decode()])
    body = b"x" * ahead + spelled.encode()
    service = serve(in_turn(replies.Reply(status=status, body=body)))
    try:
        said = repr(only(openai(service, retries=0)))
    except StoppedError as error:
        said = str(error)
    assert key[:12] not in said
    assert base64.b64encode(key.encode()).decode()[:12] not in said


@pytest.mark.parametrize(
    "args",
    [
        {"key_env": "sk-Live-123"},
        {"base_url": "https://me:sk-Live-123@example.com/v1"},
        {"base_url": "https://example.com/v1?key=sk-Live-123"},
        {"base_url": "https://example.com:sk-Live-123/v1"},
    ],
)
def test_a_key_in_the_wrong_place_is_refused_and_not_repeated(args):
    with pytest.raises(ValueError, match=r"key_env|base_url") as caught:
        build("http:openai", {"model": "m", **args})
    assert "sk-Live" not in str(caught.value)


def test_a_key_in_the_mapping_is_refused(serve, key, tmp_path):
    service = serve()
    mapping = tmp_path / "seeded.yaml"
    text = SEEDED.format(url=service.url).replace(
        "path: /make", f"path: /make\n  constants: {{token: {key}}}", 1
    )
    mapping.write_text(text)
    with pytest.raises(StoppedError, match="hold the key itself; keep it in LOCAL_KEY"):
        only(build(f"http:{mapping}"))
    assert service.asked == []


def test_a_key_does_not_travel_in_the_clear(key):
    method = build(
        "http:openai",
        {"model": "m", "base_url": "http://192.0.2.1/v1", "key_env": "LOCAL_KEY", "timeout": 0.5},
    )
    with pytest.raises(StoppedError, match=r"not sent to http://192\.0\.2\.1/v1 without https"):
        only(method)


def test_this_machine_is_not_asked_through_a_proxy(serve, key, monkeypatch):
    proxy, service = serve(), serve()
    monkeypatch.setenv("http_proxy", proxy.url)
    monkeypatch.delenv("no_proxy", raising=False)
    transport._opener.cache_clear()
    assert isinstance(only(openai(service)), Image.Image)
    assert proxy.asked == []


# Arguments


@pytest.mark.parametrize(
    ("name", "args", "error", "message"),
    [
        ("http:opnai", {}, LookupError, "unknown service 'opnai'; known: openai"),
        ("http:no/such.yaml", {}, FileNotFoundError, "there is no mapping no/such.yaml"),
        ("http:openai", {}, ValueError, "needs the name of a model; set model=NAME"),
        ("http:openai", {"model": "m", "concurrency": 0}, ValueError, "concurrency must be pos"),
        ("http:openai", {"model": "m", "retries": -1}, ValueError, "retries must be 0 or more"),
        ("http:openai", {"model": "m", "cost_ceiling": 1}, ValueError, "set price_per_image"),
        ("http:openai", {"model": "m", "base_url": "ftp://x"}, ValueError, "must be http or"),
        ("http:openai", {"model": "m", "requests_per_minute": 0}, ValueError, "must be positive"),
    ],
)
def test_wrong_arguments_are_explained(name, args, error, message):
    with pytest.raises(error, match=message):
        build(name, args)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("name: seeded", "name: seeded\ncolour: red", "colour: Unexpected keyword"),
        ("prompt: prompt", "prompt: promt", "pictures.inputs.prompt: Input should be 'prompt'"),
        (", images: images_data_url", "", "pictures.inputs sends no picture"),
        ("images_data_url", "image_files", "files need body: multipart"),
        ("image: data.0.b64_json", "encoding: url", "answer.image is needed for url"),
        ("LOCAL_KEY", "sk-live", "key_env: String should match"),
        ("name: seeded", "name: [", "is not YAML"),
    ],
)
def test_a_wrong_mapping_is_explained(tmp_path, before, after, message):
    mapping = tmp_path / "m.yaml"
    text = SEEDED.format(url="http://127.0.0.1:1")
    assert before in text
    mapping.write_text(text.replace(before, after, 1))
    with pytest.raises(ValueError, match=f"m.yaml.*{message}"):
        build(f"http:{mapping}")


def test_the_mapping_of_the_documentation_is_one(tmp_path):
    """The example of the module, with the part for tickets, is read as it stands."""
    blocks = [part for part in hosted_mapping.__doc__.split("\n\n") if part.startswith("    ")]
    path = tmp_path / "documented.yaml"
    path.write_text("\n".join(textwrap.dedent(block) for block in blocks))
    mapping = hosted_mapping.read_mapping(str(path))
    assert mapping.price_per_image == 0.04
    assert mapping.poll.done == ("Ready",)


def test_a_count_that_cannot_be_kept_stops_the_run(serve, key, tmp_path):
    service = serve()
    (tmp_path / "kept").write_text("a file where a folder should be")
    method = openai(service, price_per_image=0.1)
    method.keep_in(tmp_path / "kept")
    with pytest.raises(StoppedError, match="the count of money cannot be kept"):
        only(method)
    assert service.asked == []


def test_every_promise_about_money_and_speed_is_outside_of_the_fingerprint(serve, key):
    service = serve()
    plain = openai(service).fingerprint()
    assert openai(service, concurrency=9, price_per_image=3.0, retries=0).fingerprint() == plain
    assert openai(service, as_of="2026-11").fingerprint() != plain
    assert openai(service, model="local-2").fingerprint() != plain
    assert "LOCAL_KEY" not in json.dumps(plain)
