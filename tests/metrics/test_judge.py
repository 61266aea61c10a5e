"""The judge, against a real endpoint on this machine."""

import base64
import io
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image

from idbench.metrics.judge import (
    INSTRUCTIONS,
    Judge,
    JudgeError,
    JudgeSettings,
    score_of,
    scores_in,
)
from idbench.metrics.protocol import Missing


class Endpoint(ThreadingHTTPServer):
    """Answers with what `replies` hold, in turn, and keeps what it was asked."""

    def __init__(self):
        self.replies = []
        self.asked = []
        self.keys = []
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_POST(self):
        assert self.path == "/v1/chat/completions"
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append(json.loads(body))
        self.server.keys.append(self.headers.get("Authorization"))
        reply = self.server.replies.pop(0)
        status, message = reply if isinstance(reply, tuple) else (200, reply)
        answer = {"choices": [{"message": message}]} if status == 200 else {"error": message}
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def endpoint():
    with Endpoint() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def judge(endpoint, tmp_path):
    def make(passes=3, seed=0, **options):
        settings = JudgeSettings(endpoint=endpoint.url, model="m", passes=passes, seed=seed)
        return Judge(settings, tmp_path / "answers", sleep=lambda _: None, **options)

    return make


def says(text):
    return {"role": "assistant", "content": text}


IMAGES = np.random.default_rng(0).integers(0, 256, (2, 40, 30, 3), np.uint8)


@pytest.mark.golden
def test_answers_are_read_as_in_dreambench(core):
    for record in core["dreambench_parse"]:
        assert scores_in(record["text"]) == record["scores"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("It is there.\nScore: 3", 3),
        ("Score: 0", 0),
        ("Score: 4/4", 4),
        ("Score: 5", "score_out_of_range"),
        ("score: 2\nScore: 3", "unparsable_answer"),
        ("**Score**: 4", "unparsable_answer"),
        ("", "unparsable_answer"),
    ],
)
def test_one_score_from_0_to_4_is_accepted(text, found):
    score = score_of(text)
    assert (score.reason if isinstance(score, Missing) else score) == found


def test_three_answers_are_averaged_and_divided_by_four(endpoint, judge):
    endpoint.replies = [says(f"So.\nScore: {n}") for n in (4, 3, 2)]
    assert judge(api_key="k").concept_preservation(*IMAGES) == pytest.approx(0.75)
    assert [asked["seed"] for asked in endpoint.asked] == [0, 1, 2]
    assert set(endpoint.keys) == {"Bearer k"}
    first, middle, last = endpoint.asked[0]["messages"]
    assert first == {"role": "user", "content": INSTRUCTIONS["concept_preservation"]}
    assert middle["role"] == "assistant"
    assert len(last["content"]) == 2
    url = last["content"][0]["image_url"]["url"]
    assert last["content"][0]["image_url"]["detail"] == "high"
    picture = Image.open(io.BytesIO(base64.b64decode(url.partition("base64,")[2])))
    assert picture.size == (512, 512)


def test_the_prompt_is_sent_and_not_the_reference(endpoint, judge):
    endpoint.replies = [says("Score: 1")]
    assert judge(passes=1).prompt_following("a red hat", IMAGES[1]) == 0.25
    content = endpoint.asked[0]["messages"][2]["content"]
    assert content[0] == {"type": "text", "text": "Description: a red hat"}
    assert len(content) == 2


def test_an_answer_is_asked_for_once(endpoint, judge):
    endpoint.replies = [says("Score: 1"), says("Score: 2"), says("Score: 3")]
    assert judge(passes=1).concept_preservation(*IMAGES) == 0.25
    assert judge(passes=1).concept_preservation(*IMAGES) == 0.25
    assert len(endpoint.asked) == 1
    # Other pictures, another order, another question and another seed are other questions.
    assert judge(passes=1).concept_preservation(*IMAGES[::-1]) == 0.5
    assert judge(passes=1, seed=7).concept_preservation(*IMAGES) == 0.75


def test_a_refusal_is_recorded_with_its_reason(endpoint, judge):
    endpoint.replies = [{"role": "assistant", "content": None, "refusal": "I cannot judge people."}]
    found = judge(passes=1).concept_preservation(*IMAGES)
    assert isinstance(found, Missing)
    assert found.reason == "refused"
    assert "cannot judge" in found.detail


def test_an_answer_without_a_score_is_missing_and_not_averaged_away(endpoint, judge):
    endpoint.replies = [says("Score: 4"), says("I would say four."), says("Score: 4")]
    found = judge().concept_preservation(*IMAGES)
    assert isinstance(found, Missing)
    assert found.reason == "unparsable_answer"


def test_a_passing_fault_is_tried_again(endpoint, judge):
    endpoint.replies = [(500, "busy"), (429, "slow down"), says("Score: 2")]
    assert judge(passes=1).concept_preservation(*IMAGES) == 0.5


def test_a_lasting_fault_is_an_error_that_names_the_endpoint(endpoint, judge):
    endpoint.replies = [(401, "no such key")]
    with pytest.raises(JudgeError, match=r"chat/completions answers 401 .*no such key"):
        judge(passes=1).concept_preservation(*IMAGES)
    endpoint.replies = [(500, "busy")] * 4
    with pytest.raises(JudgeError, match="failed 4 times"):
        judge(passes=1).concept_preservation(*IMAGES)


def test_the_fingerprint_names_the_model_and_not_the_place():
    here = JudgeSettings(endpoint="http://a", model="m").fingerprint()
    there = JudgeSettings(endpoint="http://b", model="m").fingerprint()
    other = JudgeSettings(endpoint="http://a", model="n").fingerprint()
    assert here == there
    assert here != other
