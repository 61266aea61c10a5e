import csv
import hashlib
from pathlib import Path

import pytest

from idbench.paper_tables import find_table, load_tables, marks, mean_ranks, noise_floor
from idbench.prompts.registry import SUITES

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "results" / "published").glob("*.csv"))
# First digits of the sha256 of each transcription, so that no number changes unseen.
DIGESTS = {
    "dynamicid_table1_single_id.csv": "24f09c2143d95c6b",
    "dynamicid_table2_multi_id.csv": "11c408c3a48bead3",
    "dynamicid_table3_ablation_saa_imr.csv": "bde65fd2e6d843bd",
    "dynamicid_table4_ablation_dfm_ldc.csv": "66b4e0d212fe3303",
    "editedid_table10_attention.csv": "bf3e007444195476",
    "editedid_table11_solver_stability.csv": "57c5f1e1fb1b21d1",
    "editedid_table12_diffbir.csv": "5d30262ece14e373",
    "editedid_table13_multi_region.csv": "4813e3830aa76aec",
    "editedid_table3_id_preservation.csv": "026d115c2d149d8f",
    "editedid_table6_multimodal_models.csv": "8a7cd3084a1c0bc4",
    "editedid_table7_ablation.csv": "eeda23c581b02d62",
    "editedid_table8_user_study.csv": "620561db21a515f7",
    "editedid_table9_inference_cost.csv": "90ef7f13c362e420",
    "editidv2_table1.csv": "554319503fd3b080",
    "flexid_table1.csv": "db1c526df78b3f03",
    "flexip_table1.csv": "38504fee2e2c5e3c",
    "flexip_table2.csv": "001662e23dc60368",
    "flexip_table3_training_data.csv": "dab198203e8ef8df",
}


def test_all_tables_of_the_five_papers_are_there():
    counts = {}
    for table in load_tables().values():
        counts[table.paper] = counts.get(table.paper, 0) + 1
    assert counts == {"editidv2": 1, "flexid": 1, "flexip": 3, "dynamicid": 4, "editedid": 9}
    assert {path.name for path in FILES} == DIGESTS.keys()


def test_every_file_is_rectangular():
    for path in FILES:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        assert rows
        assert None not in rows[0], path.name


@pytest.mark.parametrize("name", DIGESTS)
def test_transcriptions_are_unchanged(name):
    data = (ROOT / "results" / "published" / name).read_bytes()
    assert hashlib.sha256(data).hexdigest().startswith(DIGESTS[name])


def test_cells_by_hand():
    table = find_table("editidv2:table1")
    assert table.cells["PuLID (Flux)"]["landmarkdiff"].text == "0.070"
    assert table.cells["PuLID (Flux)"]["landmarkdiff"].rounding == pytest.approx(0.0005)
    assert table.cells["EditIDv2"]["fid"].value is None
    assert table.numbers("fid") == {
        "PuLID (SDXL)": 11.28,
        "PuLID (Flux)": 14.59,
        "EditID": 13.52,
        "InfiniteYou (aes)": 40.70,
        "InfiniteYou (sim)": 43.157,
    }
    assert table.column("fid").better == "down"


def test_rows_of_two_keys():
    table = find_table("editedid:table13")
    assert table.cells["Dual / w/o gating"]["ip_pass_rate_pct"].value == 69
    assert "none / none" in find_table("editedid:table10").cells


def test_numbers_between_papers_differ_by_what_was_noticed():
    # 0.070 - 0.0657981, 0.757 - 0.7498004 and 0.2466 - 0.243 for PuLID (Flux); PuLID (SDXL)
    # differs in landmarkdiff by 0.000645 only.
    floor = noise_floor()
    assert floor["landmarkdiff@ibench[mtcnn]"] == pytest.approx(0.0042019)
    assert floor["clip_i.vs_base@ibench[clip-l14]"] == pytest.approx(0.0071996)
    assert floor["clip_t@ibench[clip-l14]"] == pytest.approx(0.003589)
    assert floor["image_quality@ibench[musiq-spaq]"] == pytest.approx(0.000509208)


def test_printed_mean_rank_of_flexip_is_recomputed_in_every_row():
    table = find_table("flexip:table1")
    printed = table.numbers("mrank")
    assert len(printed) == 9
    assert {row: round(rank, 1) for row, rank in mean_ranks(table).items()} == printed


def test_marks_by_hand():
    numbers = {"a": 0.5, "b": 0.7, "c": 0.7, "d": 0.6}
    assert marks(numbers, higher=True) == {"b": "best", "c": "best", "d": "second"}
    assert marks(numbers, higher=False) == {"a": "best", "d": "second"}


def test_directions_and_suites_are_stated_where_something_can_be_measured():
    for table in load_tables().values():
        for column in table.columns:
            assert column.metric or column.why, (table.id, column.name)
            assert column.better or not column.metric
        assert table.suite is None or table.tolerance > 0 or not table.measurable
        if table.suite is not None:
            assert table.suite in SUITES


def test_unknown_table_lists_the_known():
    with pytest.raises(
        LookupError, match="unknown table 'editidv3:table1'; known: editidv2:table1"
    ):
        find_table("editidv3:table1")
    with pytest.raises(LookupError, match="known: flexip:table1, flexip:table2, flexip:table3"):
        find_table("flexip")
    assert find_table("flexid").id == "flexid:table1"
