from idbench.curves import find_curves, in_order


def run(args, target="blur", suite="demo"):
    return {"suite": suite, "target": target, "args": args}


RUNS = {
    "b4": run({"sigma": 4}),
    "b1": run({"sigma": "1"}),
    "b2": run({"sigma": 2.0}),
    "copy": run({}, "copy"),
    "j20": run({"quality": 20}, "jpeg"),
    "j50": run({"quality": 50}, "jpeg"),
}


def test_three_values_of_one_parameter_are_a_curve():
    steps = find_curves(RUNS)
    assert set(steps) == {"b1", "b2", "b4"}
    assert len({step.curve for step in steps.values()}) == 1
    assert {run: step.text for run, step in steps.items()} == {
        "b1": "sigma=1",
        "b2": "sigma=2",
        "b4": "sigma=4",
    }


def test_curves_come_in_order_of_their_parameter():
    steps = find_curves(RUNS)
    assert in_order(list(RUNS), steps) == ["b1", "b2", "b4", "copy", "j20", "j50"]


def test_other_arguments_and_suites_are_other_curves():
    mixed = {
        "a": run({"sigma": 1, "mode": "x"}),
        "b": run({"sigma": 2, "mode": "x"}),
        "c": run({"sigma": 3, "mode": "y"}),
        "d": run({"sigma": 4, "mode": "x"}, suite="other"),
    }
    assert find_curves(mixed) == {}


def test_of_two_parameters_the_longer_curve_counts():
    grid = {
        f"{x}{y}": run({"x": x, "y": y})
        for x, y in [(1, 1), (2, 1), (3, 1), (4, 1), (1, 2), (1, 3)]
    }
    steps = find_curves(grid)
    assert {steps[name].parameter for name in ("11", "21", "31", "41")} == {"x"}
    assert "12" not in steps


def test_words_and_flags_are_no_numbers():
    words = {str(i): run({"mode": word}) for i, word in enumerate(["a", "b", "nan", "inf"])}
    flags = {str(i): run({"flip": flag}) for i, flag in enumerate([True, False, True])}
    assert find_curves(words) == {}
    assert find_curves(flags) == {}
