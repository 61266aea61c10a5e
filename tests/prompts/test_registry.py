"""The registry against the table of the specification: kinds, counts, samples, units."""

import pytest

from idbench.prompts.registry import SUITES

# name, kind, references, prompts, samples, cases, distinct cases, images; transcribed from section
# 2 of the specification of suites, and for other readings from the formulas beside it.
PRINTED = [
    ("ibench-chineseid-long", "single_id", 100, 41, 1, 4_100, 4_059, 4_100),
    ("ibench-chineseid-action", "single_id", 100, 60, 1, 6_000, 5_445, 6_000),
    ("ibench-unsplash50-short", "single_id", 49, 21, 1, 1_029, 1_029, 1_029),
    ("ibench-generateid-typemovie", "single_id", 99, 80, 1, 7_920, 7_920, 7_920),
    ("ibench-mystyle-short", "single_id", 42, 45, 1, 1_890, 1_890, 1_890),
    ("fastcomposer-single", "single_id", 15, 40, 4, 600, 600, 2_400),
    ("dynamicid-single", "single_id", 500, 20, 1, 10_000, 10_000, 10_000),
    ("dynamicid-single-full", "single_id", 500, 20, 1, 280_000, 280_000, 280_000),
    ("dynamicid-multi", "multi_id", 500, 20, 1, 5_000, 5_000, 5_000),
    ("dynamicid-multi-3", "multi_id", 498, 20, 1, 3_320, 3_320, 3_320),
    ("dreambench-plus", "subject", 150, 9, 1, 1_350, 1_350, 1_350),
    ("msbench", "multi_subject", 40, 0, 1, 4_488, 4_488, 4_488),
    ("flexip187", "subject", 187, 9, 10, 1_683, 1_683, 16_830),
    ("flexip186", "subject", 186, 9, 10, 1_674, 1_674, 16_740),
    ("flexip190", "subject", 190, 9, 10, 1_710, 1_710, 17_100),
    ("flexip150", "subject", 150, 9, 10, 1_350, 1_350, 13_500),
    ("editedid-restore", "edit_restoration", 0, 0, 1, 1_200, 1_200, 1_200),
    ("editedid-proxy", "edit_restoration", 1_200, 0, 1, 1_200, 1_200, 1_200),
    ("multiid-bench", "multi_id", 0, 433, 1, 433, 433, 433),
    ("tiny-single", "single_id", 1, 18, 1, 18, 18, 18),
    ("tiny-multi", "multi_id", 3, 2, 1, 6, 6, 6),
    ("tiny-subject", "subject", 4, 9, 1, 36, 36, 36),
    ("tiny-edit", "edit_restoration", 1, 2, 1, 6, 6, 6),
]
OURS = {"demo", "tiny-long"}  # suites that the specification does not have


@pytest.mark.parametrize("row", PRINTED, ids=[row[0] for row in PRINTED])
def test_the_registry_is_the_table_of_the_specification(row):
    info = SUITES[row[0]]
    found = (info.kind, info.references, info.prompts, info.samples)
    assert (info.name, *found, info.cases, info.distinct, info.units) == row


def test_no_suite_is_left_out():
    assert {row[0] for row in PRINTED} | OURS == SUITES.keys()


def test_every_suite_says_how_to_get_it_or_is_here():
    for info in SUITES.values():
        assert info.licence
        assert info.bundled or info.builder or info.fetch == "editedid"
        assert info.bundled or "idbench" in info.how_to_get()
