import argparse
import csv
from importlib.util import find_spec

import pytest

from idbench.commands import sweep

NEEDED = ("torch", "mtcnn", "dlib", "skimage", "insightface")


def call(*arguments):
    parser = argparse.ArgumentParser()
    sweep.add_arguments(parser)
    return sweep.run(parser.parse_args([str(argument) for argument in arguments]))


@pytest.mark.slow
@pytest.mark.skipif(not all(map(find_spec, NEEDED)), reason="needs the extra idbench[embedded]")
def test_blur_is_swept_scored_and_drawn(tmp_path, capsys):
    arguments = [
        "--suite", "demo", "--method", "blur", "--over", "sigma=1:5:2", "--limit", "7",
        "--metrics", "facesim[dlib],landmarkdiff@strict", "--output", tmp_path,
        "--columns", "facesim", "--x", "facesim", "--y", "landmarkdiff",
    ]  # fmt: skip
    assert call(*arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line for line in lines if line.startswith("blur(")]
    assert [row.split("sigma=")[1][0] for row in rows] == ["1", "3", "5"]
    with (tmp_path / "sweep-blur-sigma.csv").open() as stream:
        points = list(csv.DictReader(stream))
    assert [point["value"] for point in points] == ["1.0", "3.0", "5.0"]
    # More blur, less of the person.
    kept = [float(point["facesim@strict[dlib] mean"]) for point in points]
    assert kept == sorted(kept, reverse=True)


def test_sweep_refuses_what_it_cannot_vary(tmp_path):
    common = ["--suite", "demo", "--method", "blur", "--output", tmp_path]
    with pytest.raises(ValueError, match="no numeric parameter 'sigam'; numeric: sigma"):
        call(*common, "--over", "sigam=1:2:1")
    with pytest.raises(ValueError, match="a curve needs both --x and --y"):
        call(*common, "--over", "sigma=1:2:1", "--x", "facesim")
    with pytest.raises(ValueError, match="both set sigma"):
        call(*common, "--over", "sigma=1:2:1", "--method-args", "sigma=3")
    with pytest.raises(ValueError, match="over one method, got 2"):
        call(*common, "--method", "jpeg", "--over", "sigma=1:2:1")
