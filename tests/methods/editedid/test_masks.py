import numpy as np
import pytest
import torch
from PIL import Image

from idbench.methods.editedid.faces import Face
from idbench.methods.editedid.masks import (
    LABELS_OF,
    MissingMaskError,
    face_oval,
    parsed_mask,
    user_mask,
)
from idbench.methods.editedid.parsing import (
    BISENET_LABELS,
    FARL_LABELS,
    BiSeNetParser,
    FarlParser,
    face_quad,
)

LANDMARKS = np.array([[90.0, 100], [130, 100], [110, 125], [95, 145], [125, 145]])


def test_both_parsers_know_the_same_19_parts():
    assert len(set(FARL_LABELS)) == 19
    assert set(FARL_LABELS) == set(BISENET_LABELS)
    assert {label for need in LABELS_OF.values() for label in need} <= set(FARL_LABELS)


@pytest.mark.parametrize(
    ("element", "expected"),
    [
        ("black-framed glasses", {"eyeg"}),
        ("red cap", {"hat"}),
        ("eyes", {"re", "le"}),
        ("face", {"face", "nose", "re", "le", "rb", "lb", "ulip", "imouth", "llip"}),
    ],
)
def test_elements_are_found_by_their_last_known_word(element, expected):
    labels = np.arange(19).reshape(1, 19)
    mask = parsed_mask(element, labels, FARL_LABELS)
    assert {FARL_LABELS[i] for i in np.flatnonzero(mask)} == expected


def test_a_part_without_a_class_needs_a_mask_of_the_user():
    with pytest.raises(MissingMaskError, match=r"'grey beard'.*give a mask of your own"):
        parsed_mask("grey beard", np.zeros((2, 2), int), FARL_LABELS)


def test_face_oval_is_the_ellipse_in_the_box():
    mask = face_oval((20, 10, 60, 90), (100, 100))
    # Area of an ellipse with half axes 20 and 40.
    assert mask.sum() == pytest.approx(np.pi * 20 * 40, rel=0.05)
    assert mask[50, 40]
    assert not mask[12, 22]


def test_user_masks_are_scaled_and_thresholded():
    mask = user_mask(Image.fromarray(np.uint8([[0, 255], [127, 128]])), (2, 2))
    assert mask.tolist() == [[False, True], [False, True]]
    assert user_mask(Image.new("L", (10, 10), 255), (64, 64)).all()


@pytest.mark.parametrize(
    "mask",
    [
        np.array([[False, True], [True, True]]),
        np.array([[0.2, 0.7], [0.5, 1.0]]),
        np.array([[[100.0], [200.0]], [[128.0], [255.0]]]),
        np.array([[0, 1], [1, 1]]),
        torch.tensor([[[0.0, 1.0], [1.0, 1.0]]]),
        torch.tensor([[False, True], [True, True]]),
    ],
)
def test_user_masks_may_be_arrays_and_tensors(mask):
    assert user_mask(mask, (2, 2)).tolist() == [[False, True], [True, True]]


def test_arrays_of_another_shape_are_no_masks():
    with pytest.raises(ValueError, match=r"\(height, width\), got \(2, 2, 3\)"):
        user_mask(np.zeros((2, 2, 3)), (2, 2))


def test_face_quad_by_hand():
    """Upright face: x spans max(2 * 40, 1.8 * 45) = 81, centred a tenth of 45 below the eyes."""
    quad = face_quad(LANDMARKS)
    middle = np.array([110.5, 100.5 + 4.5])
    expected = middle + 81 * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    np.testing.assert_allclose(quad, expected, atol=1e-9)


class Halves(torch.nn.Module):
    """Says "face" in the upper half of the aligned square and "hair" in the lower."""

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        scores = torch.zeros(images.shape[0], 19, images.shape[2], images.shape[3])
        half = images.shape[2] // 2
        scores[:, 2, :half] = 20.0
        scores[:, 14, half:] = 20.0
        return scores, scores


# torch.jit is deprecated, and it is the form in which the parser is published.
@pytest.mark.filterwarnings(
    "ignore:`torch.jit:DeprecationWarning", "ignore:`torch.jit:FutureWarning"
)
def test_farl_labels_come_back_to_the_image(tmp_path):
    torch.jit.script(Halves()).save(tmp_path / "farl.pt")
    image = Image.new("RGB", (260, 240))
    labels = FarlParser(tmp_path / "farl.pt")(
        image, Face(box=(60, 60, 160, 190), landmarks=LANDMARKS)
    )
    assert labels.shape == (240, 260)
    x0, y0 = (round(v) for v in face_quad(LANDMARKS)[0])
    x1, y1 = (round(v) for v in face_quad(LANDMARKS)[2])
    middle = (y0 + y1) // 2
    assert (labels[y0 + 2 : middle - 2, x0 + 2 : x1 - 2] == FARL_LABELS.index("face")).all()
    assert (labels[middle + 2 : y1 - 2, x0 + 2 : x1 - 2] == FARL_LABELS.index("hair")).all()
    assert (labels[:, : x0 - 2] == 0).all()


def bisenet_state(num_class=19):
    from facexlib.parsing.bisenet import BiSeNet

    torch.manual_seed(0)
    return BiSeNet(num_class=num_class).state_dict()


def test_bisenet_is_loaded_strictly_and_labels_every_pixel(tmp_path):
    torch.save(bisenet_state(), tmp_path / "bisenet.pth")
    labels = BiSeNetParser(tmp_path / "bisenet.pth")(
        Image.effect_noise((120, 100), 60).convert("RGB"), Face(box=(30, 20, 90, 90))
    )
    assert labels.shape == (100, 120)
    assert 0 <= labels.min() <= labels.max() < 19
    torch.save(bisenet_state(11), tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"other\.pth: wrong shape"):
        BiSeNetParser(tmp_path / "other.pth")


def test_an_absent_parser_says_where_to_get_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"FacePerceiver/facer.*parser='none'"):
        FarlParser(tmp_path / "none.pt")
