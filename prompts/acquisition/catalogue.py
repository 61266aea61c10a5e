"""The data sets that suites are built from: where they are, under which terms, how to get them."""

from dataclasses import dataclass
from importlib.resources import files
from typing import Literal

Method = Literal["git", "hub", "import", "package", "bundled"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceInfo:
    """One upstream data set: one licence, one way to get it.

    `revision` names the state that suites are built from; `url` is a git repository or the name of
    a dataset on the Hugging Face hub. `paths` are the folders (git) or files (hub) that are needed.
    `terms` is what `--accept` takes; empty where nothing has to be accepted. `size` is in bytes and
    0 where unknown. `manual` says how to get the data without the fetcher.
    """

    name: str
    method: Method
    summary: str
    revision: str
    licence: str
    url: str = ""
    paths: tuple[str, ...] = ()
    terms: str = ""
    lock: str = ""
    size: int = 0
    manual: str = ""
    cite: str = ""


def _table(*rows: SourceInfo) -> dict[str, SourceInfo]:
    return {row.name: row for row in rows}


SOURCES: dict[str, SourceInfo] = _table(
    SourceInfo(
        name="ibench",
        method="git",
        summary="four sets of identity images (290 files) and the prompt lists of IBench",
        revision="13499550fa0fccafaa65a49d43006de8fb106716",
        licence="no licence file upstream; third-party photographs, Unsplash, MyStyle, generated",
        url="https://github.com/typemovie/IBench",
        paths=("data/images", "data/prompts"),
        terms="ibench-unlicensed",
        lock="ibench.lock.csv",
        size=283_029_974,
        manual="clone the repository at the revision above, then: idbench data import ibench CLONE",
        cite="EditIDv2 (arXiv 2509.05659) and the IBench repository",
    ),
    SourceInfo(
        name="vbench-prompts",
        method="git",
        summary="the GPT-enhanced prompt lists that the two long IBench lists were taken from",
        revision="45938148fff724f21781868796429ea317ecad3c",
        licence="Apache-2.0",
        url="https://github.com/Vchitect/VBench",
        paths=(
            "prompts/augmented_prompts/gpt_enhanced_prompts/prompts_per_category_longer",
            "prompts/augmented_prompts/gpt_enhanced_prompts/prompts_per_dimension_longer",
        ),
        manual="clone the repository, then: idbench data import vbench-prompts CLONE",
        cite="VBench (arXiv 2311.17982)",
    ),
    SourceInfo(
        name="dreambench_plus",
        method="hub",
        summary="150 subjects with nine prompts each, one archive",
        revision="main",
        licence="apache-2.0 tag; images from the authors, Unsplash, rawpixel and web search",
        url="yuangpeng/dreambench_plus",
        paths=("data.zip",),
        terms="dreambench-plus",
        size=15_061_282,
        manual="download data.zip (the authors also offer it on Google Drive), then: "
        "idbench data import dreambench_plus data.zip",
        cite="DreamBench++ (arXiv 2406.16855)",
    ),
    SourceInfo(
        name="msbench",
        method="git",
        summary="40 subject images of MS-Bench",
        revision="74eb2d6d96669a8be9e786410de445ea41c187c0",
        licence="MIT repository; several pictures stem from DreamBooth",
        url="https://github.com/MS-Diffusion/MS-Diffusion",
        paths=("msbench",),
        manual="clone the repository at the revision, then: idbench data import msbench CLONE",
        cite="MS-Diffusion (arXiv 2406.07209)",
    ),
    SourceInfo(
        name="celeba",
        method="hub",
        summary="202,599 face images of 10,177 identities with 40 attributes",
        revision="main",
        licence="CelebA agreement: non-commercial research, no redistribution",
        url="flwrlabs/celeba",
        paths=("img_align+identity+attr/*.parquet",),
        terms="celeba",
        manual="get the official folder (Anno/, Img/) from the authors, then: "
        "idbench data import celeba FOLDER",
        cite="CelebA (ICCV 2015)",
    ),
    SourceInfo(
        name="multiid_bench",
        method="hub",
        summary="433 rows with one to four people and a ground-truth image",
        revision="main",
        licence="MultiID-2M licence: non-commercial, no redistribution",
        url="WithAnyone/MultiID-Bench",
        paths=("*.parquet",),
        terms="multiid-2m",
        size=183_022_320,
        manual="download the Parquet file, then: idbench data import multiid_bench FILE",
        cite="WithAnyone (arXiv 2510.14975)",
    ),
    SourceInfo(
        name="crowdhuman",
        method="import",
        summary="photographs of crowds with head boxes, for editedid-proxy",
        revision="1",
        licence="non-commercial research (not confirmed)",
        terms="crowdhuman",
        manual="register at crowdhuman.org, unpack the images beside annotation_train.odgt, then: "
        "idbench data import crowdhuman FOLDER",
        cite="CrowdHuman (arXiv 1805.00123)",
    ),
    SourceInfo(
        name="deepfashion_mm",
        method="import",
        summary="full-body photographs, for editedid-proxy",
        revision="1",
        licence="non-commercial agreement (not confirmed)",
        terms="deepfashion_mm",
        manual="ask the authors of DeepFashion-MultiModal for images.zip, unpack it, then: "
        "idbench data import deepfashion_mm FOLDER",
        cite="Text2Human (SIGGRAPH 2022)",
    ),
    SourceInfo(
        name="extra_photos",
        method="import",
        summary="photographs of your own, for the third share of editedid-proxy",
        revision="1",
        licence="yours",
        manual="idbench data import extra_photos FOLDER",
    ),
    SourceInfo(
        name="embedded",
        method="bundled",
        summary="pictures that are derived on this machine: cuts, drawn faces, edits, masks",
        revision="1",
        licence="see the bundled suites",
    ),
    SourceInfo(
        name="scikit-image",
        method="package",
        summary="astronaut (NASA), rocket: public domain; chelsea, coffee: CC0",
        revision="",
        licence="public domain and CC0",
        manual="pip install 'idbench[embedded]'",
    ),
    SourceInfo(
        name="insightface",
        method="package",
        summary="the sample photograph of six people that the package installs",
        revision="",
        licence="no stated licence; read in place, never copied",
        manual="pip install 'idbench[embedded]'",
    ),
)


def source_info(name: str) -> SourceInfo:
    """A source by name.

    Raises:
        LookupError: If the name is unknown; the message lists the known ones.
    """
    if name not in SOURCES:
        raise LookupError(f"unknown source {name!r}; known: {', '.join(SOURCES)}")
    return SOURCES[name]


def terms_text(terms: str) -> str:
    """What somebody accepts who passes `--accept TERMS`."""
    path = files("idbench.prompts") / "data" / "terms" / f"{terms}.txt"
    return path.read_text(encoding="utf-8")
