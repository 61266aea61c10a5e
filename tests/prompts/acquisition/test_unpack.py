"""Archives of others: what is safe is unpacked whole, what is not leaves nothing behind."""

import io
import stat
import tarfile
import zipfile

import pytest

from idbench.prompts.acquisition.unpack import ArchiveError, Limits, unpack


def _zip(path, members, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def _tar(path, members):
    with tarfile.open(path, "w:gz") as archive:
        for member, content in members:
            info = member if isinstance(member, tarfile.TarInfo) else tarfile.TarInfo(member)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def _nothing_left(folder):
    return {path.name for path in folder.iterdir()} <= {"a.zip", "a.tar.gz"}


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_files_are_unpacked_with_their_names(tmp_path, kind):
    members = [("a/b.txt", b"1"), ("名前 (1)/é ü.txt", b"2" * 100), ("top", b"")]
    if kind == "zip":
        archive = _zip(tmp_path / "a.zip", [("a/", b""), *members])
    else:
        archive = _tar(tmp_path / "a.tar.gz", [(f"./{name}", content) for name, content in members])
    assert unpack(archive, tmp_path / "out") == 3
    for name, content in members:
        assert (tmp_path / "out" / name).read_bytes() == content


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "a/../../evil",
        "/etc/evil",
        "a//b",
        "./a",
        "C:/evil",
        "a\\..\\evil",
        "http://x/evil",
        "x" * 300,
        "/".join(["d" * 100] * 20),
    ],
)
def test_unsafe_names_in_a_zip_are_refused(tmp_path, name):
    archive = _zip(tmp_path / "a.zip", [("good", b"1"), (name, b"2")])
    with pytest.raises(ArchiveError):
        unpack(archive, tmp_path / "out")
    assert _nothing_left(tmp_path)


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/etc/evil", "a\\b"])
def test_unsafe_names_in_a_tar_are_refused(tmp_path, name):
    archive = _tar(tmp_path / "a.tar.gz", [("good", b"1"), (name, b"2")])
    with pytest.raises(ArchiveError):
        unpack(archive, tmp_path / "out")
    assert _nothing_left(tmp_path)


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices_in_a_tar_are_refused(tmp_path, kind):
    member = tarfile.TarInfo("link")
    member.type, member.linkname = kind, "/etc/passwd"
    archive = _tar(tmp_path / "a.tar.gz", [(member, b"")])
    with pytest.raises(ArchiveError, match="is a link or a device"):
        unpack(archive, tmp_path / "out")
    assert _nothing_left(tmp_path)


def test_links_in_a_zip_are_refused(tmp_path):
    member = zipfile.ZipInfo("link")
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    archive = _zip(tmp_path / "a.zip", [(member, b"/etc/passwd")])
    with pytest.raises(ArchiveError, match="is a link or a device"):
        unpack(archive, tmp_path / "out")


def test_a_bomb_stops_at_the_limit(tmp_path):
    archive = _zip(tmp_path / "a.zip", [("bomb", bytes(40 << 20))])
    assert archive.stat().st_size < 100_000
    with pytest.raises(ArchiveError, match="a bomb"):
        unpack(archive, tmp_path / "out")
    assert _nothing_left(tmp_path)


def test_a_bomb_of_many_files_stops_too(tmp_path):
    archive = _zip(tmp_path / "a.zip", [(f"f{n}", bytes(1 << 20)) for n in range(40)])
    with pytest.raises(ArchiveError, match="a bomb"):
        unpack(archive, tmp_path / "out")
    with pytest.raises(ArchiveError, match="more than 10 files"):
        unpack(archive, tmp_path / "out", Limits(files=10))


def test_a_wrong_declared_size_does_not_help(tmp_path):
    archive = _zip(tmp_path / "a.zip", [("f", bytes(1 << 20))])
    content = bytearray(archive.read_bytes())
    place = content.rindex(b"PK\x01\x02") + 24  # uncompressed size in the central directory
    content[place : place + 4] = (10).to_bytes(4, "little")
    archive.write_bytes(content)
    with pytest.raises(ArchiveError):
        unpack(archive, tmp_path / "out", Limits(total=1000, ratio_from=1000))
    assert _nothing_left(tmp_path)


def test_names_that_collide_are_refused(tmp_path):
    with pytest.warns(UserWarning, match="Duplicate name"):
        archive = _zip(tmp_path / "a.zip", [("a", b"1"), ("a", b"2")])
    with pytest.raises(ArchiveError, match="'a' occurs twice"):
        unpack(archive, tmp_path / "out")
    archive.unlink()
    with pytest.raises(ArchiveError, match="'README' occurs twice"):
        unpack(_zip(archive, [("readme", b"1"), ("README", b"2")]), tmp_path / "out")
    archive.unlink()
    with pytest.raises(ArchiveError, match="both a file and a folder"):
        unpack(_zip(archive, [("a", b"1"), ("a/b", b"2")]), tmp_path / "out")
    assert _nothing_left(tmp_path)


def test_an_encrypted_member_is_refused(tmp_path):
    archive = _zip(tmp_path / "a.zip", [("secret", b"1")])
    content = bytearray(archive.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + offset] |= 1
    archive.write_bytes(content)
    with pytest.raises(ArchiveError, match="is encrypted"):
        unpack(archive, tmp_path / "out")


@pytest.mark.parametrize("cut", [0, 10, 100, 200])
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_truncated_archive_is_our_own_error(tmp_path, kind, cut):
    members = [(f"file{n}", bytes(range(256)) * 4) for n in range(5)]
    make, name = (_zip, "a.zip") if kind == "zip" else (_tar, "a.tar.gz")
    archive = make(tmp_path / name, members)
    archive.write_bytes(archive.read_bytes()[:cut])
    with pytest.raises(ArchiveError):
        unpack(archive, tmp_path / "out")
    assert _nothing_left(tmp_path)


def test_a_damaged_member_is_our_own_error(tmp_path):
    archive = _zip(tmp_path / "a.zip", [("file", bytes(range(256)) * 40)])
    content = bytearray(archive.read_bytes())
    content[60:80] = bytes(20)
    archive.write_bytes(content)
    with pytest.raises(ArchiveError, match="is damaged"):
        unpack(archive, tmp_path / "out")
    assert _nothing_left(tmp_path)


def test_an_existing_target_is_not_touched(tmp_path):
    archive = _zip(tmp_path / "a.zip", [("file", b"1")])
    (tmp_path / "out").mkdir()
    with pytest.raises(FileExistsError):
        unpack(archive, tmp_path / "out")
