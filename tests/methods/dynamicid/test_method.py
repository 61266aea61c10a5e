import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from idbench.methods.conformance.kit import check_named
from idbench.methods.dynamicid.method import DynamicID, people_of
from idbench.methods.protocol import Failure, Method, Person, Reference, Request
from idbench.methods.registry import build, method_info


def reference(image, person=0, **settings):
    return Reference(image=image, sha256="0", person=person, **settings)


def request_of(*references, people=(), seed=1, prompt="a person", **settings):
    return Request(
        case_id="c1",
        sample=0,
        seed=seed,
        prompt=prompt,
        references=references,
        people=people,
        **settings,
    )


@pytest.fixture(scope="module")
def method(tiny_files):
    weights = tiny_files.base.parent
    return build(
        "dynamicid",
        {"weights": str(weights), "num_inference_steps": 2, "height": 64, "width": 64},
    )


@pytest.fixture(scope="module")
def black():
    return Image.new("RGB", (64, 64))


def test_it_is_a_method_of_the_registry(method):
    assert isinstance(method, Method)
    assert isinstance(method, DynamicID)
    info = method_info("dynamicid")
    assert set(info.kinds) == method.capabilities.kinds
    assert info.extras == ("methods",)


def test_people_of_a_request(astronaut, black):
    boxes = (0.55, 0.1, 0.9, 0.6), (0.1, 0.2, 0.45, 0.6)
    request = request_of(
        reference(black, 1, face_box=(1.0, 2.0, 3.0, 4.0)),
        reference(astronaut, 0),
        reference(black, 1),
        reference(black, 0, role="style"),
        people=(
            Person(person=1, expression="sad", orientation="front", box=boxes[0]),
            Person(person=0, orientation="up", box=boxes[1]),
        ),
    )
    first, second = people_of(request)
    assert first.references == (astronaut,)
    assert second.references == (black, black)
    assert second.face_boxes == ((1.0, 2.0, 3.0, 4.0), None)
    assert first.face_prompt == "facing up"
    assert second.face_prompt == "in a sad expression, in front view"
    assert first.box == (0.2, 0.1, 0.6, 0.45)  # y0, x0, y1, x1
    assert second.box == (0.1, 0.55, 0.6, 0.9)


def test_without_attributes_the_face_is_kept(astronaut):
    (person,) = people_of(request_of(reference(astronaut)))
    assert person.face_prompt is None
    assert person.box is None


def test_failures_are_answers_of_their_own_request(method, astronaut, black):
    box = (0.1, 0.1, 0.4, 0.6)
    requests = [
        request_of(reference(black)),
        request_of(reference(astronaut)),
        request_of(),
        request_of(reference(astronaut), width=100, height=64),
        request_of(
            reference(astronaut, 0), reference(astronaut, 1), people=(Person(person=0, box=box),)
        ),
        request_of(reference(astronaut), width=96, height=72),
    ]
    answers = method.generate(requests)
    assert [a.reason if isinstance(a, Failure) else a.size for a in answers] == [
        "no_face",
        (64, 64),
        "bad_request",
        "bad_request",
        "bad_request",
        (96, 72),
    ]
    assert "100" in answers[3].detail
    assert "1 of the 2 people" in answers[4].detail


def test_an_image_does_not_depend_on_its_batch(method, astronaut):
    mirrored = astronaut.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    requests = [
        request_of(reference(astronaut), seed=1),
        request_of(reference(mirrored), seed=2, people=(Person(expression="happy"),)),
        request_of(reference(astronaut, 0), reference(mirrored, 1), seed=3),
    ]
    together = method.generate(requests)
    alone = [method.generate([request])[0] for request in reversed(requests)][::-1]
    for first, second in zip(together, alone, strict=True):
        np.testing.assert_array_equal(np.asarray(first), np.asarray(second))


def test_shared_batches_differ_by_rounding_at_most(method, astronaut):
    shared = dataclasses.replace(method, exact_batches=False)
    requests = [request_of(reference(astronaut), seed=seed) for seed in (1, 2, 3)]
    requests.append(request_of(reference(astronaut), seed=4, width=72, height=64))
    for exact, other in zip(method.generate(requests), shared.generate(requests), strict=True):
        difference = np.abs(np.asarray(exact).astype(int) - np.asarray(other).astype(int))
        assert difference.max() <= 2


def test_a_box_moves_one_person(method, astronaut):
    early = dataclasses.replace(method, alpha=1.0)  # the layout term on all steps
    free, left, right = early.generate(
        [
            request_of(reference(astronaut), people=(Person(box=box),))
            for box in (None, (0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0))
        ]
    )
    pixels = [np.asarray(image).astype(int) for image in (free, left, right)]
    assert np.abs(pixels[0] - pixels[1]).max() > 0
    assert np.abs(pixels[1] - pixels[2]).max() > 0


def test_the_fingerprint_names_files_and_settings(method):
    fingerprint = json.loads(json.dumps(dict(method.fingerprint())))
    assert fingerprint["parameters"]["gate_threshold"] == 0.3
    assert len(fingerprint["weights"]["saa"]) == 64
    assert "expression" in fingerprint["weights"]


@pytest.mark.parametrize(
    "setting",
    [
        {"alpha": 0.5},
        {"dtype": "bfloat16"},
        {"exact_batches": False},
        {"merge_lora": False},
        {"legacy_rgb_embedding": True},
        {"source_expression": "sad"},
    ],
    ids=str,
)
def test_what_moves_a_pixel_is_in_the_fingerprint(method, setting):
    assert dataclasses.replace(method, **setting).fingerprint() != method.fingerprint()


def test_files_that_are_not_read_are_not_needed(tmp_path, tiny_files):
    for name in ("stable-diffusion-v1-5", "CLIP-ViT-H-14-laion2B-s32B-b79K", "buffalo_l"):
        (tmp_path / name).symlink_to(tiny_files.base.parent / name)
    plain = DynamicID(weights=tmp_path, saa=tiny_files.saa, use_imr=False)
    assert not any(name.startswith("imr") for name in plain.fingerprint()["weights"])
    with pytest.raises(FileNotFoundError, match=r"imr is not at .*IMR\.bin"):
        dataclasses.replace(plain, use_imr=True).fingerprint()


def test_another_file_is_another_fingerprint(tmp_path, method, tiny_files):
    other = tmp_path / "SAA.bin"
    other.write_bytes(tiny_files.saa.read_bytes() + b"\0")
    changed = dataclasses.replace(method, saa=other).fingerprint()
    assert changed["weights"]["saa"] != method.fingerprint()["weights"]["saa"]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("alpha", "2", "alpha must be in"),
        ("dtype", "int8", "the harness sets dtype"),
        ("face_crop", "round", "face_crop"),
        ("gate", "1", "no parameter 'gate'"),
    ],
)
def test_wrong_arguments_are_named(name, value, message):
    with pytest.raises(ValueError, match=message):
        build("dynamicid", {name: value})


@pytest.mark.slow
def test_the_contract_of_methods_is_kept(tiny_files):
    arguments = {"weights": str(tiny_files.base.parent), "num_inference_steps": 1}
    arguments |= {"height": 64, "width": 64}
    checks = list(check_named("dynamicid", arguments))
    assert [check.name for check in checks if check.passed is False] == []
    assert {"batch", "fresh_process", "answers_multi_id"} <= {check.name for check in checks}
