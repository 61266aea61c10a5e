import pytest

from idbench.methods.parameters import Parameter
from idbench.methods.registry import method_parameters
from idbench.sweeps import parse_sweep

PARAMETERS = {
    "sigma": Parameter(name="sigma", annotation=float, required=False, default=1.0),
    "steps": Parameter(name="steps", annotation=int | None, required=False),
    "mode": Parameter(name="mode", annotation=str, required=True),
    "flip": Parameter(name="flip", annotation=bool, required=False, default=False),
}


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("sigma=0:0.3:0.1", (0.0, 0.1, 0.2, 0.3)),
        ("sigma=1:4:1", (1.0, 2.0, 3.0, 4.0)),
        ("sigma=1:4:2", (1.0, 3.0)),
        ("sigma=3:1:-1", (3.0, 2.0, 1.0)),
        ("sigma=-1,0.5", (-1.0, 0.5)),
        ("steps=10:30:10", (10, 20, 30)),
    ],
)
def test_values_of_a_sweep(text, values):
    found = parse_sweep(text, PARAMETERS, method="m").values
    assert found == values
    assert [type(value) for value in found] == [type(value) for value in values]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("sigma", "parameter=from:to:step"),
        ("=1:2:1", "parameter=from:to:step"),
        ("mode=1,2", "no numeric parameter 'mode'; numeric: sigma, steps"),
        ("flip=0,1", "no numeric parameter 'flip'"),
        ("other=1,2", "no numeric parameter 'other'"),
        ("sigma=1:2", "a range is from:to:step"),
        ("sigma=1:2:0", "does not lead from 1 to 2"),
        ("sigma=1:2:-1", "does not lead from 1 to 2"),
        ("sigma=1,x", "'x' is no number"),
        ("sigma=1,nan", "no finite number"),
        ("sigma=1", "two values or more"),
        ("sigma=0:1:0.001", "1001 values; at most 200"),
        ("steps=1,1.5", "takes whole numbers"),
    ],
)
def test_wrong_sweeps_are_refused(text, named):
    with pytest.raises(ValueError, match=named):
        parse_sweep(text, PARAMETERS, method="m")


@pytest.mark.parametrize(
    ("method", "over"),
    [("blur", "sigma=1:4:1"), ("jpeg", "quality=20:80:20"), ("warp", "strength=0.02:0.08:0.02")],
)
def test_strengths_of_the_baselines_can_be_swept(method, over):
    assert len(parse_sweep(over, method_parameters(method), method=method).values) == 4
