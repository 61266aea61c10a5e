"""`idbench train flexip-shards`: manifests to the shards that training reads."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from idbench.methods.common.training import read_config
from idbench.methods.flexip.manifest import read_manifest
from idbench.methods.flexip.shards import write_shards

Report = Callable[[int, int, Mapping[str, float]], None]


@dataclass(frozen=True, kw_only=True)
class PackingConfig:
    """Which manifests to pack, and how.

    Attributes:
        manifests: JSONL files; see `idbench.methods.flexip.manifest`.
        output: Folder of the shards; those of an earlier packing are replaced.
        rows_per_shard: Subjects in a file.
        rows_per_group: Subjects that are read together.
    """

    manifests: tuple[Path, ...]
    output: Path
    rows_per_shard: int = 4096
    rows_per_group: int = 64

    def __post_init__(self) -> None:
        """Checks ranges.

        Raises:
            ValueError: Naming the setting, its value and what is allowed.
        """
        if not self.manifests:
            raise ValueError("manifests must name at least one file")
        for name in ("rows_per_shard", "rows_per_group"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


def pack(config_path: Path, report: Report) -> Path:
    """Packs everything, from the start, and returns the folder.

    Raises:
        FileNotFoundError: If a manifest is absent.
        ValueError: If a setting or a line of a manifest is wrong, or nothing could be packed.
    """
    config = read_config(config_path, PackingConfig)
    manifests = [config_path.parent / path for path in config.manifests]
    # A manifest is short beside its pictures: it is read twice to know how much there is to do,
    # and to find a wrong line before hours of work.
    total = sum(1 for path in manifests for _ in read_manifest(path))
    records = chain.from_iterable(read_manifest(path) for path in manifests)
    packed = write_shards(
        records,
        config.output,
        rows_per_shard=config.rows_per_shard,
        rows_per_group=config.rows_per_group,
        progress=lambda done: report(done, total, {}),
    )
    report(total, total, {**packed.rows, "left out": len(packed.rejected)})
    return config.output
