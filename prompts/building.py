"""Building a suite by name and freezing it under the data root."""

from importlib import import_module
from pathlib import Path
from typing import Any

from idbench.prompts.builders.collecting import BuildOptions
from idbench.prompts.freezing import write_cases_table, write_suite
from idbench.prompts.registry import SUITES
from idbench.prompts.suite_info import SuiteInfo
from idbench.prompts.suites import Suite, read_suite

TABLE_FROM = 5_000  # cases; larger suites get a Parquet copy of their cases beside the JSON lines


def suite_info(name: str) -> SuiteInfo:
    """A row of the registry.

    Raises:
        LookupError: If the name is unknown; the message lists the known ones.
    """
    if name not in SUITES:
        raise LookupError(f"unknown suite {name!r}; known: {', '.join(SUITES)}")
    return SUITES[name]


def build_suite(
    name: str, data_root: Path, options: BuildOptions, **extra: Any
) -> tuple[Suite, Path]:
    """Builds a suite, freezes it into its folder and reads it back; returns both.

    `extra` goes to the builder (`editor` and `total` of editedid-proxy).

    Raises:
        LookupError: If the suite is unknown or has no builder.
        PartialSourceError: If files are missing and that was not allowed.
        ManifestError: If a list of the source is malformed.
        ValueError: If a complete source gave another number of cases than the registry says.
    """
    info = suite_info(name)
    if not info.builder:
        raise LookupError(f"suite {name} has no builder: {info.how_to_get()}")
    module, _, function = info.builder.partition(":")
    suite: Suite = getattr(import_module(module), function)(info, data_root, options, **extra)
    _check_counts(info, suite, options)
    folder = data_root / "suites" / suite.name / str(suite.version)
    write_suite(suite, folder)
    if suite.distinct > TABLE_FROM:
        write_cases_table(suite, folder)
    return read_suite(folder), folder


def _check_counts(info: SuiteInfo, suite: Suite, options: BuildOptions) -> None:
    plain = suite.name == info.name and "total" not in suite.expected
    if plain and info.name != "editedid-proxy" and suite.count != info.cases:
        raise ValueError(
            f"{info.name} came out with {suite.count} cases ({suite.distinct} distinct), expected "
            f"{info.cases} ({info.distinct}): the source is not the one that the counts stand for"
        )
