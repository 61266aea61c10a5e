"""From manifests to shards, and the stream of rows."""

import json
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from idbench.methods.flexip.manifest import read_manifest
from idbench.methods.flexip.packing import pack
from idbench.methods.flexip.shards import REJECTED, preview, row_groups, shards_of, write_shards
from idbench.methods.flexip.stream import RowStream

GOOD = {"subject_id": "a", "modality": "image", "image": "a.png", "caption": "a cup"}


def write(tmp_path, *records):
    path = tmp_path / "manifest.jsonl"
    path.write_text("\n".join(json.dumps(record) for record in records) + "\n\n")
    return path


def test_records_of_both_modalities(tmp_path):
    video = {"subject_id": "b", "modality": "video", "frames": ["x.png", "y.png"], "caption": "hi"}
    views = {**video, "modality": "multiview", "captions": ["one", "two"]}
    del views["caption"]
    image, film, multiview = read_manifest(write(tmp_path, GOOD, video, views))
    assert image.frames == (tmp_path / "a.png",)
    assert (image.varied, film.varied, multiview.varied) == (False, True, True)
    assert film.captions == ("hi", "hi")
    assert multiview.captions == ("one", "two")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"modality": "film"}, "modality must be one of"),
        ({"subject_id": ""}, "subject_id must be a text"),
        ({"image": None}, "image must be a text"),
        ({"frames": ["x.png"]}, "either image or frames"),
        ({"captions": ["a"]}, "either caption or captions"),
        ({"modality": "video"}, "modality 'video' with 1 pictures"),
        ({"quality": 3}, "unknown keys quality"),
    ],
)
def test_what_is_no_record_is_named_with_its_line(tmp_path, change, named):
    path = write(tmp_path, GOOD, GOOD | change)
    with pytest.raises(ValueError, match=named) as caught:
        list(read_manifest(path))
    assert f"{path}, line 2" in str(caught.value)


def test_captions_must_belong_to_frames(tmp_path):
    record = {"subject_id": "b", "modality": "video", "frames": ["x", "y", "z"]}
    with pytest.raises(ValueError, match="3 pictures and 2 captions"):
        list(read_manifest(write(tmp_path, record | {"captions": ["one", "two"]})))


def test_a_line_that_is_no_json_is_named(tmp_path):
    path = tmp_path / "manifest.jsonl"
    path.write_text(json.dumps(GOOD) + "\n{\n")
    with pytest.raises(ValueError, match="line 2"):
        list(read_manifest(path))


def test_shards_hold_the_bytes_of_the_files(manifest, shards):
    records = list(read_manifest(manifest))
    for pool, count, varied in (("invariant", 12, False), ("variant", 8, True)):
        rows = preview(shards, pool, 100)
        expected = [record for record in records if record.varied is varied]
        assert len(rows) == len(expected) == count
        for row, record in zip(rows, expected, strict=True):
            assert row.pictures == tuple(path.read_bytes() for path in record.frames)
            assert (row.subject_id, row.modality) == (record.subject_id, record.modality)
            assert row.captions == record.captions
    assert [len(shards_of(shards, pool)) for pool in ("invariant", "variant")] == [3, 2]
    assert [group.rows for group in row_groups(shards_of(shards, "variant"))] == [2, 2, 1, 2, 1]


def test_a_broken_picture_is_left_out_and_listed(tmp_path, pictures):
    pictures[0].resize((8, 8)).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    (tmp_path / "half.png").write_bytes(content[: len(content) // 2])
    records = [GOOD, GOOD | {"subject_id": "b", "image": "half.png"}, GOOD | {"subject_id": "c"}]
    absent = GOOD | {"subject_id": "d", "image": "nowhere.png"}
    packed = write_shards(read_manifest(write(tmp_path, *records, absent)), tmp_path / "out")
    assert packed.rows == {"invariant": 2, "variant": 0}
    listed = [json.loads(line) for line in (tmp_path / "out" / REJECTED).read_text().splitlines()]
    assert [entry["subject_id"] for entry in listed] == ["b", "d"]
    assert "half.png" in listed[0]["reason"]
    assert [row.subject_id for row in preview(tmp_path / "out", "invariant", 9)] == ["a", "c"]


def test_nothing_to_pack_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"no record could be packed, 1 were left out"):
        write_shards(read_manifest(write(tmp_path, GOOD)), tmp_path / "out")


def test_packing_again_replaces_what_was_there(manifest, tmp_path):
    records = list(read_manifest(manifest))
    write_shards(records, tmp_path, rows_per_shard=2)
    write_shards(records[:3], tmp_path, rows_per_shard=2)
    assert len(preview(tmp_path, "invariant", 99)) == 3
    assert shards_of(tmp_path, "variant") == []


def test_the_verb_packs_manifests_by_configuration(manifest, tmp_path):
    path = tmp_path / "pack.yaml"
    path.write_text(json.dumps({"manifests": [str(manifest)], "output": "out"}))
    reported = []
    folder = pack(path, lambda step, steps, values: reported.append((step, steps, values)))
    assert folder == tmp_path / "out"
    assert len(preview(folder, "variant", 99)) == 8
    assert reported[-1] == (20, 20, {"invariant": 12, "variant": 8, "left out": 0})
    path.write_text(json.dumps({"manifests": [str(manifest)], "output": "out", "rows": 3}))
    with pytest.raises(ValueError, match="unknown settings rows"):
        pack(path, lambda *_: None)


def test_a_file_of_something_else_is_no_shard(tmp_path):
    pq.write_table(pa.table({"x": [1]}), tmp_path / "invariant-0.parquet")
    with pytest.raises(ValueError, match="columns x; a shard has subject_id"):
        row_groups(shards_of(tmp_path, "invariant"))
    (tmp_path / "invariant-0.parquet").write_text("no parquet")
    with pytest.raises(ValueError, match="no readable Parquet"):
        row_groups(shards_of(tmp_path, "invariant"))


def stream(shards, **settings):
    return RowStream(row_groups(shards_of(shards, "invariant")), seed=7, window=2, **settings)


def names(rows, places):
    return [rows[place].subject_id for place in places]


def test_an_epoch_has_every_row_once_and_the_next_another_order(shards):
    rows = stream(shards)
    epochs = [names(rows, range(start, start + 12)) for start in (0, 12, 24)]
    assert all(sorted(epoch) == sorted(epochs[0]) for epoch in epochs)
    assert len(set(epochs[0])) == 12
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_any_place_can_be_entered_at_once(shards):
    whole = names(stream(shards), range(40))
    assert names(stream(shards), range(23, 40)) == whole[23:]
    assert names(stream(shards), [31, 5, 17]) == [whole[31], whole[5], whole[17]]


def test_lanes_share_out_an_epoch(shards):
    groups = row_groups(shards_of(shards, "invariant"))
    assert len(groups) == 7
    seen = Counter()
    for lane in range(3):
        rows = stream(shards, lane=lane, lanes=3)
        share = sum(len(window) and sum(g.rows for g in window) for window in rows._windows(0))
        seen.update(names(rows, range(share)))
    assert set(seen.values()) == {1}
    assert len(seen) == 12


def test_more_lanes_than_pieces_read_all_in_orders_of_their_own(shards):
    lanes = [names(stream(shards, lane=lane, lanes=9), range(12)) for lane in range(9)]
    assert all(sorted(lane) == sorted(lanes[0]) for lane in lanes)
    assert len({tuple(lane) for lane in lanes}) == 9


def test_another_seed_is_another_order(shards):
    groups = row_groups(shards_of(shards, "invariant"))
    orders = {tuple(names(RowStream(groups, seed=seed), range(12))) for seed in range(4)}
    assert len(orders) == 4


def test_pictures_come_back_as_they_were(shards, manifest):
    row = next(row for row in preview(shards, "invariant", 12) if row.subject_id == "i3")
    (tmp := manifest.parent / "again.png").write_bytes(row.pictures[0])
    with Image.open(tmp) as one, Image.open(manifest.parent / "image3.png") as two:
        assert one.tobytes() == two.tobytes()
    tmp.unlink()
