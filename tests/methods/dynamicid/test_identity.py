import numpy as np
import pytest
import torch
from PIL import Image

from idbench.methods.dynamicid.expression import CLASSES, expression_pixels
from idbench.methods.dynamicid.faces import NoFaceError
from idbench.methods.dynamicid.keypoints import draw_landmarks, landmark_tensor
from idbench.methods.dynamicid.motion import source_face_prompt
from idbench.methods.dynamicid.person import Person, boxes_of


@pytest.fixture(scope="module")
def identity(load):
    return load().identity


@pytest.fixture(scope="module")
def mirrored(astronaut):
    return astronaut.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


HAPPY = "in a happy expression, in side view"


def test_without_a_face_prompt_the_tokens_are_the_encoder_s(identity, astronaut):
    encoded = identity.encode(Person(references=(astronaut,)))
    expected = identity.face_encoder.tokens(identity.features(astronaut))
    assert torch.equal(encoded.tokens, expected)
    assert encoded.tokens.shape == (1, 4, 64)
    assert encoded.face_prompts is None


def test_a_face_prompt_goes_through_the_reconfigurator(identity, astronaut):
    encoded = identity.encode(Person(references=(astronaut,), face_prompt=HAPPY))
    features, editing = identity.features(astronaut), identity.editing
    expression = editing.expression(features.picture, features.face.box)
    source = source_face_prompt(expression, features.face.pitch, features.face.yaw)
    assert encoded.face_prompts == (source, HAPPY)
    landmark_map = landmark_tensor(draw_landmarks(features.face.landmarks))[None]
    landmark = editing.keypoint_encoder(landmark_map).flatten(1)
    texts = identity.prompts.features([source, HAPPY])
    expected = editing.reconfigurator(
        identity.face_encoder.tokens(features), landmark, landmark, texts[:1], texts[1:]
    )
    torch.testing.assert_close(encoded.tokens, expected, atol=1e-6, rtol=0)


def test_target_landmarks_and_source_prompt_are_used_where_given(identity, astronaut):
    base = identity.encode(Person(references=(astronaut,), face_prompt=HAPPY))
    landmarks = np.full((106, 2), 256.0)
    moved = identity.encode(
        Person(references=(astronaut,), face_prompt=HAPPY, target_landmarks=landmarks)
    )
    described = identity.encode(
        Person(references=(astronaut,), face_prompt=HAPPY, source_face_prompt="smiling")
    )
    assert described.face_prompts == ("smiling", HAPPY)
    assert not torch.equal(base.tokens, moved.tokens)
    assert not torch.equal(base.tokens, described.tokens)


def test_editing_can_be_switched_off(load, astronaut):
    pipeline = load(use_imr=False)
    assert pipeline.identity.editing is None
    person = Person(references=(astronaut,), face_prompt=HAPPY)
    assert pipeline.identity.encode(person).face_prompts is None


def test_a_named_source_expression_needs_no_classifier(load, astronaut):
    pipeline = load(source_expression="sad")
    assert pipeline.identity.editing.expression is None
    encoded = pipeline.identity.encode(Person(references=(astronaut,), face_prompt=HAPPY))
    assert encoded.face_prompts[0].startswith("in a sad expression, ")


def test_tokens_of_several_references_are_averaged(identity, astronaut, mirrored):
    one, two = (identity.encode(Person(references=(image,))) for image in (astronaut, mirrored))
    both = identity.encode(Person(references=(astronaut, mirrored)))
    torch.testing.assert_close(both.tokens, (one.tokens + two.tokens) / 2, atol=1e-6, rtol=0)


def test_vectors_of_several_references_are_averaged_on_request(load, astronaut, mirrored):
    identity = load(multi_reference="embed_mean").identity
    both = identity.encode(Person(references=(astronaut, mirrored)))
    joined = identity.face_encoder.joined([identity.features(i) for i in (astronaut, mirrored)])
    assert torch.equal(both.tokens, identity.face_encoder.tokens(joined))


def test_equal_pictures_are_encoded_once(identity, astronaut):
    assert identity.features(astronaut) is identity.features(astronaut.copy())


def test_a_face_that_is_not_there_cannot_be_edited(load):
    identity = load(allow_missing_face=True).identity
    black = Image.new("RGB", (64, 64))
    assert identity.encode(Person(references=(black,))).tokens.shape == (1, 4, 64)
    with pytest.raises(NoFaceError):
        identity.encode(Person(references=(black,), face_prompt=HAPPY))


def test_the_classifier_sees_the_face_in_grey(astronaut):
    pixels = expression_pixels(astronaut, (-20.0, 10.0, 600.0, 200.0))
    assert pixels.shape == (3, 64, 64)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    grey = pixels * std[:, None, None] + mean[:, None, None]
    torch.testing.assert_close(grey[0], grey[1], atol=1e-6, rtol=0)
    assert grey.min() > -1e-6
    assert grey.max() < 1 + 1e-6


def test_the_classifier_names_the_likeliest_class(identity, astronaut):
    classifier = identity.editing.expression
    box = (100.0, 100.0, 300.0, 300.0)
    logits = classifier.network(expression_pixels(astronaut, box)[None])
    assert classifier(astronaut, box) == CLASSES[logits[0].argmax()]


def people(*boxes):
    return [Person(references=(Image.new("RGB", (8, 8)),), box=box) for box in boxes]


LEFT, RIGHT = (0.0, 0.0, 1.0, 0.4), (0.0, 0.6, 1.0, 1.0)


def test_boxes_of_people():
    assert boxes_of(people(LEFT, RIGHT)) == (LEFT, RIGHT)
    assert boxes_of(people(None, None)) == ((0.0, 0.0, 1.0, 0.5), (0.0, 0.5, 1.0, 1.0))
    assert boxes_of(people(LEFT)) == (LEFT,)
    assert boxes_of(people(None)) is None
    assert boxes_of(people(None), legacy_full_frame=True) == ((0.0, 0.0, 1.0, 1.0),)
    assert boxes_of(people(None, None), mixed=True) is None
    assert boxes_of(people(LEFT, None), mixed=True) == (LEFT,)


def test_a_box_for_some_people_only_is_refused():
    with pytest.raises(ValueError, match="1 of 2 people"):
        boxes_of(people(LEFT, None))


def test_a_person_without_references_is_refused():
    with pytest.raises(ValueError, match="at least one reference"):
        Person(references=())
