"""The kit passes what is sound and finds what is planted."""

import itertools
import json
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from idbench.methods.baselines.copying import Copy
from idbench.methods.conformance.kit import check, check_named
from idbench.methods.conformance.outcome import Check
from idbench.methods.conformance.sample_requests import drawn_portrait, portraits, sound_request
from idbench.methods.protocol import Capabilities, Failure, Kind
from idbench.methods.registry import TABLE

PAIR = (drawn_portrait(0), drawn_portrait(1))
BASELINES = [
    info.name
    for info in TABLE
    if info.target.startswith("idbench.methods.baselines.") and not (info.base or info.extras)
]
calls = itertools.count()


class Sound:
    """Tints the reference with the seed; every planted fault is a change to this."""

    name = "sound"
    capabilities = Capabilities()

    def fingerprint(self):
        return {"method": "sound", "version": 1}

    def paint(self, request):
        size = (request.width or 64, request.height or 64)
        pixels = np.array(request.references[0].image.resize(size))
        pixels[:, :, 0] = np.random.default_rng(request.seed).integers(0, 256)
        return Image.fromarray(pixels)

    def answer(self, request):
        if not request.references:
            return Failure("no_reference")
        return self.paint(request)

    def generate(self, requests):
        return [self.answer(request) for request in requests]


def failed(method, **options):
    found = list(check(method, fresh=type(method), pair=PAIR, **options))
    assert all(isinstance(entry, Check) for entry in found)
    return {entry.name: entry.detail for entry in found if entry.passed is False}


def test_a_sound_method_passes_every_check():
    found = list(check(Sound(), fresh=Sound, pair=PAIR))
    assert [entry.name for entry in found if entry.passed] == [
        "name",
        "capabilities",
        "fingerprint",
        "answers_single_id",
        "size",
        "inputs_untouched",
        "repeatable",
        "repeatable_fresh",
        "batch",
        "order",
        "seed",
        "references",
        "failure",
    ]
    (prompt,) = [entry for entry in found if not entry.passed]
    assert prompt == Check(name="prompt", passed=None, detail="another prompt gives the same image")


class Unrepeatable(Sound):
    def paint(self, request):
        image = super().paint(request)
        image.putpixel((0, 0), (next(calls) % 256, 0, 0))
        return image


class OtherInEveryInstance(Sound):
    def __init__(self):
        self.mark = next(calls) % 256

    def paint(self, request):
        image = super().paint(request)
        image.putpixel((0, 0), (self.mark, 0, 0))
        return image


class BatchDependent(Sound):
    def generate(self, requests):
        answers = super().generate(requests)
        for answer in answers:
            if isinstance(answer, Image.Image):
                answer.putpixel((0, 0), (len(requests), 0, 0))
        return answers


class OrderDependent(Sound):
    """Keeps a colour from the request before, as a generator that runs on does."""

    def __init__(self):
        self.last = 0

    def paint(self, request):
        image = super().paint(request)
        if request.seed == 11:
            self.last, kept = request.seed, self.last
            image.putpixel((0, 0), (kept if kept == 12 else 0, 0, 0))
        self.last = request.seed
        return image


class WrongSize(Sound):
    def paint(self, request):
        return super().paint(request).resize((64, 64))


class Raising(Sound):
    def generate(self, requests):
        raise RuntimeError("out of luck")


class RaisingWithoutReference(Sound):
    def answer(self, request):
        return self.paint(request)


class Painting(Sound):
    def paint(self, request):
        request.references[0].image.putpixel((0, 0), (1, 2, 3))
        return super().paint(request)


class NotANumber(Sound):
    def paint(self, request):
        return np.full((request.height or 8, request.width or 8, 3), np.nan)


class Grey(Sound):
    def paint(self, request):
        return super().paint(request).convert("L")


class Silent(Sound):
    def generate(self, requests):
        return [answer for answer in super().generate(requests) if not isinstance(answer, Failure)]


class Nothing(Sound):
    def generate(self, requests):
        return []


class Failing(Sound):
    def paint(self, request):
        return Failure("no_face", "never any")


class Seedless(Sound):
    def paint(self, request):
        return request.references[0].image.resize((request.width or 64, request.height or 64))


class SecretlySeeded(Sound):
    capabilities = Capabilities(uses_seed=False)


class Deaf(Sound):
    def paint(self, request):
        pixels = np.random.default_rng(request.seed).integers(0, 256, (256, 320, 3), np.uint8)
        return Image.fromarray(pixels).resize((request.width or 64, request.height or 64))


class SecretlyListening(Sound):
    capabilities = Capabilities(uses_references=False)


class Inventive(Sound):
    def answer(self, request):
        if not request.references:
            return Image.new("RGB", (request.width or 64, request.height or 64))
        return self.paint(request)


class Reasonless(Sound):
    def answer(self, request):
        return self.paint(request) if request.references else Failure("")


class NeighbourBreaking(Sound):
    """One request without a reference spoils the pictures beside it."""

    def generate(self, requests):
        answers = super().generate(requests)
        if any(isinstance(answer, Failure) for answer in answers):
            for answer in answers:
                if isinstance(answer, Image.Image):
                    answer.putpixel((0, 0), (0, 0, 0))
        return answers


class Boastful(Sound):
    capabilities = Capabilities(kinds=frozenset({"single_id", "multi_id"}), max_people=2)

    def answer(self, request):
        return Failure("refused") if request.kind == "multi_id" else super().answer(request)


class Contradictory(Sound):
    capabilities = Capabilities(kinds=frozenset({"single_id", "multi_id"}), max_people=1)


class UnknownKind(Sound):
    capabilities = Capabilities(kinds=frozenset({"video"}))


class Nameless(Sound):
    name = ""


class ChangingFingerprint(Sound):
    def fingerprint(self):
        return {"call": next(calls)}


class FingerprintOfInstances(Sound):
    def __init__(self):
        self.mark = next(calls)

    def fingerprint(self):
        return {"instance": self.mark}


class UnwritableFingerprint(Sound):
    def fingerprint(self):
        return {"weights": np.zeros(3)}


class FingerprintWithNaN(Sound):
    def fingerprint(self):
        return {"scale": float("nan")}


@pytest.mark.parametrize(
    ("planted", "name", "detail"),
    [
        (Unrepeatable, "repeatable", "the same request gave two images (channels differ by up to"),
        (OtherInEveryInstance, "repeatable_fresh", "a second instance gave another image"),
        (BatchDependent, "batch", "images depend on the rest of the batch"),
        (OrderDependent, "order", "images depend on the order of requests"),
        (WrongSize, "size", "asked for 320 x 256, got (64, 64)"),
        (Raising, "answers_single_id", "raised RuntimeError: out of luck"),
        (RaisingWithoutReference, "failure", "raised IndexError"),
        (Painting, "inputs_untouched", "painted on an image of the request"),
        (NotANumber, "answers_single_id", "expected a PIL image, got numpy.ndarray"),
        (Grey, "answers_single_id", "expected an RGB image, got mode 'L'"),
        (Silent, "failure", "2 answers to 3 requests"),
        (Nothing, "answers_single_id", "0 answers to 1 requests"),
        (Failing, "answers_single_id", "a sound request failed: no_face: never any"),
        (Seedless, "seed", "uses_seed is True, but another seed gives the same image"),
        (SecretlySeeded, "seed", "uses_seed is False, but another seed gives another image"),
        (Deaf, "references", "uses_references is True, but another reference gives the same"),
        (SecretlyListening, "references", "is False, but another reference gives another image"),
        (Inventive, "failure", "it made an image of nobody"),
        (Reasonless, "failure", "the failure gives no reason"),
        (NeighbourBreaking, "failure", "a request that fails changes its neighbours"),
        (Boastful, "answers_multi_id", "a sound request failed: refused"),
        (Contradictory, "capabilities", "max_people is 1, but kinds are"),
        (UnknownKind, "capabilities", "got ['video']"),
        (Nameless, "name", "not empty"),
        (ChangingFingerprint, "fingerprint", "two calls give two fingerprints"),
        (FingerprintOfInstances, "fingerprint", "a second instance of the same method has another"),
        (UnwritableFingerprint, "fingerprint", "the fingerprint is not JSON"),
        (FingerprintWithNaN, "fingerprint", "the fingerprint is not JSON"),
    ],
)
def test_planted_faults_are_found(planted, name, detail):
    found = failed(planted())
    assert name in found, found
    assert detail in found[name]


def test_a_parameter_that_the_fingerprint_forgets_is_found():
    assert "leaves the fingerprint" in failed(Sound(), other=Sound())["fingerprint_parameters"]


def test_a_method_that_declares_chance_is_not_compared():
    class Dice(Unrepeatable):
        capabilities = Capabilities(deterministic=False)

    found = {entry.name: entry for entry in check(Dice(), fresh=Dice, pair=PAIR)}
    assert found["repeatable"].passed is None
    assert "not deterministic" in found["repeatable"].detail
    assert found["failure"].passed is True


def test_tolerance_forgives_small_differences_only():
    class Wavering(Sound):
        def paint(self, request):
            pixels = np.array(super().paint(request))
            pixels[:, :, 1] = pixels[:, :, 1] // 2 + next(calls) % 2
            return Image.fromarray(pixels)

    assert "repeatable" in failed(Wavering())
    assert failed(Wavering(), tolerance=1) == {}


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_passes(name):
    found = list(check_named(name, pair=PAIR))
    assert [entry for entry in found if entry.passed is False] == []
    passed = {entry.name for entry in found if entry.passed}
    assert passed >= {"constructs", "seed", "references", "failure", "fresh_process"}
    assert passed >= {f"answers_{kind}" for kind in Kind.__args__}
    if name not in ("mirror", "swap"):  # those have no parameter
        assert "fingerprint_parameters" in passed


def test_wrapped_code_is_checked_by_name(tmp_path):
    (tmp_path / "mine.py").write_text(
        textwrap.dedent(
            """
            def tinted(request, level: int = 5):
                image = request.references[0].image.copy()
                image.putpixel((0, 0), (level, request.seed % 256, 0))
                if request.width and request.height:
                    return image.resize((request.width, request.height), 0)
                return image
            """
        )
    )
    found = list(check_named(f"python:{tmp_path / 'mine.py'}:tinted", {"level": "9"}, pair=PAIR))
    assert {entry.name for entry in found if entry.passed is False} == set()
    assert {"fingerprint_parameters", "fresh_process"} <= {
        entry.name for entry in found if entry.passed
    }


def test_the_example_of_the_readme_passes():
    mosaic = Path(__file__).parents[1] / "wrappers" / "data" / "mosaic.py"
    found = list(check_named(f"python:{mosaic}:Mosaic", pair=PAIR))
    assert [entry for entry in found if entry.passed is False] == []
    assert len([entry for entry in found if entry.passed]) == 16


def test_a_method_that_only_lives_in_one_process_is_found(tmp_path, monkeypatch):
    (tmp_path / "local_only.py").write_text(
        textwrap.dedent(
            """
            import os

            def method(request):
                image = request.references[0].image.resize((request.width, request.height))
                image.putpixel((0, 0), (os.getpid() % 256, os.getpid() // 256 % 256, 0))
                return image
            """
        )
    )
    monkeypatch.syspath_prepend(tmp_path)  # of this process; a fresh one cannot import it
    found = {entry.name: entry for entry in check_named("python:local_only:method", pair=PAIR)}
    assert found["fresh_process"].passed is False
    assert "cannot be built by name in a fresh interpreter" in found["fresh_process"].detail
    target = f"python:{tmp_path / 'local_only.py'}:method"
    found = {entry.name: entry for entry in check_named(target, pair=PAIR)}
    assert "a fresh interpreter answers otherwise" in found["fresh_process"].detail
    sys.modules.pop("local_only", None)


def test_unknown_methods_and_arguments_raise_before_any_check():
    with pytest.raises(LookupError, match="unknown method"):
        next(check_named("no-such-method"))
    with pytest.raises(ValueError, match="no parameter"):
        next(check_named("blur", {"radius": 1}))


def test_sound_requests_are_the_same_every_time():
    for kind in Kind.__args__:
        one, two = (sound_request(kind, PAIR) for _ in range(2))
        assert one.case_id == two.case_id
        assert [entry.image.tobytes() for entry in one.references] == [
            entry.image.tobytes() for entry in two.references
        ]
        assert (one.edit is not None) == (kind == "edit_restoration")
        json.dumps([one.prompt, one.width])


def test_the_default_portraits_differ():
    one, two = portraits()
    assert one.image.tobytes() != two.image.tobytes()
    answers = Copy().generate([sound_request("single_id", (one, two))])
    assert answers[0].size == (320, 256)


def test_a_sound_program_passes_although_its_time_outs_move_no_pixel(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(
            """
            import json, sys
            from PIL import Image

            print(json.dumps({"idbench": 1}), flush=True)
            for line in sys.stdin:
                asked = json.loads(line)
                answer = {"id": asked["id"], "ok": bool(asked["references"])}
                if answer["ok"]:
                    image = Image.open(asked["references"][0]["image"])
                    image = image.resize((asked["width"] or 64, asked["height"] or 64))
                    image.putpixel((0, 0), (asked["seed"] % 256, 0, 0))
                    image.save(asked["output"])
                else:
                    answer["reason"] = "no_reference"
                print(json.dumps(answer), flush=True)
            """
        )
    )
    found = list(check_named(f"command:{sys.executable} {program}", pair=PAIR))
    assert [entry for entry in found if entry.passed is False] == []
    (entry,) = [entry for entry in found if entry.name == "fingerprint_parameters"]
    assert entry.passed is None
