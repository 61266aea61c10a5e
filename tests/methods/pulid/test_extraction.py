import numpy as np
import pytest
import torch
from PIL import Image

from idbench.methods.pulid.eva import EVATower
from idbench.methods.pulid.extraction import (
    BACKGROUND_CLASSES,
    IDExtractor,
    limit_long_edge,
    tower_input,
    whiten,
    without_identity,
)
from idbench.methods.pulid.faces import (
    FFHQ_TEMPLATE,
    DetectedFace,
    NoFaceError,
    align_face,
    box_iou,
    central_face,
    largest_face,
    parser_input,
)
from idbench.methods.pulid.weights import tower_state_dict

golden_test = pytest.mark.golden


class StubRecogniser:
    """The detections that the official run was given."""

    def __init__(self, boxes, embeddings):
        self.boxes, self.embeddings = boxes, embeddings

    def detect(self, image):
        return [DetectedFace(np.asarray(box), np.zeros((5, 2), np.float32)) for box in self.boxes]

    def embed(self, image, face):
        index = next(i for i, box in enumerate(self.boxes) if np.array_equal(box, face.box))
        return np.asarray(self.embeddings[index])

    def embed_crop(self, crop):
        return np.full(512, 0.25, np.float32)


class StubDetector:
    """A face whose landmarks lie on the template, so that alignment changes nothing."""

    def __init__(self, boxes=((0, 0, 512, 512),), landmarks=FFHQ_TEMPLATE):
        self.boxes, self.landmarks = boxes, landmarks

    def detect(self, image):
        return [
            DetectedFace(np.array(box, np.float32), self.landmarks.astype(np.float32))
            for box in self.boxes
        ]


class StubParser:
    def __init__(self, labels):
        self.fixed = labels

    def labels(self, face):
        return self.fixed[None, None].long()


@pytest.fixture(scope="module")
def reference(golden):
    return golden("pulid_id_extraction")


@pytest.fixture(scope="module")
def tower(golden):
    reference = golden("pulid_eva_tower")
    ctor = reference.meta["ctor"]
    model = EVATower(
        image_size=ctor["img_size"],
        patch_size=ctor["patch_size"],
        dim=ctor["embed_dim"],
        depth=ctor["depth"],
        heads=ctor["num_heads"],
        mlp_width=int(ctor["embed_dim"] * ctor["mlp_ratio"]),
        pretrained_grid=ctor["pt_hw_seq_len"],
    )
    state = {f"visual.{key}": value for key, value in reference.part("sd.").items()}
    model.load_state_dict(tower_state_dict(state), strict=True)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def extract(reference, tower):
    faces = sum(name.endswith(".bbox") for name in reference.tensors)
    boxes = [reference[f"in.face{i}.bbox"].numpy() for i in range(faces)]
    embeddings = [reference[f"in.face{i}.embedding"].numpy() for i in range(faces)]

    def run(*, found=True, **options):
        recogniser = StubRecogniser(boxes, embeddings) if found else StubRecogniser([], [])
        extractor = IDExtractor(
            recogniser, StubDetector(), StubParser(reference["in.parse_labels"]), tower, **options
        )
        photo = Image.fromarray(reference["in.align_face_bgr"].numpy()[..., ::-1])
        return extractor(photo)

    return run


@golden_test
def test_largest_of_three_faces_is_chosen(reference):
    faces = sum(name.endswith(".bbox") for name in reference.tensors)
    boxes = [reference[f"in.face{i}.bbox"].numpy() for i in range(faces)]
    detected = [DetectedFace(box, np.zeros((5, 2))) for box in boxes]
    assert largest_face(detected) == int(reference["out.face_index"])


@golden_test
def test_id_cond_matches(reference, extract):
    features = extract()
    torch.testing.assert_close(features.id_cond, reference["out.id_cond"], atol=1e-4, rtol=0)
    assert not features.fallback
    assert features.id_cond[0, 512:].norm().item() == pytest.approx(1, abs=1e-5)


@golden_test
def test_hidden_states_match(reference, extract):
    expected = reference.numbered("out.vit_hidden.")
    for ours, official in zip(extract().vit_hidden, expected, strict=True):
        torch.testing.assert_close(ours, official, atol=1e-4, rtol=0)


@golden_test
def test_crop_is_embedded_when_the_recogniser_finds_no_face(reference, extract):
    features = extract(found=False)
    assert features.fallback
    expected = reference["out.id_cond_no_face"]
    torch.testing.assert_close(features.id_cond, expected, atol=1e-4, rtol=0)


@golden_test
def test_unconditional_inputs_are_zeros(reference, extract):
    features = extract()
    id_cond, hidden = without_identity(features.id_cond, features.vit_hidden)
    assert torch.equal(id_cond, reference["out.id_uncond"])
    assert [h.shape for h in hidden] == [h.shape for h in features.vit_hidden]
    assert not any(h.any() for h in hidden)


@golden_test
@pytest.mark.parametrize(("name", "antialias"), [("aa", True), ("noaa", False)])
def test_tower_input_at_full_size_matches(reference, name, antialias):
    face = torch.from_numpy(reference["in.align_face_bgr"].numpy()[..., ::-1].copy())
    face = face.permute(2, 0, 1)[None].float() / 255
    whitened = whiten(face, reference["in.parse_labels"][None, None].long())
    crop = tower_input(whitened, 336, antialias)[..., 100:164, 100:164]
    expected = reference[f"out.eva336_{name}_crop"].reshape(crop.shape)
    torch.testing.assert_close(crop, expected, atol=2e-5, rtol=0)


@golden_test
def test_tower_input_matches(reference):
    face = torch.from_numpy(reference["in.align_face_bgr"].numpy()[..., ::-1].copy())
    face = face.permute(2, 0, 1)[None].float() / 255
    whitened = whiten(face, reference["in.parse_labels"][None, None].long())
    pixels = tower_input(whitened, reference.meta["eva_image_size"], True)
    torch.testing.assert_close(pixels, reference["out.eva_input"], atol=2e-5, rtol=0)
    assert sorted(BACKGROUND_CLASSES) == sorted(reference.meta["bg_labels"])


@golden_test
def test_parser_input_matches(reference):
    face = torch.from_numpy(reference["in.align_face_bgr"].numpy()[..., ::-1].copy())
    mean = parser_input(face.permute(2, 0, 1)[None].float() / 255).mean(dim=(0, 2, 3))
    expected = reference["out.parse_input_mean_per_channel"]
    torch.testing.assert_close(mean, expected, atol=1e-5, rtol=0)


def test_no_face_to_align_raises_with_the_stage():
    extractor = IDExtractor(StubRecogniser([], []), StubDetector(boxes=()), None, None)
    with pytest.raises(NoFaceError, match="no face found") as caught:
        extractor(Image.new("RGB", (64, 64)))
    assert caught.value.stage == "align"


def test_coinciding_landmarks_raise():
    with pytest.raises(NoFaceError, match="coincide"):
        align_face(np.zeros((64, 64, 3), np.uint8), np.ones((5, 2), np.float32))


def test_long_edge_is_limited_and_never_enlarged():
    # 1024/1500 = 0.68266..: 1500 -> 1024 and 1001 -> floor(683.349) = 683
    assert limit_long_edge(np.zeros((1001, 1500, 3), np.uint8)).shape == (683, 1024, 3)
    small = np.zeros((30, 20, 3), np.uint8)
    assert limit_long_edge(small) is small


def test_official_selection_may_take_two_people_and_largest_takes_one():
    # the largest box is on the left, the central one on the right of a 100 x 100 image
    left, centre = np.array((0, 0, 40, 90.0)), np.array((45, 45, 55, 55.0))
    faces = [DetectedFace(left, FFHQ_TEMPLATE), DetectedFace(centre, FFHQ_TEMPLATE)]
    assert largest_face(faces) == 0
    assert central_face(faces, 100, 100) == 1
    image = np.zeros((100, 100, 3), np.uint8)
    detector = StubDetector(boxes=(left, centre))
    for select, expected in (("official", centre), ("largest", left)):
        extractor = IDExtractor(None, detector, None, None, face_select=select)
        chosen = extractor._face_to_align(image, faces[0])
        np.testing.assert_array_equal(chosen.box, expected)


def test_largest_face_without_counterpart_raises():
    extractor = IDExtractor(
        None, StubDetector(boxes=((50, 50, 90, 90),)), None, None, face_select="largest"
    )
    largest = DetectedFace(np.array((0, 0, 45, 45.0)), FFHQ_TEMPLATE)
    with pytest.raises(NoFaceError, match=r"best IoU 0\.00") as caught:
        extractor._face_to_align(np.zeros((100, 100, 3), np.uint8), largest)
    assert caught.value.stage == "match"


def test_among_equal_areas_the_last_face_is_taken():
    box = np.array((0, 0, 10, 10.0))
    faces = [DetectedFace(box + shift, FFHQ_TEMPLATE) for shift in (0, 20, 40)]
    assert largest_face(faces) == 2


def test_iou_by_hand():
    # intersection 5 x 10 = 50, union 100 + 100 - 50
    a, b = np.array((0, 0, 10, 10.0)), np.array((5, 0, 15, 10.0))
    assert box_iou(a, b) == pytest.approx(50 / 150)


def test_alignment_equals_facexlib():
    from facexlib.utils.face_restoration_helper import FaceRestoreHelper

    rng = np.random.default_rng(5)
    image = rng.integers(0, 256, (300, 260, 3), dtype=np.uint8)
    landmarks = FFHQ_TEMPLATE * 0.4 + rng.normal(0, 2, (5, 2)) + (20, 10)
    helper = FaceRestoreHelper.__new__(FaceRestoreHelper)  # its constructor loads networks
    helper.face_template, helper.face_size, helper.pad_blur = FFHQ_TEMPLATE, (512, 512), False
    helper.all_landmarks_5, helper.affine_matrices, helper.cropped_faces = [landmarks], [], []
    helper.input_img = image
    helper.align_warp_face()
    np.testing.assert_array_equal(align_face(image, landmarks), helper.cropped_faces[0])
