"""Small files that claim, or unpack to, huge pictures: refused by their header, by every reader."""

import resource
import struct
import subprocess
import sys
import textwrap
import zlib
from pathlib import Path

import pytest

SIDE = 30_000
MEMORY = 2 << 30  # decoded, the picture would take 2.7 GB


def png(side: int, *chunks: tuple[bytes, bytes]) -> bytes:
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n"
    for kind, content in ((b"IHDR", header), *chunks, (b"IEND", b"")):
        data += struct.pack(">I", len(content)) + kind + content
        data += struct.pack(">I", zlib.crc32(kind + content))
    return data


def packed_zeros(count: int) -> bytes:
    packer = zlib.compressobj(9)
    piece = bytes(1 << 20)
    return b"".join([*(packer.compress(piece) for _ in range(count >> 20)), packer.flush()])


BOMBS = {
    "claimed": png(SIDE, (b"IDAT", zlib.compress(b""))),
    "packed": png(SIDE, (b"IDAT", packed_zeros(200 << 20))),
    "text": png(8, (b"zTXt", b"Comment\0\0" + packed_zeros(200 << 20))),
}
# What reads pictures of others -> code that does and says what came of it.
READERS = {
    "scored images and references": (
        "from idbench.metrics.images import read_rgb, ImageError\n"
        "try: read_rgb(path)\n"
        "except ImageError as error: print('refused', error)"
    ),
    "folders of images": (
        "from idbench.methods.wrappers.image_file import read_image\n"
        "from idbench.methods.protocol import Failure\n"
        "found = read_image(path)\n"
        "if isinstance(found, Failure): print('refused', found)"
    ),
    "answers of services": (
        "from idbench.methods.wrappers.image_file import read_image_bytes\n"
        "from idbench.methods.protocol import Failure\n"
        "found = read_image_bytes(path.read_bytes(), 'answer')\n"
        "if isinstance(found, Failure): print('refused', found)"
    ),
    "imports": (
        "from idbench.prompts.importing import _size\n"
        "problems = []\n"
        "if _size(path, 'row 1', problems) is None: print('refused', problems)"
    ),
    "reports": (
        "from idbench.report_images import copy_pictures\n"
        "if copy_pictures([('0' * 64, path)], path.parent / 'out', 'show') == [path]:\n"
        "    print('refused')"
    ),
}


@pytest.mark.parametrize("bomb", BOMBS)
@pytest.mark.parametrize("reader", READERS)
def test_a_bomb_is_refused_without_its_memory(reader: str, bomb: str, tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(BOMBS[bomb])
    assert path.stat().st_size < 1 << 20

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))

    code = "import sys\nfrom pathlib import Path\npath = Path(sys.argv[1])\n" + textwrap.dedent(
        READERS[reader]
    )
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(path)],
        preexec_fn=limited, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-2000:]
    if bomb == "text" and reader == "imports":
        return  # it reads the size alone, and the picture is small
    assert ended.stdout.startswith("refused"), ended.stderr
