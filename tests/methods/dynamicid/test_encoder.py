import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessor

from idbench.methods.dynamicid.crops import Window, clip_pixels, crop_face, crop_window, moved
from idbench.methods.dynamicid.faces import Face, NoFaceError


@pytest.fixture(scope="module")
def encoder(load):
    return load().identity.face_encoder


def test_the_crop_is_centred_and_as_large_as_stated():
    pixels = np.zeros((100, 200, 3), np.uint8)
    pixels[40:60, 90:110] = 255  # a face of 20 x 20 pixels around (100, 50)
    window = crop_window((90, 40, 110, 60), factor=2.0)
    assert window == Window(80, 30, 40)
    crop = np.asarray(crop_face(Image.fromarray(pixels), window))
    assert crop.shape == (512, 512, 3)
    white = np.argwhere(crop[:, :, 0] > 127)
    # Half of the side is face, in the middle: 128 to 384.
    np.testing.assert_allclose(white.min(axis=0), (128, 128), atol=1)
    np.testing.assert_allclose(white.max(axis=0), (383, 383), atol=1)


def test_the_crop_repeats_the_edge_beyond_the_picture():
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:, 0] = (10, 20, 30)
    window = crop_window((-20, 10, 20, 50))
    crop = np.asarray(crop_face(Image.fromarray(pixels), window))
    assert (crop[:, :100] == (10, 20, 30)).all()


def face_at(box, landmarks):
    return Face(
        box=box,
        score=0.9,
        id_embedding=np.zeros(512, np.float32),
        landmarks=np.asarray(landmarks, np.float32),
        pitch=3.0,
        yaw=4.0,
    )


def test_a_face_moves_with_its_crop():
    face = face_at((90.0, 40.0, 110.0, 60.0), [[100.0, 50.0]])
    found = moved(face, Window(80, 30, 40))  # 40 pixels become 512
    assert found.box == (128.0, 128.0, 384.0, 384.0)
    np.testing.assert_allclose(found.landmarks, [[256.0, 256.0]])
    assert (found.pitch, found.yaw) == (3.0, 4.0)


@pytest.mark.parametrize("size", [(512, 512), (300, 200), (150, 640), (225, 224)])
def test_clip_sees_what_its_own_processor_makes(size, astronaut):
    """Bicubic resampling of transformers' processor; rounding to 8 bits may differ by one."""
    picture = astronaut.resize(size)
    expected = CLIPImageProcessor()(picture, return_tensors="pt").pixel_values[0]
    difference = (clip_pixels(picture) - torch.as_tensor(expected)).abs()
    assert difference.max() < 2.1 / 255 / 0.26
    assert difference.mean() < 0.01 / 0.26


def test_clip_tokens_are_those_before_the_last_block(encoder, astronaut):
    model = encoder.clip_vision
    seen = []
    blocks = [m for name, m in model.named_modules() if name.endswith("layers.2")]
    handle = blocks[0].register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(args[0] if args else kwargs["hidden_states"]),
        with_kwargs=True,
    )
    features = encoder.features(astronaut)
    handle.remove()
    torch.testing.assert_close(features.clip_hidden, seen[-1][0], atol=0, rtol=0)


def test_the_crop_is_what_both_extractors_see(encoder, astronaut):
    features = encoder.features(astronaut)
    assert features.picture.size == (512, 512)
    (in_crop,) = encoder.analyser(np.asarray(features.picture))
    np.testing.assert_array_equal(features.id_embeds.numpy(), in_crop.id_embedding)


def test_the_official_setting_looks_at_the_whole_picture(load, astronaut):
    encoder = load(face_crop="none").identity.face_encoder
    features = encoder.features(astronaut)
    assert features.picture is not None
    assert np.array_equal(np.asarray(features.picture), np.asarray(astronaut))
    (whole,) = encoder.analyser(np.asarray(astronaut))
    np.testing.assert_array_equal(features.id_embeds.numpy(), whole.id_embedding)


def test_without_a_crop_the_box_is_of_the_picture_and_landmarks_of_the_frame(load, astronaut):
    encoder = load(face_crop="none").identity.face_encoder
    wide = astronaut.resize((256, 128))
    face = encoder.features(wide).face
    (whole,) = encoder.analyser(np.asarray(wide))
    assert face.box == whole.box
    stretched = wide.resize((512, 512), Image.Resampling.BICUBIC)
    (framed,) = encoder.analyser(np.asarray(stretched))
    np.testing.assert_array_equal(face.landmarks, framed.landmarks)


def test_a_reference_without_a_face_is_an_error(encoder):
    with pytest.raises(NoFaceError, match="32 x 24 pixels"):
        encoder.features(Image.new("RGB", (32, 24)))


def test_a_missing_face_is_zeros_where_allowed(load):
    encoder = load(allow_missing_face=True).identity.face_encoder
    features = encoder.features(Image.new("RGB", (32, 24)))
    assert not features.id_embeds.any()
    assert features.face is None
    assert encoder.tokens(features).abs().sum() > 0


def test_nobody_is_zero_pixels_after_preprocessing_not_a_black_picture(load, encoder):
    nobody = encoder.unconditional_tokens()
    model = encoder.clip_vision
    zeros = torch.zeros(1, 3, model.config.image_size, model.config.image_size)
    hidden = model(zeros, output_hidden_states=True).hidden_states[-2]
    expected = encoder.projection(torch.zeros(1, 512), hidden)
    assert torch.equal(nobody, expected)
    allowed = load(allow_missing_face=True).identity.face_encoder
    black = allowed.tokens(allowed.features(Image.new("RGB", (32, 32))))
    assert not torch.allclose(nobody, black, atol=1e-3)


def test_joined_references_have_the_mean_vector_at_length_1(encoder, astronaut):
    seen = [encoder.features(astronaut), encoder.features(astronaut.transpose(0))]
    joined = encoder.joined(seen)
    mean = (seen[0].id_embeds + seen[1].id_embeds).numpy() / 2
    np.testing.assert_allclose(joined.id_embeds, mean / np.linalg.norm(mean), atol=1e-6)
    assert torch.equal(joined.clip_hidden, seen[0].clip_hidden)  # equal scores: the first
