import cv2
import numpy as np
import onnxruntime
import pytest
import torch

from idbench.methods.editidv2.arcface import ArcFace
from idbench.methods.editidv2.face_embedding import (
    FoundFaces,
    LatentFaces,
    similarity_transform,
    warp_face,
)
from idbench.methods.editidv2.guidance import IdentityGuide, add_guidance, loss_gradient
from idbench.methods.pulid.faces import AntelopeV2, largest_face


def test_one_guided_step_lowers_a_quadratic_loss():
    torch.manual_seed(0)
    target, latents, velocity = (torch.randn(2, 6, 4) for _ in range(3))
    sigma, next_sigma = 0.8, 0.7

    def loss(clean):
        return (clean - target).square().sum()

    gradient = loss_gradient(latents, velocity, sigma, loss)
    # x0 = x - sigma v, so the gradient of the quadratic is 2 (x0 - target)
    torch.testing.assert_close(gradient, 2 * (latents - sigma * velocity - target))

    def after(v):
        x = latents + (next_sigma - sigma) * v
        return loss(x - next_sigma * velocity)

    assert after(add_guidance(velocity, gradient, 0.5)) < after(velocity)


def test_strength_is_relative_to_the_velocity_per_sample():
    torch.manual_seed(0)
    velocity, gradient = torch.randn(3, 6, 4), torch.randn(3, 6, 4)
    gradient[2] = 0
    added = add_guidance(velocity, gradient, 0.25) - velocity
    ratio = added.flatten(1).norm(dim=1) / velocity.flatten(1).norm(dim=1)
    torch.testing.assert_close(ratio, torch.tensor([0.25, 0.25, 0.0]))


def guide(found, beta0=1.0, steps=20):
    """A guide whose embeddings are the first two numbers of the latents."""

    def faces(clean):
        mask = torch.tensor(found)
        return FoundFaces(clean[mask, 0, :2] if mask.any() else None, mask)

    reference = torch.tensor([[1.0, 0.0]] * len(found))
    return IdentityGuide(faces=faces, reference=reference, beta0=beta0, steps=steps)


def test_samples_without_a_face_keep_their_velocity_and_are_counted():
    torch.manual_seed(0)
    latents, velocity = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    guidance = guide([False, True])
    out = guidance(0, 0.9, latents, velocity)
    assert torch.equal(out[0], velocity[0])
    assert not torch.equal(out[1], velocity[1])
    assert guidance.skipped == [1, 0]


def test_no_face_at_all_changes_nothing():
    velocity = torch.randn(2, 3, 4)
    guidance = guide([False, False])
    assert torch.equal(guidance(0, 0.9, torch.randn(2, 3, 4), velocity), velocity)
    assert guidance.skipped == [1, 1]


def test_strength_decays_over_the_steps():
    torch.manual_seed(0)
    latents, velocity = torch.randn(1, 3, 4), torch.randn(1, 3, 4)
    norm = velocity.norm()
    strengths = [
        (guide([True], beta0=0.5)(step, 0.9, latents, velocity) - velocity).norm() / norm
        for step in (0, 10, 19)
    ]
    expected = torch.tensor([0.5, 0.25, 0.5 * 0.0062])
    torch.testing.assert_close(torch.stack(strengths), expected, atol=3e-5, rtol=0)


def test_the_similarity_is_that_of_insightface():
    from insightface.utils.face_align import arcface_dst
    from skimage.transform import SimilarityTransform

    rng = np.random.default_rng(1)
    landmarks = arcface_dst * 2.3 + rng.normal(0, 4, (5, 2)) + (30, -10)
    expected = SimilarityTransform.from_estimate(landmarks, arcface_dst).params[:2]
    np.testing.assert_allclose(similarity_transform(landmarks), expected, atol=1e-5)


def test_warping_equals_opencv():
    rng = np.random.default_rng(2)
    image = cv2.GaussianBlur(rng.integers(0, 256, (90, 120, 3), dtype=np.uint8), (0, 0), 2)
    matrix = np.array([[0.8, -0.2, 12.0], [0.2, 0.8, 5.0]])
    expected = cv2.warpAffine(image, matrix, (112, 112), borderValue=0.0)
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 127.5 - 1
    face = warp_face(tensor, matrix)[0].permute(1, 2, 0)
    ours = (127.5 * (face + 1)).numpy()
    # cv2 interpolates in steps of 1/32 pixel
    assert np.abs(ours - expected).mean() < 0.5
    assert np.abs(ours - expected).max() < 6


@pytest.fixture(scope="module")
def arcface(tiny_flux_weights):
    return ArcFace(tiny_flux_weights / "antelopev2" / "glintr100.onnx").requires_grad_(False)


def test_the_graph_in_torch_equals_onnxruntime(tiny_flux_weights, arcface):
    path = tiny_flux_weights / "antelopev2" / "glintr100.onnx"
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    faces = np.random.default_rng(3).uniform(-1, 1, (2, 3, 112, 112)).astype(np.float32)
    expected = session.run(None, {session.get_inputs()[0].name: faces})[0]
    ours = arcface(torch.from_numpy(faces))
    torch.testing.assert_close(ours, torch.from_numpy(expected), atol=1e-3, rtol=1e-4)


def test_an_unknown_operation_is_named(tmp_path):
    import onnx
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Sin", ["x"], ["y"])], "g", [value], [out])
    onnx.save(helper.make_model(graph), tmp_path / "sin.onnx")
    with pytest.raises(ValueError, match="operations Sin are not supported"):
        ArcFace(tmp_path / "sin.onnx")


@pytest.fixture(scope="module")
def detector(tiny_flux_weights):
    folder = tiny_flux_weights / "antelopev2"
    return AntelopeV2(folder / "scrfd_10g_bnkps.onnx", folder / "glintr100.onnx")


def upsample(latents):
    """A decoder: the first three channels, eight times as large."""
    return torch.nn.functional.interpolate(latents[:, :3], scale_factor=8, mode="bilinear")


def face_latents(tiny_flux_files):
    image = torch.from_numpy(np.asarray(tiny_flux_files.portrait(1)).copy())
    pixels = image.permute(2, 0, 1)[None].float() / 127.5 - 1
    return torch.nn.functional.interpolate(pixels, scale_factor=1 / 8, mode="area")


# scikit-image inside insightface
@pytest.mark.filterwarnings("ignore:`estimate` is deprecated:FutureWarning")
def test_the_embedding_of_a_decoded_face_is_that_of_insightface(tiny_flux_files, detector, arcface):
    latents = face_latents(tiny_flux_files)
    faces = LatentFaces(upsample, detector, arcface, margin=None)
    found = faces(latents)
    assert found.found.tolist() == [True]
    pixels = (127.5 * (upsample(latents)[0].clamp(-1, 1) + 1)).round().byte()
    bgr = np.ascontiguousarray(pixels.permute(1, 2, 0).numpy()[..., ::-1])
    boxes = detector.detect(bgr)
    expected = torch.from_numpy(detector.embed(bgr, boxes[largest_face(boxes)]))
    cosine = torch.cosine_similarity(found.embeddings[0], expected, dim=0)
    assert cosine > 0.999


def test_gradients_reach_the_latents_also_through_a_part(tiny_flux_files, detector, arcface):
    latents = face_latents(tiny_flux_files).requires_grad_()
    whole = LatentFaces(upsample, detector, arcface, margin=None)(latents).embeddings
    part = LatentFaces(upsample, detector, arcface, margin=0.25)(latents).embeddings
    assert torch.cosine_similarity(whole, part).item() > 0.99
    part.square().sum().backward()
    assert latents.grad.abs().sum() > 0


def test_a_dark_image_has_no_face(detector, arcface):
    found = LatentFaces(upsample, detector, arcface)(torch.full((2, 3, 20, 20), -1.0))
    assert found.embeddings is None
    assert found.found.tolist() == [False, False]
