"""Every method that the papers' tables name is in the registry, and both sides agree."""

import pytest
from PIL import Image

from idbench.methods.registry import build, list_methods, method_info
from idbench.paper_tables import load_tables
from idbench.requirements import missing_of_method, needs_of_row

# Tables whose rows are no methods.
NO_METHODS = {
    "flexip:table3": "data sets",
    "editedid:table10": "layers of one network",
    "editedid:table11": "solvers; `idbench perf solver` measures them",
}


@pytest.fixture(scope="module")
def covered():
    """Row, as "paper:table:row", to the names of the methods that stand for it."""
    found = {}
    for info in list_methods():
        for row in info.rows:
            found.setdefault(row, []).append(info.name)
    return found


@pytest.fixture(scope="module")
def printed():
    """Row, as above, to its source, of all tables of methods."""
    return {
        f"{table.id}:{row}": source
        for table in load_tables().values()
        if table.id not in NO_METHODS
        for row, source in table.rows.items()
    }


def test_there_are_five_papers(printed):
    papers = {row.split(":")[0] for row in printed}
    assert papers == {"editidv2", "flexid", "flexip", "dynamicid", "editedid"}
    assert set(NO_METHODS) <= {table.id for table in load_tables().values()}


def test_every_row_has_one_method(printed, covered):
    assert set(printed) - set(covered) == set()
    assert {row: names for row, names in covered.items() if len(names) > 1} == {}


def test_methods_name_no_row_that_is_not_printed(printed, covered):
    assert set(covered) - set(printed) == set()


def test_tables_and_registry_name_the_same_method(printed, covered):
    named = {row: source.method for row, source in printed.items() if source.method}
    assert {row: covered[row] for row in named} == {row: [name] for row, name in named.items()}


def test_what_is_no_pipeline_here_says_why():
    for info in list_methods():
        if info.rows and info.route in ("command", "images"):
            assert len(info.reason) > 5, info.name


# Rows that the papers name in words, by hand from the tables.
@pytest.mark.parametrize(
    ("row", "name", "route"),
    [
        ("editidv2:table1:InfiniteYou (aes)", "infiniteyou-aes", "native"),
        ("flexid:table1:PuLID (Flux)", "pulid-flux", "native"),
        ("flexip:table2:λ-Eclipse", "lambda-eclipse", "command"),
        ("dynamicid:table1:InstantID", "instantid", "native"),
        ("dynamicid:table1:PhotoMaker-v2", "photomaker-v2", "native"),
        ("editedid:table3:DreamID", "dreamid", "images"),
        ("editedid:table6:Qwen-Image-Edit", "diffusers:qwen-image-edit", "recipe"),
    ],
)
def test_routes(covered, row, name, route):
    assert covered[row] == [name]
    assert method_info(name).route == route


class TestWhatIsMissing:
    def test_files_are_looked_for_in_the_weights_folder(self, tmp_path):
        info = method_info("instantid")
        lines = [line for line in missing_of_method(info, tmp_path) if line.startswith("weights")]
        assert lines[0].startswith(
            "weights: stable-diffusion-xl-base-1.0, InstantID, antelopev2 in "
        )
        for need in info.needs:
            path = tmp_path / need.replace("*", "a.json")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")
        assert [m for m in missing_of_method(info, tmp_path) if m.startswith("weights")] == []
        (tmp_path / "InstantID" / "ip-adapter.bin").unlink()
        lines = [line for line in missing_of_method(info, tmp_path) if line.startswith("weights")]
        assert lines[0].startswith("weights: InstantID in ")

    def test_a_program_needs_an_environment(self):
        (line,) = missing_of_method(method_info("uno"))
        assert "`idbench method program uno`" in line

    def test_images_come_from_a_folder(self):
        assert missing_of_method(method_info("doubao")) == [
            "its images, made elsewhere: --method-args dir=FOLDER"
        ]

    def test_baselines_need_nothing(self):
        assert missing_of_method(method_info("copy")) == []

    def test_a_row_says_how_it_is_measured(self, tmp_path):
        table = load_tables()["editedid:table6"]
        needs = needs_of_row(table, "Doubao", tmp_path)
        assert any("--method-args dir=FOLDER" in line for line in needs.missing)
        assert "--method doubao --method-args dir=DIR" in needs.commands[-1]
        needs = needs_of_row(table, "BAGEL", tmp_path)
        assert "--method bagel --method-args program='PYTHON PROGRAM'" in needs.commands[-1]
        assert "--device cuda" not in needs.commands[-1]
        needs = needs_of_row(table, "Flux.1 Kontext", tmp_path)
        assert "--method diffusers:flux-kontext" in needs.commands[-1]
        assert "--device cuda" in needs.commands[-1]


def test_images_only_is_a_folder_under_the_name_of_the_method(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    assert build("dreamid", {"dir": tmp_path}).name == "dreamid"
    with pytest.raises(ValueError, match="'dreamid'"):
        build("dreamid")
