import numpy as np
import pytest
from PIL import Image

from idbench.methods.editedid.config import EditedIDConfig
from idbench.methods.editedid.faces import Face
from idbench.methods.editedid.registration import (
    Crop,
    RegistrationError,
    apply,
    center_crop,
    face_crop,
    landmark_error,
    register,
    similarity,
)

CONFIG = EditedIDConfig()
# Eyes, nose, mouth corners of a face of 100 pixels.
LANDMARKS = np.array([[30.0, 40], [70, 40], [50, 60], [35, 80], [65, 80]])


def face(shift=(0.0, 0.0), scale=1.0, landmarks=LANDMARKS):
    points = landmarks * scale + np.array(shift)
    x, y = shift
    return Face(box=(x, y, x + 100 * scale, y + 100 * scale), landmarks=points)


def test_similarity_recovers_a_known_one():
    angle, scale = 0.3, 1.7
    linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    known = np.hstack([linear, [[5.0], [-3.0]]])
    np.testing.assert_allclose(similarity(LANDMARKS, apply(known, LANDMARKS)), known, atol=1e-10)


def test_similarity_never_mirrors():
    mirrored = LANDMARKS * np.array([-1.0, 1.0])
    assert np.linalg.det(similarity(LANDMARKS, mirrored)[:, :2]) > 0


def test_landmark_error_is_the_rms_distance_in_face_sizes():
    moved = LANDMARKS + np.array([3.0, 4.0])
    assert landmark_error(LANDMARKS, moved, 100.0) == pytest.approx(0.05)


def test_agreeing_landmarks_leave_the_original_alone():
    image = Image.effect_noise((200, 200), 50).convert("RGB")
    found = register(image.size, face(), (200, 200), face((1.0, 0.0)), CONFIG)
    assert found.matrix is None
    assert found.bring(image) is image


def test_the_original_comes_to_the_frame_of_the_edited_image():
    """A dot at an eye of the original ends at the eye of the edited image."""
    original = Image.new("RGB", (400, 400))
    face_o, face_i = face((200.0, 150.0), 1.5), face((40.0, 30.0), 1.0)
    x, y = (round(v) for v in face_o.landmarks[1])
    original.paste((255, 255, 255), (x - 4, y - 4, x + 5, y + 5))
    found = register(original.size, face_o, (256, 256), face_i, CONFIG)
    image = found.bring(original)
    assert image.size == (256, 256)
    bright = np.argwhere(np.asarray(image)[..., 0] > 128).mean(0)[::-1]
    np.testing.assert_allclose(bright, face_i.landmarks[1], atol=1.0)
    np.testing.assert_allclose(found.face.landmarks, face_i.landmarks, atol=1e-9)
    assert found.error == pytest.approx(0.0, abs=1e-9)


def test_other_poses_are_refused_unless_forced():
    turned = LANDMARKS.copy()
    turned[2] += (25.0, -15.0)  # the nose of a profile
    with pytest.raises(RegistrationError, match=r"more than 8%.*force=True"):
        register((200, 200), face(), (200, 200), face(landmarks=turned), CONFIG)
    forced = EditedIDConfig(force=True)
    assert register((200, 200), face(), (200, 200), face(landmarks=turned), forced).error > 0.08


def test_without_a_known_face_only_the_size_changes():
    image = Image.effect_noise((400, 400), 50).convert("RGB")
    found = register(image.size, None, (200, 200), face(), CONFIG)
    assert found.error is None
    assert found.bring(image).tobytes() == image.resize((200, 200), Image.LANCZOS).tobytes()


def test_boxes_register_where_one_face_has_no_landmarks():
    plain = Face(box=(0.0, 0.0, 50.0, 50.0))
    found = register((100, 100), plain, (200, 200), face((20.0, 20.0)), CONFIG)
    np.testing.assert_allclose(found.matrix, [[2, 0, 20], [0, 2, 20]], atol=1e-9)


def test_face_crop_is_a_square_around_the_face():
    assert face_crop(face((200.0, 150.0)), (600, 600), 1.8) == Crop(left=160, top=110, side=180)


def test_face_crop_is_shifted_into_the_image():
    assert face_crop(face((0.0, 500.0)), (600, 600), 1.8) == Crop(left=0, top=420, side=180)


def test_a_crop_larger_than_the_image_mirrors_it():
    crop = face_crop(face(), (100, 100), 1.8)
    assert crop == Crop(left=-40, top=-40, side=180)
    pixels = np.arange(100, dtype=np.uint8)[None].repeat(100, 0)[..., None].repeat(3, 2)
    cut = crop.cut(pixels)
    assert cut.shape == (180, 180, 3)
    assert cut[90, 40:140, 0].tolist() == list(range(100))
    assert cut[90, :40, 0].tolist() == list(range(40, 0, -1))


def test_center_crop_is_the_largest_square():
    assert center_crop((300, 200)) == Crop(left=50, top=0, side=200)


def test_faces_move_with_the_crop():
    crop = Crop(left=100, top=50, side=200)
    found = crop.face(face((150.0, 100.0)), 400)
    assert found.box == pytest.approx((100.0, 100.0, 300.0, 300.0))
    np.testing.assert_allclose(found.landmarks, LANDMARKS * 2 + 100)
