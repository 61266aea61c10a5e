"""A workflow on a ComfyUI server that behaves well and badly."""

import io
import socket
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
from idbench.methods.wrappers import comfyui_server

PAIR = (drawn_portrait(0), drawn_portrait(1))


def request(number=0, **changes):
    asked = sound_request("single_id", PAIR, seed=11 + number)
    return replace(asked, **{"width": None, "height": None, **changes})


def method_of(name, comfy, **args):
    return build(name, {"url": comfy.url, "first_wait": 0.01, "timeout": 20.0, **args})


def only(method, asked=None):
    (answer,) = method.generate([asked or request()])
    return answer


# What is sent


def test_a_request_is_filled_into_the_named_nodes(comfy, workflow):
    asked = request(width=320, height=256)
    image = only(method_of(workflow(), comfy), asked)
    (graph,) = comfy.graphs
    assert graph["6"]["inputs"]["text"] == asked.prompt
    assert graph["7"]["inputs"]["text"] == "blurry"  # nobody asked for another one
    assert graph["3"]["inputs"]["seed"] == asked.seed
    assert graph["3"]["inputs"]["positive"] == ["6", 0]
    assert (graph["5"]["inputs"]["width"], graph["5"]["inputs"]["height"]) == (320, 256)
    with Image.open(io.BytesIO(comfy.inputs[graph["10"]["inputs"]["image"]])) as sent:
        np.testing.assert_array_equal(np.asarray(sent), np.asarray(asked.references[0].image))
    assert image.size == (320, 256)
    answered = np.asarray(image)[1:]
    expected = np.asarray(asked.references[0].image.resize((320, 256)))[1:]
    np.testing.assert_array_equal(answered, expected)


def test_the_interface_is_that_of_the_editor(comfy, workflow):
    only(method_of(workflow(), comfy))
    paths = [path.split("/history/")[0] for path in comfy.paths]
    assert paths[:3] == ["POST /upload/image", "GET /ws", "POST /prompt"]
    assert paths[-1] == "GET /view"
    assert any(path == "GET " for path in paths)  # /history/ID


def test_a_negative_prompt_may_be_given(comfy, workflow):
    name = workflow()
    only(method_of(name, comfy, negative_prompt="cartoon"))
    assert comfy.graphs[0]["7"]["inputs"]["text"] == "cartoon"
    plain, given = method_of(name, comfy), method_of(name, comfy, negative_prompt="cartoon")
    assert plain.fingerprint() != given.fingerprint()


def test_several_references_go_to_their_own_nodes(comfy, workflow, workflow_graph):
    graph = workflow_graph(n10="reference 2")
    graph["11"] = {
        "inputs": {"image": "a.png"},
        "class_type": "LoadImage",
        "_meta": {"title": "Reference  1"},
    }
    method = method_of(workflow(graph), comfy)
    assert method.capabilities.kinds == {"multi_id", "multi_subject"}
    assert method.capabilities.max_people == 2
    asked = replace(sound_request("multi_id", PAIR), width=None, height=None)
    assert isinstance(only(method, asked), Image.Image)
    for node, reference in (("11", asked.references[0]), ("10", asked.references[1])):
        with Image.open(io.BytesIO(comfy.inputs[comfy.graphs[0][node]["inputs"]["image"]])) as sent:
            np.testing.assert_array_equal(np.asarray(sent), np.asarray(reference.image))
    answer = only(method, request())
    assert answer.reason == "no_reference"
    assert "1 references, the workflow takes 2" in answer.detail


def test_an_edit_goes_to_its_nodes_with_its_instruction(comfy, workflow, workflow_graph):
    method = method_of(workflow(workflow_graph(n10="edited")), comfy)
    assert method.capabilities.kinds == {"edit_restoration"}
    asked = sound_request("edit_restoration", PAIR)
    assert isinstance(only(method, asked), Image.Image)
    assert comfy.graphs[0]["6"]["inputs"]["text"] == "add a red headband"
    with Image.open(io.BytesIO(comfy.inputs[comfy.graphs[0]["10"]["inputs"]["image"]])) as sent:
        np.testing.assert_array_equal(np.asarray(sent), np.asarray(asked.edit.edited))


# The contract


@pytest.mark.parametrize("titles", [{}, {"n10": "Load Image"}, {"n10": "edited"}, {"n3": "K"}])
def test_workflows_pass_the_check(comfy, workflow, workflow_graph, titles):
    comfy.inputs["example.png"] = b""
    graph = workflow_graph(**titles)
    if titles.get("n10") == "Load Image":  # the prompt alone: a base model
        del graph["10"]
    name = workflow(graph)
    if titles.get("n10") == "edited":  # an edit keeps its size
        graph["5"]["inputs"].update(width=224, height=256)
        name = workflow(graph)
    found = list(check_named(name, {"url": comfy.url, "first_wait": 0.01}, pair=PAIR))
    assert [entry for entry in found if entry.passed is False] == []
    assert "fresh_process" in {entry.name for entry in found if entry.passed}


def test_the_fingerprint_is_of_what_moves_a_pixel(comfy, workflow, workflow_graph):
    plain = method_of(workflow(), comfy).fingerprint()
    replaced = workflow_graph(n4="Some other title")
    replaced["6"]["inputs"]["text"] = "another placeholder"
    replaced["3"]["inputs"]["seed"] = 99
    replaced["10"]["inputs"]["image"] = "other.png"
    assert method_of(workflow(replaced), comfy, timeout=5.0).fingerprint() == plain
    for node, key, value in (("3", "steps", 21), ("7", "text", "ugly"), ("5", "width", 128)):
        changed = workflow_graph()
        changed[node]["inputs"][key] = value
        assert method_of(workflow(changed), comfy).fingerprint() != plain


# The WebSocket may fail


@pytest.mark.parametrize("fault", ["no_socket", "close_socket", "silent"])
def test_without_a_word_the_history_is_looked_at(comfy, workflow, monkeypatch, fault):
    monkeypatch.setattr(comfyui_server, "SILENCE", 0.1)
    monkeypatch.setattr(comfyui_server, "LOOK", 0.05)
    expected = only(method_of(workflow(), comfy))
    comfy.faults = [fault]
    assert only(method_of(workflow(), comfy)).tobytes() == expected.tobytes()
    assert comfy.faults == []
    assert len(comfy.ran) == 2


def test_the_websocket_makes_it_quick(comfy, workflow, monkeypatch):
    monkeypatch.setattr(comfyui_server, "SILENCE", 30.0)
    began = time.monotonic()
    only(method_of(workflow(), comfy))
    assert time.monotonic() - began < 5


# Exchanges may fail


@pytest.mark.parametrize(
    "fault", ["upload_500", "prompt_500", "prompt_cut", "history_500", "view_500", "view_cut"]
)
def test_an_exchange_that_fails_is_repeated(comfy, workflow, fault):
    expected = only(method_of(workflow(), comfy))
    comfy.faults = [fault]
    assert only(method_of(workflow(), comfy)).tobytes() == expected.tobytes()
    assert comfy.faults == []


@pytest.mark.parametrize("fault", ["upload_500", "prompt_500", "view_500"])
def test_an_exchange_that_keeps_failing_is_the_failure_of_its_sample(comfy, workflow, fault):
    comfy.faults = [fault] * 3
    answer = only(method_of(workflow(), comfy, retries=2))
    assert answer.reason == "server_error"
    assert "status 500" in answer.detail
    assert "(3 attempts)" in answer.detail


def test_an_answer_that_is_no_image_is_a_failure(comfy, workflow):
    comfy.faults = ["view_words"]
    answer = only(method_of(workflow(), comfy))
    assert answer.reason == "not_an_image"


def test_a_server_that_is_slow_is_told_to_stop(comfy, workflow):
    comfy.faults = ["slow"]
    method = method_of(workflow(), comfy, timeout=0.5)
    assert only(method) == Failure("timeout", "no image in 0.5 s; it was cancelled")
    assert comfy.interrupted.is_set()
    assert isinstance(only(method), Image.Image)  # and serves the next one


def test_what_waits_too_long_is_taken_out_of_the_queue(comfy, workflow):
    comfy.most = 0
    assert only(method_of(workflow(), comfy, timeout=0.3)).reason == "timeout"
    assert comfy.pending == []
    assert not comfy.interrupted.is_set()  # what runs is somebody else's


def test_what_the_server_lost_is_queued_once_more(comfy, workflow):
    comfy.faults = ["forget"]
    assert isinstance(only(method_of(workflow(), comfy)), Image.Image)
    assert len(comfy.graphs) == 2
    comfy.faults = ["forget", "forget"]
    answer = only(method_of(workflow(), comfy))
    assert answer.reason == "lost"
    assert "does not know the prompt any more" in answer.detail


# Nodes may fail


@pytest.mark.parametrize(
    ("fault", "reason", "said"),
    [
        ("error", "error", "node 'seed' (KSampler, 3): RuntimeError: shapes differ"),
        ("oom", "out_of_memory", "(KSampler, 3): OutOfMemoryError: Allocation on device"),
        ("interrupted", "interrupted", "somebody interrupted it"),
        ("no_image", "no_image", "node 'output' (SaveImage, 9) gave no image"),
        ("batch", "several_images", "gave 2 images; make its batch_size 1"),
    ],
)
def test_what_a_node_says_is_the_failure_of_its_sample(comfy, workflow, fault, reason, said):
    comfy.faults = [fault]
    method = method_of(workflow(), comfy)
    answer = only(method)
    assert answer.reason == reason
    assert said in answer.detail
    assert isinstance(only(method), Image.Image)


def test_a_node_that_the_server_has_not_got_stops_the_run(comfy, workflow, workflow_graph):
    graph = workflow_graph()
    graph["4"]["class_type"] = "PulidFluxModelLoader"
    with pytest.raises(
        StoppedError, match=r"does not take the workflow: Node 'PulidFluxModelLoader' not found"
    ):
        only(method_of(workflow(graph), comfy))


def test_node_errors_are_said_with_the_titles_of_the_nodes(comfy, workflow, workflow_graph):
    graph = workflow_graph()
    del graph["3"]["inputs"]["steps"]
    with pytest.raises(
        StoppedError,
        match=r"failed validation; node 'seed' \(KSampler, 3\): Required input is missing: steps",
    ):
        only(method_of(workflow(graph), comfy))
    assert comfy.ran == []


def test_no_server_stops_the_run_and_says_what_to_do(workflow):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    method = build(
        workflow(), {"url": f"http://127.0.0.1:{port}", "retries": 1, "first_wait": 0.01}
    )
    with pytest.raises(StoppedError, match=r"refused.*start ComfyUI there, or set url="):
        only(method)


def test_another_server_at_the_address_stops_the_run(serve, replies, workflow):
    web = serve(lambda asked, number, handler: replies.Reply(body=b"<html>hello</html>"))
    with pytest.raises(StoppedError, match="does not speak as ComfyUI does: /upload/image"):
        only(method_of(workflow(), web))
    gone = serve(lambda asked, number, handler: replies.Reply(status=404))
    with pytest.raises(StoppedError, match="does not speak as ComfyUI does"):
        only(method_of(workflow(), gone))


# A kill


def test_what_was_queued_before_a_kill_is_collected_after_it(
    comfy, workflow, tmp_path, monkeypatch
):
    def killed(*args):
        raise KeyboardInterrupt

    name = workflow()
    first, second = method_of(name, comfy), method_of(name, comfy)
    for method in (first, second):
        method.keep_in(tmp_path / "kept")
    with monkeypatch.context() as patch:
        patch.setattr(comfyui_server.ComfyServer, "wait", killed)
        with pytest.raises(KeyboardInterrupt):
            only(first)
    assert isinstance(only(second), Image.Image)
    assert len(comfy.graphs) == len(comfy.ran) == 1
    comfy.history.clear()  # a server that was restarted
    assert isinstance(only(second), Image.Image)
    assert len(comfy.graphs) == 2


# The workflow


def failing(graph, change):
    change(graph)
    return graph


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda graph: graph["9"]["_meta"].update(title="Save Image"),
            "has no nodes with the title 'output'.*its titles: Load Checkpoint, Negative Prompt",
        ),
        (
            lambda graph: graph["8"]["_meta"].update(title="Output"),
            "has 2 nodes with the title 'output', one is needed",
        ),
        (
            lambda graph: [graph[n]["_meta"].update(title="x") for n in ("6", "10")],
            "no node with the title 'prompt', 'reference' or 'edited'",
        ),
        (
            lambda graph: graph["6"]["inputs"].update(text=["12", 0]),
            r"node 'prompt' \(CLIPTextEncode, 6\) takes no prompt.*text comes from another node",
        ),
        (
            lambda graph: graph["8"]["_meta"].update(title="seed"),
            r"\(VAEDecode, 8\) takes no seed: it needs one of seed, noise_seed, value; it has samp",
        ),
        (
            lambda graph: graph["5"]["inputs"].pop("height"),
            "takes no size: it needs width and height; it has width, batch_size",
        ),
        (
            lambda graph: graph["10"]["_meta"].update(title="reference 2"),
            "nodes for the references 2; count from 1",
        ),
        (
            lambda graph: graph.update({"12": graph["10"]}),
            "2 nodes for reference 1",
        ),
        (
            lambda graph: [entry.pop("_meta") for entry in graph.values()],
            "has no titles at all; export it",
        ),
        (lambda graph: graph.update(extra=[]), r"no workflow in API format.*Export \(API\)"),
        (lambda graph: graph.clear(), "no workflow in API format"),
    ],
)
def test_a_workflow_that_lacks_something_is_explained(workflow, workflow_graph, change, message):
    with pytest.raises(ValueError, match=message):
        build(workflow(failing(workflow_graph(), change)))


def test_a_workflow_of_the_editor_is_told_from_one_for_the_api(workflow):
    saved = {
        "last_node_id": 9,
        "nodes": [{"id": 4, "type": "KSampler"}],
        "links": [],
        "version": 0.4,
    }
    with pytest.raises(ValueError, match=r"as the editor saves it; export it with Workflow > Exp"):
        build(workflow(saved))


def test_other_wrong_arguments_are_explained(workflow, workflow_graph, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no workflow none\.json"):
        build("comfyui:none.json")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(ValueError, match=r"broken\.json is not JSON"):
        build(f"comfyui:{tmp_path / 'broken.json'}")
    for args, message in (
        ({"url": "127.0.0.1:8188"}, "url must be http://HOST:PORT"),
        ({"url": "http://me:secret@127.0.0.1"}, "no user or query"),
        ({"timeout": 0}, "must be positive"),
    ):
        with pytest.raises(ValueError, match=message):
            build(workflow(), args)
    with pytest.raises(ValueError, match="no node with the title 'negative prompt'"):
        build(workflow(workflow_graph(n7="x")), {"negative_prompt": "ugly"})
