"""The page of suites has a section for every suite and names every variant, source and layout."""

import re
from pathlib import Path

import pytest

from idbench.prompts.acquisition.catalogue import SOURCES
from idbench.prompts.registry import SUITES

README = Path(__file__).parents[2] / "prompts" / "README.md"
RELATIVES = {
    "dynamicid-single-full": "dynamicid-single",
    "dynamicid-multi-3": "dynamicid-multi",
    "flexip186": "flexip186, flexip190, flexip150",
    "flexip190": "flexip186, flexip190, flexip150",
    "flexip150": "flexip186, flexip190, flexip150",
}


@pytest.fixture(scope="module")
def page():
    return README.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", SUITES)
def test_every_suite_has_a_section(page, name):
    titles = re.findall(r"^#{2,3} (.+)$", page, re.MULTILINE)
    assert RELATIVES.get(name, name) in titles
    assert name in page


def test_every_variant_is_explained(page):
    for info in SUITES.values():
        for name in info.variants:
            assert f"{name}=" in page, f"{info.name}: {name}"


def test_every_source_that_is_fetched_is_named(page):
    for name, info in SOURCES.items():
        if info.method in ("git", "hub") and info.terms:
            assert info.terms in page, name


def test_counts_of_the_page_are_those_of_the_registry(page):
    for name, info in SUITES.items():
        if name.startswith("ibench-"):
            assert f"| {name} | {info.references} x {info.prompts} | {info.cases:,} |" in page
