"""What holds for every published metric, on features made up for each network."""

import hashlib
import math

import numpy as np
import pytest

from idbench.metrics.protocol import Missing, MissingValueError, Observation, Subject
from idbench.metrics.published_metrics import METRICS, SET_METRICS
from idbench.metrics.registry import extractor_order, resolve, resolve_sets

IMAGE_ROLES = ("reference", "generated", "base", "ground_truth", "original", "edited")


def random_for(extractor, seed):
    digest = hashlib.sha256(f"{extractor}:{seed}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))


def faces_of(seed, count):
    """Boxes and points of `count` faces, side by side, the same for every detector."""
    random = random_for("faces", seed)
    left = np.arange(count) * 200 + random.uniform(0, 20, count)
    top = random.uniform(0, 40, count)
    side = random.uniform(80, 160, count)
    boxes = np.stack([left, top, left + side, top + side], axis=1)
    places = np.array([[0.3, 0.35], [0.7, 0.35], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]])
    points = boxes[:, None, :2] + side[:, None, None] * (
        places + random.normal(0, 0.03, (count, 5, 2))
    )
    return boxes, points


def features_of(extractor, seed, faces):
    """Features in the shape that the extractor's documentation gives, from a seed."""
    random = random_for(extractor, seed)
    kind, _, rest = extractor.partition(".")
    boxes, points = faces_of(seed, faces)
    crops = 1 if rest == "ibench" else faces
    if kind in {"antelopev2", "buffalo_l"} and rest == "pose":
        return {"pose": random.uniform(-40, 40, (faces, 3))}
    if kind in {"antelopev2", "buffalo_l", "mtcnn", "mtcnn_native"}:
        proposals = np.rint(boxes[:, :]).astype(int)
        return {
            "boxes": boxes,
            "scores": np.linspace(0.99, 0.8, faces),
            "points": points,
            "boxes_rounded": proposals,
            "points_rounded": np.rint(points).astype(int),
            "proposals_rounded": proposals,
            "embeddings": random.normal(size=(faces, 512)).astype(np.float32),
            "image_size": np.array([512, 768]),
            "searched_size": np.array([512, 768]),
        }
    if kind == "facenet":
        return {"output": random.normal(size=(faces, 512))}
    if kind == "hopenet":
        return {"output": random.normal(0, 3, (crops, 3, 66))}
    if kind in {"fer-vgg19", "resemotenet"}:
        return {"output": random.normal(0, 2, (crops, 7))}
    if kind == "hsemotion":
        return {"output": random.normal(0, 2, (crops, 8))}
    if kind.startswith("dinov2") and rest != "image":
        return {"output": random.normal(size=(crops, 64))}
    if kind == "clip_iqa":
        return {"similarities": random.uniform(-0.3, 0.4, (6, 2)), "logit_scale": np.array(100.0)}
    if kind.startswith("clip") and rest.startswith("text"):
        return {
            "embedding": random.normal(size=64),
            "tokens": np.array(100),
            "windows": random.normal(size=(2, 64)),
            "window_tokens": np.array([75, 25]),
        }
    if kind.startswith("aes"):
        return {"score": np.array(random.uniform(1, 10))}
    if kind.startswith("musiq"):
        return {"output": random.uniform(0, 100, 1)}
    if kind == "image_reward":
        return {"reward": np.array(random.normal())}
    if kind == "subject":
        return {
            "clip": random.normal(size=32),
            "dino": random.normal(size=32),
            "found": np.array(True),
        }
    if kind == "sharpness":
        return {"variance": np.array(random.uniform(0, 900))}
    if kind == "inception":
        return {"output": np.abs(random.normal(size=2048)).astype(np.float32)}
    return {"output": random.normal(size=64)}


def observation_for(metric, seeds, faces=None, people=1):
    """An observation with all that a metric needs; equal seeds stand for equal images."""
    faces = faces or {}
    features = {}
    for role, names in metric.needs.items():
        inputs = people if role == "reference" else 1
        features[role] = tuple(
            {
                name: features_of(name, f"{seeds.get(role, role)}-{index}", faces.get(role, people))
                for name in extractor_order(names)
            }
            for index in range(inputs)
        )
    subjects = tuple(
        Subject(person=p, expression=("happy", "sad")[p % 2], orientation=("side", "up")[p % 2])
        for p in range(people)
    )
    return Observation(prompt="a prompt", features=features, subjects=subjects)


def values_of(metric, observation):
    """Values per variant, as the harness takes them."""
    try:
        values = metric(observation)
    except MissingValueError as error:
        values = dict.fromkeys(metric.info.variants, error.missing)
    assert set(values) == set(metric.info.variants)
    return values


@pytest.fixture(params=list(METRICS))
def metric(request):
    (found,) = resolve([request.param])
    return found


def test_values_lie_in_the_stated_range(metric):
    low, high = metric.info.bounds
    for seed in range(12):
        seeds = {role: f"{role}{seed}" for role in metric.needs}
        values = values_of(metric, observation_for(metric, seeds))
        for variant, value in values.items():
            assert not isinstance(value, Missing), (variant, value)
            assert math.isfinite(value)
            if variant not in {"to_truth", "to_reference"}:  # of a sum, not the value
                assert low - 1e-12 <= value <= high + 1e-12, variant


def test_a_value_depends_on_its_observation_alone(metric):
    first = observation_for(metric, {role: f"{role}1" for role in metric.needs})
    second = observation_for(metric, {role: f"{role}2" for role in metric.needs})
    before = values_of(metric, first)
    values_of(metric, second)
    assert values_of(metric, first) == before


# Values where the generated image is the reference, the base, the original and the ground truth.
IDENTICAL = {
    "facesim": {"": 1, "largest": 1, "penalised": 1},
    "antifacesim": {"": 1},
    "facesim_gain": {"": 0},
    "id_sim": {"": 1, "penalised": 1, "rate_070": 1},
    "multi_facesim": {"": 1, "matched": 1, "min": 1, "position": 1, "swapped": 0, "detected": 1},
    "multi_facesim_greedy": {"": 1, "min": 1},
    "facediv": {"1": math.exp(-2) / (1 + 1e-6), "2": 1 / (1 + 1e-6)},
    "clip_i.vs_base": {"": 1},
    "clip_i.vs_ref": {"": 1},
    "clip_i.vs_gt": {"": 1},
    "clip_i.vs_ref_masked": {"": 1, "unsegmented": 0},
    "dino_masked": {"": 1, "unsegmented": 0},
    "dino": {"": 1},
    "fgis": {"": 1},
    "dreamsim": {"": 0},
    "posediv": {"yaw": 0, "pitch": 0, "roll": 0, "geodesic": 0},
    "exprdiv": {"": 0, "js": 0},
    "clip_t_delta": {"": 0, "long": 0},
}


def test_identical_images_give_the_extreme_value(metric):
    seeds = dict.fromkeys(IMAGE_ROLES, "one image")
    values = values_of(metric, observation_for(metric, seeds))
    if metric.info.name == "copy_paste":
        # Between a photograph and itself there is no angle to compare with.
        assert values[""].reason == "same_photo"
        return
    expected = IDENTICAL.get(metric.info.name, {})
    for variant in expected.keys() & values.keys():
        assert values[variant] == pytest.approx(expected[variant], abs=1e-6), variant
    if "reference" in metric.needs and metric.info.name not in {"expr", "pose", "headpose"}:
        assert expected.keys() >= values.keys()


# What a metric gives where the generated image shows no face: the reason, or a number.
NO_FACE = {
    "penalised": 0.0,
    "rate_070": 0.0,
    "detected": 0.0,
    "position": 0.0,
    "min": 0.0,
}
FACES_COUNT_ABSENT_PEOPLE = {"multi_facesim", "multi_facesim_greedy"}


def test_a_missing_face_is_reported_and_not_dropped(metric):
    values = values_of(metric, observation_for(metric, {}, faces={"generated": 0}))
    needs_face = any(
        not name.startswith(
            ("clip", "dino_", "dreamsim", "aes", "musiq", "image", "inception", "sharp", "subject")
        )
        and not name.endswith((".image", ".ibench"))
        for name in metric.needs.get("generated", ())
    )
    for variant, value in values.items():
        if not needs_face:
            assert not isinstance(value, Missing)
        elif variant in NO_FACE or metric.info.name in FACES_COUNT_ABSENT_PEOPLE:
            expected = NO_FACE.get(variant, 0.0)
            assert value.reason == "no_face" if isinstance(value, Missing) else value == expected
        else:
            assert isinstance(value, Missing)
            assert value.reason == "no_face"


def test_a_reference_without_a_face_is_named(metric):
    detectors = {"antelopev2", "buffalo_l", "mtcnn", "mtcnn_native"}
    if not detectors & set(metric.needs.get("reference", ())):
        pytest.skip("reads no face of the reference")
    values = values_of(metric, observation_for(metric, {}, faces={"reference": 0}))
    assert {value.reason for value in values.values()} == {"no_reference_face"}


def test_a_number_that_is_not_finite_is_a_miss_and_never_a_value(metric):
    """The largest of NaNs is the first, so a class or a best face must not be made of them."""
    whole = observation_for(metric, {})
    for role, names in metric.needs.items():
        for extractor in names:
            (found, *_) = whole.features[role]
            floats = [k for k, v in found[extractor].items() if v.dtype.kind == "f"]
            broken = {k: np.full_like(found[extractor][k], np.nan) for k in floats}
            features = dict(whole.features)
            features[role] = ({**found, extractor: {**found[extractor], **broken}},)
            values = values_of(
                metric,
                Observation(prompt=whole.prompt, features=features, subjects=whole.subjects),
            )
            assert {value.reason for value in values.values()} == {"not_finite"}, (role, extractor)


def test_an_absent_input_is_named(metric):
    for role in metric.needs:
        whole = observation_for(metric, {})
        features = {name: found for name, found in whole.features.items() if name != role}
        without = Observation(prompt=whole.prompt, features=features, subjects=whole.subjects)
        values = values_of(metric, without)
        assert {value.reason for value in values.values()} == {f"no_{role}"}, role


def test_a_metric_of_one_face_declines_a_case_of_two_people(metric):
    values = values_of(metric, observation_for(metric, {}, people=2))
    reasons = {value.reason for value in values.values() if isinstance(value, Missing)}
    assert reasons <= {"several_people"}


@pytest.mark.parametrize("name", ["expr@strict[resemotenet]", "pose@strict[insightface]"])
def test_nothing_is_scored_that_was_not_asked(name):
    (metric,) = resolve([name])
    whole = observation_for(metric, {})
    silent = Observation(prompt="x", features=whole.features, subjects=(Subject(),))
    assert {value.reason for value in values_of(metric, silent).values()} == {"not_asked"}


@pytest.mark.parametrize("name", list(SET_METRICS))
def test_a_set_may_be_seen_in_any_order_and_division(name):
    (metric,) = resolve_sets([name])
    observations = [
        observation_for(metric, {role: f"{role}{n}" for role in metric.needs}) for n in range(60)
    ]

    def value_of(parts):
        states = []
        for part in parts:
            state = metric.start()
            for observation in part:
                state.update(observation)
            states.append(state)
        for other in states[1:]:
            states[0].merge(other)
        return states[0].compute()[""]

    # Inception features are narrowed: the root of a 2048 x 2048 matrix takes ten seconds.
    if "inception" in metric.needs.get("generated", ()):
        _narrow(observations)
    whole = value_of([observations])
    assert math.isfinite(whole)
    assert metric.info.bounds[0] <= whole <= metric.info.bounds[1]
    assert value_of([observations[::-1]]) == pytest.approx(whole, rel=1e-5)
    divided = [observations[:1], observations[1:20], observations[20:]]
    assert value_of(divided) == pytest.approx(whole, rel=1e-5)


def _narrow(observations):
    for observation in observations:
        for role in ("generated", "base"):
            found = observation.features[role][0]["inception"]
            found["output"] = found["output"][:24]


@pytest.mark.parametrize("name", ["fid@strict[inception]", "kid@strict[inception]"])
def test_too_few_images_have_no_distance(name):
    (metric,) = resolve_sets([name])
    state = metric.start()
    for n in range(49):
        state.update(observation_for(metric, {role: f"{role}{n}" for role in metric.needs}))
    value = state.compute()[""]
    assert isinstance(value, Missing)
    assert value.reason == "too_few_images"
    assert "49" in value.detail


def test_a_pair_without_its_base_image_does_not_enter_the_set():
    (metric,) = resolve_sets(["fid@ibench[inception]"])
    state = metric.start()
    whole = observation_for(metric, {})
    without = Observation(prompt="x", features={"generated": whole.features["generated"]})
    with pytest.raises(MissingValueError, match="no_base"):
        state.update(without)
    assert state.compute()[""].reason == "too_few_images"


def test_equal_sets_have_distance_zero():
    (metric,) = resolve_sets(["fid@ibench[inception]"])
    state = metric.start()
    observations = [
        observation_for(metric, dict.fromkeys(metric.needs, f"image{n}")) for n in range(40)
    ]
    _narrow(observations)
    for observation in observations:
        state.update(observation)
    assert state.compute()[""] == pytest.approx(0, abs=1e-6)
