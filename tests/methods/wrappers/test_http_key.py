"""The key of a hosted model: where it goes, and where it never goes."""

import base64
import json
from dataclasses import replace

import pytest
from PIL import Image

from idbench.methods.conformance.sample_requests import drawn_portrait, sound_request
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
