import numpy as np
import pytest
from PIL import Image

from idbench.methods.editedid.compositing import Patch, composite
from idbench.methods.editedid.registration import Crop


def noise(size, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def disc(side, radius, centre=None):
    y, x = np.mgrid[:side, :side] - (side / 2 if centre is None else centre)
    return x**2 + y**2 <= radius**2


def patch(crop, image, mask, area=1.0):
    return Patch(crop=crop, image=image, mask=mask, face_area=area)


CROP = Crop(left=60, top=40, side=200)


def test_pixels_beyond_the_matte_stay_byte_for_byte():
    """The matte ends 4 sigma = 8 % of 200 pixels beyond the mask grown by 2 %."""
    edited = noise((400, 300))
    result = composite(edited, [patch(CROP, noise((200, 200), 1), disc(200, 50))])
    far = ~disc(200, 50 + 4 + 16 + 1)
    outside = np.ones((300, 400), dtype=bool)
    outside[40:240, 60:260] = far
    before, after = np.asarray(edited), np.asarray(result)
    assert np.array_equal(after[outside], before[outside])
    assert not np.array_equal(after[140, 160], before[140, 160])


def test_inside_the_ring_the_patch_stands():
    edited, face = noise((400, 300)), noise((200, 200), 1)
    result = composite(edited, [patch(CROP, face, disc(200, 50))])
    # The matte is 1 in the middle; the ring begins 8 pixels inside the mask.
    middle = np.s_[80:120, 80:120]
    found = np.asarray(result)[40:240, 60:260][middle]
    assert np.abs(found.astype(int) - np.asarray(face)[middle]).max() <= 1


def test_putting_a_crop_back_changes_nothing():
    edited = noise((400, 300))
    own = CROP.image(edited, 200)
    result = composite(edited, [patch(CROP, own, disc(200, 60))])
    difference = np.asarray(result).astype(int) - np.asarray(edited).astype(int)
    assert np.abs(difference).max() <= 1


def test_the_edge_has_no_step():
    """A brighter patch on grey: a hard paste would step by 100 levels at the edge of the mask."""
    edited = Image.new("RGB", (400, 300), (100, 100, 100))
    bright = Image.new("RGB", (200, 200), (200, 200, 200))
    result = np.asarray(composite(edited, [patch(CROP, bright, disc(200, 50))])).astype(int)
    assert result[140, 160, 0] == 200
    assert np.abs(np.diff(result[..., 0], axis=1)).max() < 15
    assert np.abs(np.diff(result[..., 0], axis=0)).max() < 15


def test_poisson_keeps_the_gradients_of_the_patch_in_the_ring():
    """A patch that differs by a constant is met without loss of its texture."""
    edited = noise((400, 300))
    own = np.asarray(CROP.image(edited, 200)).astype(int)
    darker = Image.fromarray((own * 0.5).astype(np.uint8))
    flat = Image.new("RGB", (400, 300), (128, 128, 128))
    result = np.asarray(composite(flat, [patch(CROP, darker, disc(200, 50))])).astype(float)
    ring = disc(200, 50) & ~disc(200, 46)
    found = result[40:240, 60:260][ring]
    texture = np.asarray(darker).astype(float)[ring]
    assert np.corrcoef(found[:, 0], texture[:, 0])[0, 1] > 0.9


def test_a_matte_ends_inside_the_crop():
    """A mask that reaches the edge of the crop inside the image would leave a seam there."""
    edited = Image.new("RGB", (400, 300), (100, 100, 100))
    bright = Image.new("RGB", (200, 200), (200, 200, 200))
    result = np.asarray(composite(edited, [patch(CROP, bright, np.ones((200, 200), bool))]))
    assert (result[40, 60:260] == 100).all()
    assert (result[:, 60] == 100).all()
    assert np.abs(np.diff(result[..., 0].astype(int), axis=1)).max() < 15


def test_at_the_edge_of_the_image_the_patch_reaches_it():
    edited = Image.new("RGB", (400, 300), (100, 100, 100))
    bright = Image.new("RGB", (200, 200), (200, 200, 200))
    corner = Crop(left=0, top=0, side=200)
    result = np.asarray(composite(edited, [patch(corner, bright, disc(200, 100, 0))]))
    assert (result[:50, :50] == 200).all()


def test_crops_beyond_the_image_are_cut():
    edited = noise((100, 100))
    result = composite(
        edited, [patch(Crop(left=-50, top=-50, side=200), noise((64, 64)), disc(64, 10))]
    )
    assert result.size == (100, 100)


@pytest.mark.parametrize("order", [1, -1])
def test_the_nearer_face_lies_in_front_whatever_the_order(order):
    edited = Image.new("RGB", (400, 300))
    far = patch(CROP, Image.new("RGB", (200, 200), (250, 0, 0)), disc(200, 50), 100.0)
    near = patch(CROP, Image.new("RGB", (200, 200), (0, 250, 0)), disc(200, 50), 200.0)
    result = composite(edited, [far, near][::order])
    assert result.getpixel((160, 140)) == (0, 250, 0)


def test_the_higher_matte_wins_where_faces_overlap():
    edited = Image.new("RGB", (400, 300))
    left = patch(CROP, Image.new("RGB", (200, 200), (250, 0, 0)), disc(200, 40), 200.0)
    other = Crop(left=140, top=40, side=200)
    right = patch(other, Image.new("RGB", (200, 200), (0, 250, 0)), disc(200, 40), 100.0)
    result = composite(edited, [left, right])
    assert result.getpixel((160, 140)) == (250, 0, 0)
    assert result.getpixel((240, 140)) == (0, 250, 0)


def test_an_inpainter_paints_the_ring_only():
    edited = noise((400, 300))
    asked = []

    def inpainter(image, mask, seed):
        asked.append((np.asarray(mask) > 0, seed))
        return Image.new("RGB", image.size, (1, 2, 3))

    result = np.asarray(
        composite(
            edited, [patch(CROP, noise((200, 200), 1), disc(200, 50))], inpainter=inpainter, seed=7
        )
    )
    ((ring, seed),) = asked
    assert seed == 7
    assert (result[ring] == (1, 2, 3)).all()
    # 8 pixels to both sides of the edge of the mask.
    row = np.flatnonzero(ring[140])
    assert row.min() == pytest.approx(160 - 58, abs=1)
    assert not ring[140, 160 - 41 : 160 + 41].any()


def test_an_inpainter_that_changes_the_size_is_refused():
    with pytest.raises(ValueError, match=r"must return \(400, 300\) pixels, got \(8, 8\)"):
        composite(
            noise((400, 300)),
            [patch(CROP, noise((200, 200)), disc(200, 50))],
            inpainter=lambda image, mask, seed: image.resize((8, 8)),
        )


def test_an_empty_mask_leaves_the_image_as_it_is():
    edited = noise((400, 300))
    result = composite(edited, [patch(CROP, noise((200, 200), 1), np.zeros((200, 200), bool))])
    assert result.tobytes() == edited.tobytes()
