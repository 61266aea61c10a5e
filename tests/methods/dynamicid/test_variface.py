import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from idbench.methods.dynamicid.faces import FaceAnalyser, NoFaceError
from idbench.methods.dynamicid.keypoints import draw_landmarks
from idbench.methods.dynamicid.token_cache import TokenCache
from idbench.methods.dynamicid.variface import (
    KDEF_EXPRESSIONS,
    KDEF_POSES,
    kdef_prompt,
    read_identities,
    read_landmarks,
    write_landmarks,
)


def put(folder, name, picture, prompt="in a happy expression", landmarks=True):
    folder.mkdir(parents=True, exist_ok=True)
    picture.save(folder / name)
    stem = name.rpartition(".")[0]
    if prompt is not None:
        (folder / f"{stem}.txt").write_text(f"{prompt}\n")
    if landmarks:
        points = np.random.default_rng(len(stem)).uniform(100, 400, size=(106, 2))
        Image.fromarray(draw_landmarks(points)).save(folder / f"{stem}_landmark.png")


@pytest.fixture
def picture(astronaut):
    return astronaut.resize((96, 96))


def test_pictures_without_landmarks_or_prompt_are_left_out(tmp_path, picture, caplog):
    for name in ("b", "a", "c"):
        put(tmp_path / "0", f"{name}.png", picture, prompt=f"face {name}")
    put(tmp_path / "0", "no_map.png", picture, landmarks=False)
    put(tmp_path / "0", "no_text.png", picture, prompt=None)
    put(tmp_path / "1", "lonely.png", picture)
    (identity,) = read_identities(tmp_path)
    assert identity.name == "0"
    assert [portrait.image.name for portrait in identity.portraits] == ["a.png", "b.png", "c.png"]
    assert [portrait.prompt for portrait in identity.portraits] == ["face a", "face b", "face c"]
    assert "2 pictures" in caplog.text


def test_a_folder_without_identities_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"NAME\.txt"):
        read_identities(tmp_path)
    with pytest.raises(ValueError, match="no folder"):
        read_identities(tmp_path / "absent")


@pytest.mark.parametrize(
    ("name", "prompt"),
    [
        ("AF01AFFL", "the expression is afraid, the face is fully turned to the left"),
        ("BM35SUHR", "the expression is surprised, the face is slightly turned to the right"),
        ("AF01NES", "the expression is neutral, the face is front view"),
        ("am02dis", "the expression is disgusted, the face is front view"),
        ("AF01XXS", None),
        ("AF01NES_landmark", None),
    ],
)
def test_kdef_prompts_follow_from_the_code(name, prompt):
    assert kdef_prompt(name) == prompt


def test_the_35_kdef_pictures_of_a_person_have_35_prompts():
    """In the order of their names the codes are those that the official code counts on."""
    names = sorted(f"AF01{e}{p}" for e in KDEF_EXPRESSIONS for p in KDEF_POSES)
    prompts = [kdef_prompt(name) for name in names]
    assert len(set(prompts)) == 35
    expressions = [prompt.split(",")[0].rpartition(" ")[2] for prompt in prompts]
    order = ["afraid", "angry", "disgusted", "happy", "neutral", "sad", "surprised"]
    assert expressions == [word for word in order for _ in range(5)]
    poses = [prompt.partition("the face is ")[2] for prompt in prompts[:5]]
    assert poses == [
        "fully turned to the left",
        "fully turned to the right",
        "slightly turned to the left",
        "slightly turned to the right",
        "front view",
    ]


def test_kdef_needs_no_prompt_files(tmp_path, picture):
    for code in ("AF01ANS", "AF01HAFL"):
        put(tmp_path / "AF01", f"{code}.JPG", picture, prompt=None)
    (person,) = read_identities(tmp_path, kdef=True)
    assert person.portraits[0].prompt == "the expression is angry, the face is front view"


def test_a_landmark_map_of_another_size_is_refused(tmp_path):
    Image.new("L", (64, 96)).save(tmp_path / "a_landmark.png")
    with pytest.raises(ValueError, match="96 x 96"):
        read_landmarks(tmp_path / "a_landmark.png")


def test_landmark_maps_are_written_as_the_official_code_draws_them(tmp_path, tiny_files, astronaut):
    analyser = FaceAnalyser(tiny_files.face_models)
    astronaut.save(tmp_path / "a.png")
    path = write_landmarks(tmp_path / "a.png", analyser)
    assert path == tmp_path / "a_landmark.png"
    (face,) = analyser(np.asarray(astronaut))
    np.testing.assert_array_equal(read_landmarks(path), draw_landmarks(face.landmarks))
    Image.new("RGB", (64, 64)).save(tmp_path / "b.png")
    with pytest.raises(NoFaceError):
        write_landmarks(tmp_path / "b.png", analyser)


@pytest.fixture
def identity(tmp_path, picture):
    for number in range(3):
        shifted = Image.fromarray(np.roll(np.asarray(picture), 9 * number, axis=0))
        put(tmp_path / "faces" / "0", f"{number}.png", shifted, prompt=f"face {number}")
    put(tmp_path / "faces" / "0", "3.png", Image.new("RGB", (96, 96)))  # no face
    (found,) = read_identities(tmp_path / "faces")
    return found


def test_the_cache_holds_what_the_encoder_says(tmp_path, identity, load):
    encoder, prompts = load().identity.face_encoder, load().prompts
    cache = TokenCache(tmp_path / "cache", "digest")
    cache.build([identity], encoder, prompts)
    cached = cache.load(identity)
    assert [portrait.image.name for portrait in cached.portraits] == ["0.png", "1.png", "2.png"]
    for portrait, tokens, text in zip(cached.portraits, cached.tokens, cached.texts, strict=True):
        features = encoder.features(Image.open(portrait.image))
        assert torch.equal(tokens, encoder.tokens(features)[0])
        assert torch.equal(text, prompts.features([portrait.prompt])[0])
    assert cached.tokens.dtype == torch.float32
    assert cache.usable([identity]) == [identity]
    with safe_open(tmp_path / "cache" / "0.safetensors", "pt") as file:
        assert file.get_tensor("valid").tolist() == [1, 1, 1, 0]


def test_tokens_of_another_encoder_are_refused(tmp_path, identity, load):
    arguments = [identity], load().identity.face_encoder, load().prompts
    TokenCache(tmp_path / "cache", "old").build(*arguments)
    new = TokenCache(tmp_path / "cache", "new")
    with pytest.raises(ValueError, match=r"another face encoder \(old, now new\)"):
        new.build(*arguments)
    with pytest.raises(ValueError, match="another face encoder"):
        new.load(identity)


def test_changed_prompts_are_noticed(tmp_path, identity, load):
    arguments = load().identity.face_encoder, load().prompts
    cache = TokenCache(tmp_path / "cache", "digest")
    cache.build([identity], *arguments)
    (tmp_path / "faces" / "0" / "1.txt").write_text("something else")
    (changed,) = read_identities(tmp_path / "faces")
    with pytest.raises(ValueError, match="other pictures or prompts"):
        cache.build([changed], *arguments)
