"""Methods of others: their recipes, the program to start from, and a worked example."""

import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest
from PIL import Image, ImageOps

from idbench.methods.conformance.kit import check_named
from idbench.methods.protocol import Failure, Reference, Request
from idbench.methods.recipes.catalogue import PACKAGE, PROGRAMS, program_text
from idbench.methods.recipes.program_method import program_source
from idbench.methods.recipes.programs_of_others import checklist, read_program_recipe
from idbench.methods.registry import build, method_info

TOY = Path(__file__).parent / "data" / "toy.yaml"

# What a user writes in place of the two functions that `idbench method program` prints.
LOAD = """def load(device):
    from PIL import ImageOps
    return ImageOps.mirror
"""
MAKE = """def make(model, request):
    if not request["references"]:
        raise RefusedError("no_face")
    picture = model(Image.open(request["references"][0]["image"]).convert("RGB"))
    picture = picture.resize(
        (request["width"] or picture.width, request["height"] or picture.height)
    )
    print("libraries may print")
    picture.putpixel((0, 0), (request["seed"] % 256, len(request["prompt"]) % 256, 0))
    return picture
"""


def test_the_table_names_every_file_and_no_other():
    folder = files(PACKAGE) / "programs"
    assert {entry.name for entry in folder.iterdir()} == {f"{name}.yaml" for name in PROGRAMS}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_recipe_is_sound_and_its_program_starts(name):
    recipe = read_program_recipe(*program_text(name))
    assert recipe.name == name
    assert recipe.repository.startswith("https://")
    assert recipe.repository.count("/") == 4  # of a person or group, by name
    info = method_info(name)
    assert (info.route, info.kinds, info.rows) == ("command", recipe.kinds, recipe.rows)
    source = program_source(name)
    compile(source, name, "exec")
    first, *_, last = checklist(recipe)
    assert first.startswith("1. an environment of its own with Python")
    assert last.endswith(f"{name.replace('-', '_')}.py'")
    for step in recipe.install:
        assert " ".join(step.split()) in " ".join(source.split())


def test_without_a_program_the_steps_are_named():
    with pytest.raises(ValueError, match=r"(?s)method 'uno': program: .*git clone.*hf download"):
        build("uno")


@pytest.fixture
def toy(tmp_path):
    """The worked example: the printed program with its two functions written."""
    source = program_source(str(TOY))
    head, _, rest = source.partition("def load(")
    _, _, tail = rest.partition("def main(")
    program = tmp_path / "toy.py"
    program.write_text(f"{head}{LOAD}\n\n{MAKE}\n\ndef main({tail}", "utf-8")
    return program


def command(program):
    return {"program": f"{sys.executable} {program}"}


def request(picture, **options):
    return Request(
        **{
            "case_id": "c0",
            "sample": 0,
            "seed": 300,
            "prompt": "a hat",
            "references": (Reference(image=picture, sha256="0"),),
            **options,
        }
    )


def test_the_worked_example_makes_images(toy):
    picture = Image.radial_gradient("L").convert("RGB").crop((0, 40, 200, 256))
    method = build(f"program:{TOY}", command(toy))
    image, refused = method.generate([request(picture), request(picture, references=())])
    expected = ImageOps.mirror(picture)
    expected.putpixel((0, 0), (300 % 256, len("a hat"), 0))
    assert image.tobytes() == expected.tobytes()
    assert refused == Failure("no_face")
    assert method.name == "toy"
    method.close()


def test_the_worked_example_passes_the_kit(toy):
    checks = list(check_named(f"program:{TOY}", command(toy)))
    assert [entry for entry in checks if entry.passed is False] == []
    assert "fresh_process" in {entry.name for entry in checks}


def test_the_program_is_part_of_the_fingerprint(toy):
    first = build(f"program:{TOY}", command(toy))
    before = first.fingerprint()
    first.close()
    toy.write_text(toy.read_text("utf-8") + "# another version\n", "utf-8")
    second = build(f"program:{TOY}", command(toy))
    assert second.fingerprint() != before
    second.close()


def test_the_printed_program_needs_no_idbench(tmp_path):
    (tmp_path / "p.py").write_text(program_source(str(TOY)), "utf-8")
    code = (
        "import runpy, sys; sys.modules['idbench'] = None; runpy.run_path('p.py', run_name='x')\n"
        "print(sorted(m for m in sys.modules if m in ('torch', 'numpy')))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("speed: 3", "toy.yaml: speed: Unexpected"),
        ("name: my toy", "toy.yaml: name: String should match"),
        ("kinds: [single]", "toy.yaml: kinds.0: Input should be 'single_id'"),
        ("install: []", "toy.yaml: install: .* at least 1"),
        ("max_people: 0", "toy.yaml: max_people: .* greater than or equal to 1"),
    ],
)
def test_what_is_wrong_is_named(line, message):
    key = line.split(":")[0]
    lines = TOY.read_text("utf-8").splitlines()
    kept = [entry for entry in lines if not entry.startswith(f"{key}:")]
    if key == "install":
        kept = [entry for entry in kept if not entry.startswith("  -")]
    with pytest.raises(ValueError, match=message):
        read_program_recipe("\n".join([*kept, line]), "toy.yaml")
