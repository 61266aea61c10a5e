"""The folder layouts: read by name, incomplete ones counted, written and read again."""

import json

import pytest

from idbench.prompts.formats import dreambench_plus, editedid, fastcomposer, multiid_bench
from idbench.prompts.formats.paths import PathRules
from idbench.prompts.importing import assemble, units_of
from idbench.prompts.materialise import suite_files
from idbench.prompts.sources import resolve
from idbench.prompts.strict import ManifestError
from idbench.prompts.tables import table


def _again(imported, module, tmp_path, read=None):
    """Writes what was imported and imports it again."""
    files = {
        (source, path): resolve(file, source, tmp_path)
        for (source, path), file in suite_files(imported.suite).items()
    }
    target = tmp_path / "written"
    module.write(units_of(imported.suite, imported.images, files), target)
    read = read or module.read
    return assemble(read(target, PathRules(folder=target)))


def _assert_equal(first, second):
    assert second.problems == ()
    assert [c.case_id for c in second.suite.cases] == [c.case_id for c in first.suite.cases]
    for one, two in zip(first.suite.cases, second.suite.cases, strict=True):
        for name in ("prompt", "category", "subject", "difficulty", "alias", "tags", "pose_axis"):
            assert getattr(one, name) == getattr(two, name), name
        assert [p.box for p in one.people] == [p.box for p in two.people]
    for one, two in zip(first.images, second.images, strict=True):
        assert (one.case_id, one.sample) == (two.case_id, two.sample)
        assert one.path.read_bytes() == two.path.read_bytes()


class TestDreamBench:
    @pytest.fixture
    def make(self, picture, tmp_path):
        def make(prompts=9, samples=1):
            root = tmp_path / "method_gs7.5"
            for collection in ("live_subject_animal_00_grey_cat", "style_03_blue_print"):
                for i in range(prompts):
                    for j in range(samples):
                        name = f"method_gs7.5/{{}}/{collection}/{i}_{j}.png"
                        picture(name.format("src_image"), seed=collection)
                        picture(name.format("tgt_image"))
                        text = root / "text" / collection / f"{i}_{j}.txt"
                        text.parent.mkdir(parents=True, exist_ok=True)
                        text.write_text(f"prompt {i} of {collection}\n")
            (root / "negative_prompt.txt").write_text("blurry\n")
            return root

        return make

    def _read(self, root):
        return dreambench_plus.read(root, PathRules(folder=root))

    def test_names_give_category_subject_difficulty_and_sample(self, make):
        imported = assemble(self._read(make(samples=2)))
        assert (imported.suite.kind, imported.suite.count) == ("subject", 18)
        assert imported.suite.samples_per_case == 2
        assert imported.parameters == {"negative_prompt": "blurry"}
        case = next(c for c in imported.suite.cases if c.alias.endswith("grey_cat-7"))
        assert (case.category, case.subject, case.difficulty) == (
            "animal",
            "grey cat",
            "imaginative",
        )
        assert {c.category for c in imported.suite.cases} == {"animal", "style"}

    def test_round_trip(self, make, tmp_path):
        first = assemble(self._read(make(samples=2)))
        _assert_equal(first, _again(first, dreambench_plus, tmp_path))

    def test_files_are_matched_by_name_and_gaps_are_counted(self, make):
        root = make()
        collection = "style_03_blue_print"
        (root / "tgt_image" / collection / "3_0.png").unlink()
        (root / "text" / collection / "5_0.txt").unlink()
        reading = self._read(root)
        imported = assemble(reading)
        assert imported.counts()["missing files"] == 2
        assert imported.counts()["images mapped"] == 16
        missing = next(image for image in imported.images if image.path is None)
        assert imported.suite.case(missing.case_id).prompt == f"prompt 3 of {collection}"

    def test_different_source_images_are_noted(self, make, picture):
        root = make()
        picture("method_gs7.5/src_image/style_03_blue_print/2_0.png", seed="another")
        notes = self._read(root).notes
        assert notes == ("style_03_blue_print: 2 different source images, expected one",)

    def test_another_folder_is_refused(self, tmp_path):
        with pytest.raises(ManifestError, match="no folder src_image"):
            self._read(tmp_path)

    def test_two_files_of_one_number_are_refused(self, make, picture):
        root = make()
        picture("method_gs7.5/tgt_image/style_03_blue_print/03_0.png")
        with pytest.raises(ManifestError, match="have one number"):
            self._read(root)


class TestFastComposer:
    @pytest.fixture
    def folders(self, picture, tmp_path):
        for row in table("fastcomposer_subjects")[:3]:
            picture(f"refs/{row['celeba_folder']}/000.jpg", seed=row["celeba_folder"])
            picture(f"refs/{row['celeba_folder']}/001.jpg")
            for prompt in (0, 17):
                for instance in range(2):
                    index = int(row["case_index"])
                    picture(
                        f"out/subject_{index:04d}_prompt_{prompt:04d}_instance_{instance:04d}.jpg"
                    )
        (tmp_path / "out" / "grid.png").write_bytes(b"")
        return tmp_path / "out", tmp_path / "refs"

    def _read(self, out, refs):
        return fastcomposer.read(out, PathRules(folder=out), reference_folder=refs)

    def test_names_give_subject_prompt_and_instance(self, folders):
        reading = self._read(*folders)
        assert reading.notes == ("1 other files were left out",)
        imported = assemble(reading)
        assert (imported.suite.count, imported.suite.samples_per_case) == (6, 2)
        case = next(c for c in imported.suite.cases if c.alias == "subject_0001_prompt_0000")
        assert case.prompt == "a man wearing a red hat"
        assert case.references[0].path == "000.jpg"

    def test_round_trip(self, folders, tmp_path):
        first = assemble(self._read(*folders))
        second = _again(
            first,
            fastcomposer,
            tmp_path,
            read=lambda target, rules: fastcomposer.read(
                target / "images", rules, reference_folder=target / "references"
            ),
        )
        _assert_equal(first, second)

    def test_unknown_numbers_and_missing_references_are_counted(self, folders, picture, tmp_path):
        picture("out/subject_0099_prompt_0000_instance_0000.jpg")
        picture("out/subject_0005_prompt_0000_instance_0000.jpg")
        counts = assemble(self._read(*folders)).counts()
        assert (counts["unknown ids"], counts["missing files"]) == (1, 1)

    def test_a_folder_without_such_names_is_refused(self, folders, tmp_path):
        (tmp_path / "empty").mkdir()
        with pytest.raises(ManifestError, match="no image like subject_0000"):
            self._read(tmp_path / "empty", folders[1])
        with pytest.raises(ManifestError, match="is not a folder"):
            self._read(folders[0], tmp_path / "nowhere")


class TestMultiId:
    @pytest.fixture
    def root(self, picture, tmp_path):
        for number in range(3):
            picture(f"rows/id {number}/ori.png")
            picture(f"rows/id {number}/out.jpg")
            for person in range(number + 1):
                picture(f"rows/id {number}/ref_{person + 1}.png")
            boxes = [[0.1 + 0.2 * p, 0.1, 0.25 + 0.2 * p, 0.5] for p in range(number + 1)]
            meta = {"prompt": f"text {number}", "bboxes": boxes, "subset": "v202"}
            (tmp_path / f"rows/id {number}/meta.json").write_text(json.dumps(meta))
        return tmp_path / "rows"

    def test_rows_are_cases_with_people_boxes_and_ground_truth(self, root):
        imported = assemble(multiid_bench.read(root, PathRules(folder=root)))
        assert imported.suite.kind == "multi_id"
        case = next(c for c in imported.suite.cases if c.alias == "id 2")
        assert [p.box[0] for p in case.people] == pytest.approx([0.1, 0.3, 0.5])
        assert case.ground_truth.path == "ori.png"
        assert case.tags == {"people": ("3",), "subset": ("v202",)}

    def test_round_trip(self, root, tmp_path):
        first = assemble(multiid_bench.read(root, PathRules(folder=root)))
        second = _again(first, multiid_bench, tmp_path)
        _assert_equal(first, second)
        for one, two in zip(first.suite.cases, second.suite.cases, strict=True):
            assert one.ground_truth.sha256 == two.ground_truth.sha256

    def test_gaps_are_counted(self, root):
        (root / "id 1" / "out.jpg").unlink()
        (root / "id 0" / "ref_1.png").unlink()
        counts = assemble(multiid_bench.read(root, PathRules(folder=root))).counts()
        assert (counts["missing files"], counts["images mapped"]) == (2, 1)

    def test_a_broken_meta_names_the_file(self, root):
        (root / "id 1" / "meta.json").write_text("{")
        with pytest.raises(ManifestError, match=r"id 1/meta.json: not JSON"):
            multiid_bench.read(root, PathRules(folder=root))


class TestEdited:
    @pytest.fixture
    def root(self, picture, tmp_path):
        for name in ("one", "two"):
            for part in ("original", "edited", "restored"):
                picture(f"cases/{name}/{part}.png")
        picture("cases/one/mask_0.png")
        (tmp_path / "cases/one/element.txt").write_text("red hat\n\nglasses\n", encoding="utf-8")
        meta = {
            "instruction": "帽子",
            "scenario": ["occluded"],
            "corruption": "high",
            "editor": "x",
            "restore_person": 1,
        }
        (tmp_path / "cases/one/meta.json").write_text(json.dumps(meta), encoding="utf-8")
        return tmp_path / "cases"

    def _read(self, path):
        return editedid.read(path, PathRules(folder=path if path.is_dir() else path.parent))

    def test_folders_are_cases_with_elements_and_masks(self, root):
        imported = assemble(self._read(root))
        assert imported.suite.kind == "edit_restoration"
        case = next(c for c in imported.suite.cases if c.alias == "one")
        assert [(e.text, e.mask is not None) for e in case.edit.elements] == [
            ("red hat", True),
            ("glasses", False),
        ]
        assert (case.edit.corruption, case.edit.scenario) == ("high", ("occluded",))
        assert case.edit.faces[0].person == 1
        assert case.references[0].sha256 == case.edit.original.sha256

    def test_round_trip(self, root, tmp_path):
        first = assemble(self._read(root))
        second = _again(first, editedid, tmp_path)
        _assert_equal(first, second)
        for one, two in zip(first.suite.cases, second.suite.cases, strict=True):
            assert [e.text for e in one.edit.elements] == [e.text for e in two.edit.elements]
            assert one.edit.instruction == two.edit.instruction
            assert one.edit.faces == two.edit.faces

    def test_a_csv_gives_the_same_cases(self, root, tmp_path):
        lines = [
            "alias,original,edited,restored,elements,masks,instruction,scenario,corruption,editor,"
            "restore_person",
            "one,cases/one/original.png,cases/one/edited.png,cases/one/restored.png,"
            "red hat;glasses,cases/one/mask_0.png;,帽子,occluded,high,x,1",
            "two,cases/two/original.png,cases/two/edited.png,cases/two/restored.png,,,,,,,",
        ]
        path = tmp_path / "cases.csv"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        _assert_equal(assemble(self._read(root)), assemble(self._read(path)))

    def test_gaps_are_counted(self, root):
        (root / "one" / "restored.png").unlink()
        (root / "two" / "original.png").unlink()
        counts = assemble(self._read(root)).counts()
        assert (counts["missing files"], counts["images mapped"]) == (2, 0)

    @pytest.mark.parametrize(
        ("meta", "message"),
        [
            ({"corruption": "mid"}, "key 'corruption'"),
            ({"scenario": 3}, "key 'scenario'"),
            ({"restore_person": -1}, "key 'restore_person'"),
            ({"colour": "red"}, "unknown key 'colour'"),
        ],
    )
    def test_a_broken_meta_names_the_key(self, root, meta, message):
        (root / "two" / "meta.json").write_text(json.dumps(meta))
        with pytest.raises(ManifestError, match=message):
            self._read(root)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("edited\nx.png\n", "original and edited are needed"),
            ("original,edited,colour\n", "columns are"),
            ("original,edited\na,b,c\n", "not as many values"),
            ("original,edited,corruption\na,b,mid\n", "corruption must be high or low"),
            ("original,edited,elements,masks\na,b,x,m;n\n", "2 masks for 1 elements"),
        ],
    )
    def test_a_broken_csv_names_the_line(self, tmp_path, text, message):
        path = tmp_path / "x.csv"
        path.write_text(text)
        with pytest.raises(ManifestError, match=message):
            self._read(path)

    def test_an_empty_folder_is_refused(self, tmp_path):
        (tmp_path / "nothing").mkdir()
        with pytest.raises(ManifestError, match="no folders with an edited"):
            self._read(tmp_path / "nothing")
