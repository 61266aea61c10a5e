"""`idbench weights`, through the command line."""

import json

import pytest

from idbench.cli import main


@pytest.fixture
def folder(tmp_path, monkeypatch):
    root = tmp_path / "weights"
    monkeypatch.setenv("IDBENCH_WEIGHTS_DIR", str(root))
    monkeypatch.delenv("IDBENCH_OFFLINE", raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return root


def test_list_says_source_licence_terms_and_how_to_get_it(folder, capsys):
    assert main(["weights", "list", "antelopev2", "hopenet"]) == 0
    out = capsys.readouterr().out
    assert "antelopev2  (absent: idbench weights fetch antelopev2)" in out
    assert "idbench weights import hopenet PATH" in out
    assert "terms: Non-commercial research use only." in out
    assert "unlocks facesim[antelopev2]" in out
    lines = [line for line in out.splitlines() if "://" not in line]
    assert max(map(len, lines[1:])) <= 80


def test_list_as_json_has_every_field_of_every_entry(folder, capsys):
    assert main(["weights", "list", "--json"]) == 0
    entries = json.loads(capsys.readouterr().out)
    assert len(entries) >= 20
    for entry in entries:
        assert {"key", "source", "revision", "files", "size", "licence", "terms", "unlocks"} <= set(
            entry
        )


def test_an_imported_file_is_found_verified_and_located(folder, tmp_path, capsys):
    mine = tmp_path / "mine.pkl"
    mine.write_bytes(b"weights")
    assert main(["weights", "path", "hopenet"]) == 3
    assert "absent" in capsys.readouterr().err
    assert main(["weights", "import", "hopenet", str(mine)]) == 0
    placed = folder / "hopenet_robust_alpha1.pkl"
    assert capsys.readouterr().out.strip() == str(placed)
    assert main(["weights", "path", "hopenet"]) == 0
    assert capsys.readouterr().out.strip() == str(placed)
    assert main(["weights", "verify", "hopenet"]) == 0
    assert "recorded" in capsys.readouterr().out
    placed.write_bytes(b"changed")
    assert main(["weights", "verify", "hopenet"]) == 4
    assert "wrong" in capsys.readouterr().out


def test_verify_of_what_is_absent_says_so(folder, capsys):
    assert main(["weights", "verify", "inception"]) == 3
    assert "absent" in capsys.readouterr().out


def test_a_file_with_another_digest_is_refused_with_one_line(folder, tmp_path, capsys):
    mine = tmp_path / "inception.pth"
    mine.write_bytes(b"not that network")
    assert main(["weights", "import", "inception", str(mine)]) == 2
    error = capsys.readouterr().err
    assert "6726825d" in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["fetch", "hopenet"], "drive.google.com"),
        (["fetch", "antelopev2"], "--accept-terms"),
        (["fetch", "no_such"], "unknown weights 'no_such'; known:"),
        (["import", "hopenet", "no-such-file"], "no file"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_code_2(folder, capsys, arguments, told):
    assert main(["weights", *arguments]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert "Traceback" not in error


def test_offline_mode_refuses_to_fetch(folder, capsys, monkeypatch):
    monkeypatch.setenv("IDBENCH_OFFLINE", "1")
    assert main(["weights", "fetch", "inception"]) == 2
    assert "offline mode is on" in capsys.readouterr().err


def test_what_is_here_is_not_fetched(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("IDBENCH_OFFLINE", "1")
    mine = tmp_path / "enet.pt"
    mine.write_bytes(b"weights")
    assert main(["weights", "import", "hsemotion", str(mine)]) == 0
    assert main(["weights", "fetch", "hsemotion"]) == 0
    assert "nothing to do" in capsys.readouterr().err
