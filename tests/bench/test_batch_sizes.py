"""The search for the largest batch: expected sizes are worked out by hand from the limit."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from idbench.batch_sizes import BatchMemory, BatchSearch
from idbench.generate import GenerateOptions, generate
from idbench.method_spec import MethodSpec
from idbench.prompts.suites import Suite
from idbench.store import RunStore


def sizes(search: BatchSearch, limit: int, count: int) -> list[int]:
    """What is asked for one after another where `limit` samples fit; a refused batch is halved."""
    asked = []
    for _ in range(count):
        asked.append(search.size)
        fits = search.size
        while fits > limit:
            refused, fits = fits, fits // 2
        search.learn(fits, refused if search.size > limit else None)
    return asked


@pytest.mark.parametrize(
    ("limit", "asked"),
    [
        # doubles to 16, then halves the gap between what fitted and what did not
        (11, [1, 2, 4, 8, 16, 12, 10, 11, 11, 11]),
        (1, [1, 2, 1, 1]),
        (3, [1, 2, 4, 3, 3]),
        (1000, [1, 2, 4, 8, 16, 32, 64, 64]),
    ],
)
def test_the_largest_batch_that_fits_is_found(limit: int, asked: list[int]) -> None:
    search = BatchSearch(1, 64)
    assert sizes(search, limit, len(asked)) == asked
    assert search.settled


@pytest.mark.parametrize("limit", range(1, 70))
def test_every_limit_is_found(limit: int) -> None:
    search = BatchSearch(1, 64)
    assert sizes(search, limit, 20)[-1] == min(limit, 64)


def test_a_size_that_stops_fitting_is_given_up() -> None:
    search = BatchSearch(1, 64)
    sizes(search, 8, 12)
    assert search.size == 8
    assert sizes(search, 5, 6)[-1] == 5


def test_a_late_answer_does_no_harm() -> None:
    search = BatchSearch(8, 64)
    search.learn(fitted=4, refused=8)
    assert search.size == 6
    search.learn(fitted=2, refused=5)  # from a worker that was asked for 5 before
    search.learn(fitted=4, refused=8)  # and one that was asked for 8
    assert (search.size, search.settled) == (4, True)


HUNGRY = """
    from pathlib import Path
    LOG = Path(__file__).with_name("sizes.txt")

    class Method:
        def generate(self, requests):
            with LOG.open("a") as log:
                log.write(f"{len(requests)} ")
            if len(requests) > 2:
                raise MemoryError("no room")
            return [request.references[0].image for request in requests]
"""


def test_a_run_finds_the_size_loses_nothing_and_remembers(
    pictures: Suite, method_file: Callable[[str], str], tmp_path: Path
) -> None:
    spec = MethodSpec(name=method_file(HUNGRY))
    suite = replace(pictures, samples_per_case=4)

    def run(**changes: object) -> tuple[str, list[str | None]]:
        (tmp_path / "sizes.txt").unlink(missing_ok=True)
        values = {"workspace": tmp_path / "runs", "data_root": tmp_path / "data"} | changes
        (done,) = generate(suite, [spec], GenerateOptions(**values))
        assert (done.made, done.failed) == (24, 0)
        with RunStore.open(done.directory) as store:
            hashes = [sample.sha256 for sample in store.samples()]
        return (tmp_path / "sizes.txt").read_text(), hashes

    # 8 is the most on the CPU: refused, as is 4, so four times 2. Then 3, between 2 and 4, which
    # is refused and done one by one. Now 2 is known to be the most: 13 are left.
    found, expected = run()
    assert found == "8 4 2 2 2 2 3 1 1 1 2 2 2 2 2 2 1 "
    # Another seed is another run of the same method: it begins with what is known.
    assert run(seed=1)[0] == "2 " * 12
    found, hashes = run(workspace=tmp_path / "other", batch_size=1)
    assert found == "1 " * 24
    assert hashes == expected
    assert not (tmp_path / "other" / "batch_sizes.json").exists()


def test_a_settled_search_is_remembered(tmp_path: Path) -> None:
    memory = BatchMemory(tmp_path)
    search = memory.search("method", start=1, most=64)
    sizes(search, 5, 3)
    memory.keep("method", search)
    assert not (tmp_path / "batch_sizes.json").exists()
    sizes(search, 5, 10)
    memory.keep("method", search)
    again = BatchMemory(tmp_path).search("method", start=1, most=64)
    assert sizes(again, 5, 2) == [5, 5]
    assert BatchMemory(tmp_path).search("method", start=1, most=3).size == 3
    assert BatchMemory(tmp_path).search("other", start=1, most=64).size == 1


@pytest.mark.parametrize("text", ["", "[1]", '{"method": "5", "other": -1}'])
def test_a_damaged_memory_costs_a_search(tmp_path: Path, text: str) -> None:
    (tmp_path / "batch_sizes.json").write_text(text)
    assert BatchMemory(tmp_path).search("method", start=1, most=64).size == 1


HUNGRY_ON_A_GPU = """
    import torch

    class Method:
        def __init__(self, device="cuda"):
            self.device = device

        def generate(self, requests):
            _, total = torch.cuda.mem_get_info()
            each = int(0.4 * total)  # two fit, three do not
            held = [torch.empty(each, dtype=torch.uint8, device=self.device) for _ in requests]
            assert len(held) == len(requests)
            return [request.references[0].image for request in requests]
"""


@pytest.mark.gpu
def test_the_memory_of_a_gpu_is_found(
    pictures: Suite, method_file: Callable[[str], str], tmp_path: Path, cuda: str
) -> None:
    spec = MethodSpec(name=method_file(HUNGRY_ON_A_GPU))
    options = GenerateOptions(workspace=tmp_path / "runs", data_root=tmp_path / "data", device=cuda)
    (done,) = generate(pictures, [spec], options)
    assert (done.made, done.failed) == (6, 0)
    assert list(json.loads((tmp_path / "runs" / "batch_sizes.json").read_text()).values()) == [2]
