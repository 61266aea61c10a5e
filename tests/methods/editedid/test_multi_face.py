"""Whole images with one and three people, through files, method, verb and measurements."""

import argparse
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageDraw

from idbench.commands import restore
from idbench.methods.conformance.kit import check_named
from idbench.methods.editedid.config import EditedIDConfig
from idbench.methods.editedid.faces import Face, NoFaceError
from idbench.methods.editedid.jobs import EditedElement, FacePlace, Job
from idbench.methods.editedid.masks import MissingMaskError
from idbench.methods.editedid.method import EditedID
from idbench.methods.editedid.multi_face import MultiFaceEditedID
from idbench.methods.editedid.registration import RegistrationError
from idbench.methods.protocol import Edit, EditFace, Element, Failure, Method, Request
from idbench.methods.registry import build, method_info
from idbench.prompts.cases import hashed_seed
from idbench.prompts.materialise import materialise
from idbench.prompts.suites import load_suite
from idbench.requests import build_request

FAST = EditedIDConfig(num_inference_steps=2, null_mode="prompt")
BOXES = [(40, 40, 100, 100), (160, 60, 230, 130), (300, 30, 360, 90)]


def scene(seed, size=(400, 200)):
    noise = np.random.default_rng(seed).integers(0, 256, (10, 20, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


def band(*boxes, size=(400, 200)):
    """Glasses: a bar across the upper third of each box."""
    mask = Image.new("L", size)
    for x0, y0, x1, y1 in boxes:
        height = (y1 - y0) // 3
        ImageDraw.Draw(mask).rectangle((x0, y0 + height // 2, x1, y0 + height), fill=255)
    return mask


def job(faces=1, **changes):
    boxes = BOXES[:faces]
    return Job(
        **{
            "original": scene(0),
            "edited": scene(1),
            "elements": (EditedElement(text="glasses", mask=band(*boxes)),),
            "places": tuple(FacePlace(person=i, edited_box=box) for i, box in enumerate(boxes)),
            **changes,
        }
    )


@pytest.fixture(scope="module")
def restorer(pipeline):
    return MultiFaceEditedID(pipeline)


def test_three_people_are_restored_where_they_stand(restorer):
    (result,) = restorer.restore([job(3)], FAST)
    assert result.image.size == (400, 200)
    assert [face.person for face in result.faces] == [0, 1, 2]
    before, after = np.asarray(job().edited), np.asarray(result.image)
    changed = (before != after).any(-1)
    for x0, y0, x1, y1 in BOXES:
        assert changed[(y0 + y1) // 2, (x0 + x1) // 2]
    crops = np.zeros_like(changed)
    for face in result.faces:
        crop = face.crop
        crops[crop.top : crop.top + crop.side, crop.left : crop.left + crop.side] = True
    assert not changed[~crops].any()


def test_faces_of_several_images_pass_together(restorer):
    """On images: batches, chunks and company change nothing but the last bits."""
    jobs = [job(2), job(1, original=scene(2), edited=scene(3))]
    together = restorer.restore(jobs, FAST)
    chunked = restorer.restore(jobs, replace(FAST, max_faces_per_batch=1))
    alone = [restorer.restore([one], FAST)[0] for one in jobs]
    for others in (chunked, alone):
        for ours, theirs in zip(together, others, strict=True):
            difference = np.asarray(ours.image).astype(int) - np.asarray(theirs.image).astype(int)
            assert np.abs(difference).max() <= 1


def test_each_face_keeps_its_own_elements(restorer):
    elements = (
        EditedElement(text="glasses", mask=band(BOXES[0])),
        EditedElement(text="red cap", mask=band(BOXES[1])),
    )
    prepared = restorer.prepare(job(3, elements=elements), FAST)
    assert [face.pair.prompts.elements_i for face in prepared.faces] == [
        ("glasses",),
        ("red cap",),
        (),
    ]
    assert [face.pair.prompts.target for face in prepared.faces] == [
        "a photo of a face with glasses",
        "a photo of a face with red cap",
        "a photo of a face",
    ]


def test_two_masks_of_one_element_are_united(restorer):
    left, right = (40, 40, 60, 100), (80, 40, 100, 100)
    elements = tuple(EditedElement(text="earrings", mask=band(box)) for box in (left, right))
    (face,) = restorer.prepare(job(elements=elements), FAST).faces
    (whole,) = restorer.prepare(
        job(elements=(EditedElement(text="earrings", mask=band(left, right)),)), FAST
    ).faces
    assert np.array_equal(face.pair.mask_i, whole.pair.mask_i)
    assert face.pair.prompts.elements_i == ("earrings",)


def test_masks_follow_the_crop(restorer):
    (face,) = restorer.prepare(job(), FAST).faces
    # Crop: side 1.8 * 60 = 108 around (70, 70), so (16, 16); the bar is y 50 to 60 of x 40 to 100.
    scale = 64 / 108
    rows, columns = np.nonzero(face.pair.mask_i)
    assert rows.min() == pytest.approx((50 - 16) * scale, abs=1.5)
    assert rows.max() == pytest.approx((61 - 16) * scale, abs=1.5)
    assert columns.min() == pytest.approx((40 - 16) * scale, abs=1.5)
    # An oval of 60 x 60 pixels.
    assert face.pair.mask_o.sum() == pytest.approx(np.pi * 30**2 * scale**2, rel=0.06)


def test_the_original_is_registered_to_the_edited_face(restorer):
    """A bright square on the original's face lands on the edited face."""
    original = Image.new("RGB", (400, 200))
    original.paste((255, 255, 255), (260, 60, 300, 100))
    place = FacePlace(person=0, original_box=(220, 20, 340, 140), edited_box=(40, 40, 100, 100))
    (face,) = restorer.prepare(job(original=original, places=(place,)), FAST).faces
    bright = np.argwhere(np.asarray(face.pair.original)[..., 0] > 128)
    # The face is in the middle of the crop in both images.
    np.testing.assert_allclose(bright.mean(0), [31.5, 31.5], atol=1.0)
    assert face.registration_error == pytest.approx(0.0, abs=1e-9)


def test_identity_masks_are_registered_with_the_original(restorer):
    mask = Image.new("L", (400, 200))
    mask.paste(255, (260, 60, 300, 100))
    place = FacePlace(person=0, original_box=(220, 20, 340, 140), edited_box=(40, 40, 100, 100))
    wanted = job(places=(place,), identity=("face", "beard"), identity_masks=(("beard", mask),))
    (face,) = restorer.prepare(replace(wanted, identity=("beard",)), FAST).faces
    np.testing.assert_allclose(np.argwhere(face.pair.mask_o).mean(0), [31.5, 31.5], atol=1.0)
    both = restorer.prepare(wanted, FAST).faces[0].pair
    assert both.prompts.original == "a photo of a face with beard"
    assert both.prompts.elements_o == ("face", "beard")


def turned_face(box):
    x0, y0, x1, y1 = box
    upright = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]])
    return Face(box=box, landmarks=np.array([x0, y0]) + upright * (x1 - x0, y1 - y0))


def test_a_face_that_does_not_fit_is_left_and_reported(pipeline):
    good, bad = turned_face(BOXES[0]), turned_face(BOXES[1])
    profile = replace(
        bad, landmarks=bad.landmarks + np.array([[0, 0], [0, 0], [30, 0], [0, 0], [0, 0]])
    )
    answers = iter([[good, bad], [good, profile]])
    several = MultiFaceEditedID(pipeline, detector=lambda image: next(answers))
    prepared = several.prepare(job(places=()), FAST)
    assert [face.person for face in prepared.faces] == [0]
    assert prepared.skipped[0].startswith("person 1: after registration")
    answers = iter([[bad], [profile]])
    with pytest.raises(RegistrationError):
        several.prepare(job(places=()), FAST)


def test_a_restorer_sharpens_the_edited_image_first(pipeline):
    seen = []

    def sharpen(image):
        seen.append(image.size)
        return image.resize((800, 400)).convert("L")

    prepared = MultiFaceEditedID(pipeline, restorer=sharpen).prepare(job(), FAST)
    assert seen == [(400, 200)]
    assert prepared.edited.size == (400, 200)
    assert prepared.edited.mode == "RGB"
    grey = np.asarray(prepared.edited)
    assert (grey[..., 0] == grey[..., 1]).all()


def test_an_element_without_mask_or_parser_is_an_error(restorer):
    with pytest.raises(MissingMaskError, match="'hat' and no face parser"):
        restorer.prepare(job(elements=(EditedElement(text="hat"),)), FAST)


class HalfParser:
    """Calls the upper half of every crop a hat and the lower a face."""

    name = "half"
    labels = ("background", "face", "hat")

    def __call__(self, image, face):
        labels = np.ones((image.height, image.width), dtype=np.int64)
        labels[: image.height // 2] = 2
        return labels


def test_a_parser_finds_elements_on_both_sides(pipeline):
    several = MultiFaceEditedID(pipeline, parser=HalfParser())
    wanted = job(elements=(EditedElement(text="red cap"),))
    (face,) = several.prepare(wanted, FAST).faces
    assert face.pair.mask_i[:32].all()
    assert not face.pair.mask_i[32:].any()
    assert np.array_equal(face.pair.mask_o, ~face.pair.mask_i)


def test_center_crop_takes_the_middle_of_both(restorer):
    """The preprocessing of null-text inversion, for parity."""
    config = replace(FAST, preprocess="center_crop")
    (face,) = restorer.prepare(job(), config).faces
    assert (face.crop.left, face.crop.top, face.crop.side) == (100, 0, 200)
    expected = job().edited.crop((100, 0, 300, 200)).resize((64, 64), Image.Resampling.LANCZOS)
    assert face.pair.intermediate.tobytes() == expected.tobytes()


def test_nobody_to_restore(restorer):
    with pytest.raises(NoFaceError):
        restorer.prepare(job(places=()), FAST)


# The method.

SETTINGS = {"num_inference_steps": 2, "null_mode": "prompt", "detector": "none"}


@pytest.fixture(scope="module")
def method(tiny_model):
    return EditedID(base=tiny_model, **SETTINGS)


def request(**changes):
    elements = tuple(
        Element(text=text, mask=band(box), person=index)
        for index, (text, box) in enumerate(zip(("glasses", "red cap"), BOXES[:2], strict=True))
    )
    edit = Edit(
        original=scene(0),
        edited=scene(1),
        elements=elements,
        faces=tuple(
            EditFace(person=i, original_box=box, edited_box=box) for i, box in enumerate(BOXES[:2])
        ),
    )
    return Request(
        case_id="c0",
        sample=0,
        seed=1,
        prompt="Put glasses and a cap on them.",
        kind="edit_restoration",
        edit=replace(edit, **changes),
    )


def test_requests_are_answered_in_order_and_failures_stand_alone(method):
    assert isinstance(method, Method)
    no_edit = replace(request(), edit=None)
    faceless = request(faces=())
    unmasked = request(elements=(Element(text="hat"),))
    endless = request(elements=(Element(text="very long " * 10 + "hat", mask=band(BOXES[0])),))
    blank = request(elements=(Element(text=" ", mask=band(BOXES[0])),))
    first, second, third, fourth, fifth, sixth, last = method.generate(
        [request(), no_edit, faceless, unmasked, endless, blank, request()]
    )
    assert first.tobytes() == last.tobytes()
    assert first.size == (400, 200)
    assert [answer.reason for answer in (second, third, fourth, fifth, sixth)] == [
        "bad_request",
        "no_face",
        "no_mask",
        "bad_prompt",
        "bad_request",
    ]
    assert isinstance(second, Failure)


def test_latents_that_are_no_numbers_fail_their_request_alone(tiny_model):
    broken = EditedID(base=tiny_model, **SETTINGS, join_requests=True)
    plain = broken.faces.pipeline.encode

    def encode(pairs, config):
        encoded = plain(pairs, config)
        for index, one in enumerate(pairs):
            if not np.asarray(one.original).any():
                encoded.latents[index] = float("nan")
        return encoded

    broken.faces.pipeline.encode = encode
    black = request(original=Image.new("RGB", (400, 200)))
    good, bad = broken.generate([request(), black])
    assert isinstance(good, Image.Image)
    assert bad.reason == "not_finite"


def test_people_who_are_not_to_be_restored_stay_as_they_are(method):
    faces = request().edit.faces
    (image,) = method.generate([request(faces=(faces[0], replace(faces[1], restore=False)))])
    before, after = np.asarray(scene(1)), np.asarray(image)
    assert np.array_equal(before[:, 150:], after[:, 150:])
    assert not np.array_equal(before[:, :150], after[:, :150])


def test_fingerprint_tells_settings_and_weights_apart(method, tiny_model, tmp_path):
    first = json.dumps(method.fingerprint(), sort_keys=True)
    assert first == json.dumps(EditedID(base=tiny_model, **SETTINGS).fingerprint(), sort_keys=True)
    other = EditedID(base=tiny_model, **{**SETTINGS, "w_init": 0.06})
    assert first != json.dumps(other.fingerprint(), sort_keys=True)
    digests = method.fingerprint()["weights"]["base"]
    assert set(digests) == {"vae", "unet", "text_encoder", "tokenizer", "scheduler"}
    assert all(len(value) == 64 for value in digests.values())


def test_absent_weights_say_how_to_get_them(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"hf download CompVis.*base=PATH"):
        EditedID(weights=tmp_path).fingerprint()
    with pytest.raises(FileNotFoundError, match=r"facer.*parser_file=PATH"):
        _ = EditedID(weights=tmp_path, parser="farl")._file("farl")


def test_registered_by_name(tiny_model):
    assert method_info("editedid").kinds == ("edit_restoration",)
    built = build("editedid", {"base": str(tiny_model), "overlap": "[0.3,0.7]"})
    assert built.overlap == (0.3, 0.7)
    with pytest.raises(ValueError, match="w_init must be in"):
        build("editedid", {"base": str(tiny_model), "w_init": "0.7"})


@pytest.mark.parametrize("mode", ["prompt", "optimised"])
def test_tiny_edit_from_suite_to_image(tiny_model, tmp_path, mode):
    """All six cases of the bundled suite through requests, real files and real loaders."""
    pytest.importorskip("skimage")
    suite = load_suite("tiny-edit", data_root=tmp_path)
    materialise(suite, tmp_path)
    requests = [
        build_request(case, 0, hashed_seed(case.case_id, 0), data_root=tmp_path)
        for case in suite.cases
    ]
    settings = {**SETTINGS, "null_mode": mode, "null_inner_steps": 1}
    answers = EditedID(base=tiny_model, **settings).generate(requests)
    for request, image in zip(requests, answers, strict=True):
        before, after = np.asarray(request.edit.edited), np.asarray(image)
        x0, y0, x1, y1 = (round(edge) for edge in request.edit.faces[0].edited_box)
        assert (before != after)[y0:y1, x0:x1].any()
        # The crop is 1.8 faces of 107 pixels around (223.5, 117.5).
        beyond = np.ones(before.shape[:2], dtype=bool)
        beyond[14:222, 120:328] = False
        assert np.array_equal(before[beyond], after[beyond])


# The conformance kit measures with scikit-image's astronaut, or with drawings.
@pytest.mark.slow
def test_conformance(tiny_model, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # sums in another order round otherwise
    settings = {**SETTINGS, "base": str(tiny_model)}
    checks = list(check_named("editedid", settings))
    assert [check.name for check in checks if check.passed is False] == []
    assert sum(check.passed is True for check in checks) >= 10


# The verb.


@pytest.fixture
def files(tmp_path):
    scene(0).save(tmp_path / "a.png")
    scene(1).save(tmp_path / "b.png")
    band(BOXES[0]).save(tmp_path / "glasses.png")
    return tmp_path


def verb(files, tiny_model, *extra):
    parser = argparse.ArgumentParser()
    restore.add_arguments(parser)
    common = ["--original", files / "a.png", "--edited", files / "b.png", "--out", files / "c.png"]
    common += ["--base", tiny_model, "--set", "detector=none", "--steps", "2", "--fast"]
    return restore.run(parser.parse_args([str(word) for word in (*common, *extra)]))


def test_verb_writes_the_result_and_says_what_it_did(files, tiny_model, capsys):
    arguments = ["--box", "40,40,100,100", "--keep", "glasses"]
    arguments += ["--mask", f"glasses={files / 'glasses.png'}"]
    assert verb(files, tiny_model, *arguments, "--reconstructions", files / "out") == 0
    with Image.open(files / "c.png") as image:
        assert image.size == (400, 200)
    assert sorted(path.name for path in (files / "out" / "face-0").iterdir()) == [
        "edited-rebuilt.png",
        "edited.png",
        "original-rebuilt.png",
        "original.png",
        "restored.png",
    ]
    told = capsys.readouterr().out
    assert told.startswith("face 0: 108 px crop, one frame, rebuilt at ")
    assert "the autoencoder alone gives" in told
    assert told.endswith(f"wrote {files / 'c.png'}\n")


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--mask", "hat=glasses.png"], "--mask for hat, which no --keep names"),
        (["--keep", "hat", "--box", "40,40,100,100"], "'hat' and no face parser"),
        ([], "no face detector and no known place"),
        (["--set", "w_init"], "--set takes KEY=VALUE"),
        (["--set", "colour=red"], "no parameter 'colour'"),
        (["--restorer", "json"], "MODULE:FUNCTION"),
        (["--restorer", "json:sharpen"], "no function 'json:sharpen'"),
    ],
)
def test_verb_refuses_what_it_cannot_use(files, tiny_model, extra, message):
    with pytest.raises(ValueError, match=message):
        verb(files, tiny_model, *extra)
    assert not (files / "c.png").exists()


@pytest.mark.parametrize("box", ["1,2,3", "a,b,c,d", "5,5,5,9"])
def test_verb_refuses_boxes_that_are_none(files, tiny_model, box, capsys):
    with pytest.raises(SystemExit):
        verb(files, tiny_model, "--box", box)
    assert "box" in capsys.readouterr().err
