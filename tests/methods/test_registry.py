"""Names become methods; wrong names and arguments become messages that help."""

import importlib
import json
import subprocess
import sys
import textwrap

import pytest
from PIL import Image

from idbench.methods.protocol import Method, Reference, Request
from idbench.methods.registry import TABLE, build, list_methods, method_info, method_parameters

BASELINES = ("copy", "crop", "mirror", "rotate", "colour", "blur", "jpeg", "swap", "warp", "noise")


def run(code, *arguments):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        capture_output=True,
        text=True,
        check=True,
    ).stdout


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_is_built_by_name(name):
    method = build(name)
    assert isinstance(method, Method)
    assert method.name == name
    assert set(method_info(name).kinds) == set(method.capabilities.kinds)
    assert set(method.fingerprint()["parameters"]) == set(method_parameters(name))


def test_every_entry_of_the_table_has_a_name_of_its_own_and_a_summary():
    names = [info.name for info in TABLE]
    assert len(names) == len(set(names))
    assert all(info.summary and ":" in info.target for info in TABLE)


def test_listing_and_building_baselines_imports_no_torch_and_listing_no_pydantic():
    out = run(
        """
        import json, sys
        from idbench.methods.registry import build, list_methods
        list_methods()
        listed = "pydantic" in sys.modules
        for name in sys.argv[1:]:
            build(name)
        print(json.dumps([listed, "torch" in sys.modules, "skimage" in sys.modules]))
        """,
        *BASELINES,
    )
    assert json.loads(out) == [False, False, False]


def test_arguments_arrive_as_text_or_typed():
    assert (
        build("blur", {"sigma": "2.5"}).fingerprint() == build("blur", {"sigma": 2.5}).fingerprint()
    )
    assert build("noise", {"sigma": "none"}).fingerprint() == build("noise").fingerprint()


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("blur", {"sigm": 1}, r"method 'blur' has no parameter 'sigm'; allowed: sigma \(float\)"),
        ("blur", {"sigma": "soft"}, "method 'blur': parameter 'sigma' must be float, got 'soft'"),
        ("blur", {"sigma": -3}, r"method 'blur': sigma must be in \[0, 256\], got -3"),
        ("mirror", {"axis": 1}, "method 'mirror' has no parameter 'axis'; allowed: none"),
        ("images", {}, "method 'images' needs a value for 'dir'"),
        ("images:somewhere", {"dir": "there"}, "names its 'dir' already"),
        ("images:no-such-folder", {}, "dir must be a folder of images, got 'no-such-folder'"),
        ("command", {"command": ""}, "command must name a program"),
        ("command:program 'unclosed", {}, "cannot be split"),
        ("python:nothing", {}, "python:module:Name or python:file.py:Name, got 'nothing'"),
    ],
)
def test_wrong_arguments_are_explained(name, args, message):
    with pytest.raises(ValueError, match=message):
        build(name, args)


def test_an_unknown_method_lists_the_known_ones_and_suggests():
    with pytest.raises(
        LookupError, match="unknown method 'blurr'; did you mean 'blur'\\?"
    ) as caught:
        build("blurr")
    assert all(name in str(caught.value) for name in BASELINES)


@pytest.mark.parametrize("name", ["", ":", "images:", "torch:x", "copy:x"])
def test_malformed_names_are_unknown(name):
    with pytest.raises(LookupError, match="unknown method"):
        build(name)


@pytest.fixture
def plug_in(tmp_path, monkeypatch):
    """An installed distribution with entry points, as pip would leave it."""
    (tmp_path / "their_methods.py").write_text(
        textwrap.dedent(
            """
            from idbench.methods.protocol import Capabilities
            from PIL import Image

            def tint(request, level: int = 10):
                return Image.new("RGB", (4, 4), (level, 0, 0))

            class Whole:
                name = "whole"
                capabilities = Capabilities()

                def __init__(self, device: str = "none"):
                    self.device = device

                def fingerprint(self):
                    return {"method": "whole"}

                def generate(self, requests):
                    return [Image.new("RGB", (2, 2))] * len(requests)
            """
        )
    )
    info = tmp_path / "their_methods-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-methods\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(
        "[idbench.methods]\n"
        "tint = their_methods:tint\n"
        "whole = their_methods:Whole\n"
        "blur = their_methods:tint\n"
        "broken = their_methods:absent\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield
    sys.modules.pop("their_methods", None)


@pytest.mark.usefixtures("plug_in")
class TestPlugIns:
    def test_plug_ins_are_listed_without_being_imported(self):
        infos = {info.name: info for info in list_methods()}
        assert infos["tint"].summary == "plug-in of their-methods 1.2"
        assert "their_methods" not in sys.modules

    def test_a_name_of_the_table_is_not_given_away(self, caplog):
        assert method_info("blur") in TABLE
        assert "plug-in method 'blur' of their_methods:tint: the name is taken" in caplog.text

    def test_a_function_is_wrapped(self):
        image = Image.new("RGB", (8, 8))
        request = Request(
            case_id="c0",
            sample=0,
            seed=1,
            prompt="",
            references=(Reference(image=image, sha256=""),),
        )
        method = build("tint", {"level": "77"})
        assert method.name == "tint"
        assert method.generate([request])[0].getpixel((0, 0)) == (77, 0, 0)
        assert list(method_parameters("tint")) == ["level"]

    def test_a_whole_method_is_itself_and_gets_the_device(self):
        method = build("whole", device="cuda:1")
        assert type(method).__name__ == "Whole"
        assert method.device == "cuda:1"

    def test_a_missing_object_is_named(self):
        with pytest.raises(
            LookupError, match="their_methods has no 'absent'; it defines Whole, tint"
        ):
            build("broken")
