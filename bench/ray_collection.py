"""Brings images from the disks of a cluster's nodes to the run they belong to.

For clusters whose nodes share no file system. Pieces are small enough to travel inside a reply, so
no pixel enters Ray's object store.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from idbench.executors import RayOptions
from idbench.files import write_whole
from idbench.progress import Progress
from idbench.ray_actors import Files
from idbench.ray_executor import connect
from idbench.records import Sample
from idbench.store import RunStore

PIECE = 64 * 1024  # bytes; Ray puts replies above 100 KiB into the object store
PATHS_AT_ONCE = 1000


def collect(stores: Sequence[tuple[RunStore, Path]], options: RayOptions, *, again: bool) -> None:
    """Fetches the images that runs have recorded and do not hold, from the folder on each node.

    An image that no node has, or has with other bytes, is planned again if `again`, else recorded
    as failed, with the reason "lost_with_node".

    Raises:
        StorageError: If the disk refuses; what was fetched stays.
    """
    missing = [(store, folder, sample) for store, folder in stores for sample in _absent(store)]
    if not missing:
        return
    ray = connect(options)
    nodes = [_files_of(ray, node["NodeID"]) for node in ray.nodes() if node["Alive"]]
    with Progress("collect", len(missing), "images") as progress:
        for start in range(0, len(missing), PATHS_AT_ONCE):
            chunk = missing[start : start + PATHS_AT_ONCE]
            paths = [str(folder / str(sample.path)) for _, folder, sample in chunk]
            places = _places(ray, nodes, paths)
            for (store, _, sample), path in zip(chunk, paths, strict=True):
                data = next(
                    (
                        data
                        for node, size in places.get(path, [])
                        for data in [_read(ray, node, path, size)]
                        if hashlib.sha256(data).hexdigest() == sample.sha256
                    ),
                    None,
                )
                if data is None:
                    store.record([_planned(sample) if again else _lost(sample)])
                else:
                    write_whole(store.directory / str(sample.path), data)
                progress.advance()
    for node in nodes:
        ray.kill(node)


def _absent(store: RunStore) -> list[Sample]:
    folder = store.directory
    return [s for s in store.walk(("ok",)) if not (folder / str(s.path)).exists()]


def _planned(sample: Sample) -> Sample:
    return replace(
        sample, status="pending", path=None, sha256=None, width=None, height=None, seconds=None
    )


def _lost(sample: Sample) -> Sample:
    detail = "the node that made it is gone, or its file there is damaged"
    return replace(_planned(sample), status="failed", reason="lost_with_node", detail=detail)


def _files_of(ray: Any, node: str) -> Any:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    there = NodeAffinitySchedulingStrategy(node_id=node, soft=False)
    return ray.remote(num_cpus=0, scheduling_strategy=there)(Files).remote()


def _places(ray: Any, nodes: Sequence[Any], paths: list[str]) -> dict[str, list[tuple[Any, int]]]:
    """Which nodes have which files, with their sizes; a node that died meanwhile has none."""
    found: dict[str, list[tuple[Any, int]]] = {}
    for node, reply in [(node, node.sizes.remote(paths)) for node in nodes]:
        try:
            for path, size in ray.get(reply).items():
                found.setdefault(path, []).append((node, size))
        except ray.exceptions.RayError:
            continue
    return found


def _read(ray: Any, node: Any, path: str, size: int) -> bytes:
    replies = [node.read.remote(path, start, PIECE) for start in range(0, size, PIECE)]
    try:
        return b"".join(ray.get(replies))
    except ray.exceptions.RayError:
        return b""
