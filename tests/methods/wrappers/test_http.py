"""A hosted model that behaves well: what it is sent, how fast, and for how much."""

import json
import textwrap
import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from idbench.methods.conformance.kit import check_named
from idbench.methods.conformance.sample_requests import drawn_portrait, sound_request
from idbench.methods.registry import build
from idbench.methods.stopped import StoppedError
from idbench.methods.wrappers import hosted_mapping

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
