import dataclasses
import json
import math
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from idbench import gate_text
from idbench.baseline import (
    BaselineError,
    RunFacts,
    ScoredRun,
    read_baseline,
    save_baseline,
)
from idbench.gate_rules import GateConfig, Rule, RuleConfig, read_rules, resolve_rules
from idbench.gate_simulation import Noise, noise_of_baseline, noise_of_pair, simulate
from idbench.gates import EXIT_CODES, bound_drop, check_gate, decide
from idbench.records import SCORE_FRAME, Column


def column(name="facesim@strict[dlib]", higher=True, fingerprint="f" * 16, details="{}"):
    return Column(
        name=name,
        fingerprint=fingerprint,
        unit="",
        higher_is_better=higher,
        low=float("-inf"),
        high=1.0,
        axis="preservation",
        comparable_to_published=False,
        details=details,
    )


FACESIM = column()


def rule(**given):
    defaults = {
        "column": FACESIM,
        "higher_is_better": True,
        "max_drop": 0.03,
        "confidence": 0.99,
        "fail_confidence": 0.99,
        "min_coverage": 0.9,
        "max_misses": None,
        "min_identities": 5,
    }
    return Rule(**defaults | given)


def scored(shift=0.0, *, seed=0, noise=0.0, people=12, prompts=5, missing=(), of=FACESIM, **facts):
    """A run whose values are those of seed 0, moved by `shift` and by noise of another seed."""
    rng, other = np.random.default_rng(0), np.random.default_rng(seed)
    rows = []
    for person in range(people):
        base = 0.7 + rng.normal(0, 0.05)
        for prompt in range(prompts):
            case = f"c{person:02d}{prompt:02d}"
            value = base + rng.normal(0, 0.03) + shift + other.normal(0, noise)
            lost = case in missing
            rows.append((f"p{person:02d}", case, math.nan if lost else value, "no_face" * lost))
    frame = pd.DataFrame(rows, columns=["identity", "case_id", "value", "reason"]).assign(
        label="m", run="m-1", method="m", suite="s", sample=0, multiplicity=1,
        column=of.name, fingerprint=of.fingerprint, tags="{}",
    )  # fmt: skip
    known = {
        "label": "m",
        "run": "m-1",
        "method": {"name": "m"},
        "suite": {"name": "s", "version": 1, "sha256": "a" * 64},
        "seed_policy": "hashed",
        "size": None,
        "environment": {},
    }
    return ScoredRun(
        RunFacts(**known | facts),
        (of,),
        frame.astype({**SCORE_FRAME, "tags": "str"})[[*SCORE_FRAME, "tags"]],
    )


def outcome(run, baseline, *rules):
    return check_gate(run, baseline, rules or [rule()]).outcome


def test_identical_runs_pass_even_when_no_drop_is_allowed(tmp_path):
    save_baseline(scored(), tmp_path / "b.json")
    baseline = read_baseline(tmp_path / "b.json")
    assert outcome(scored(), baseline, rule(max_drop=0.0)) == "pass"


def test_planted_regression_fails():
    assert outcome(scored(-0.06, seed=1, noise=0.02), scored()) == "regression"


def test_improvement_passes():
    assert outcome(scored(+0.1, seed=1, noise=0.02), scored()) == "pass"


def test_direction_of_the_column_decides_what_a_drop_is():
    lower = column(higher=False)
    run, baseline = scored(+0.06, of=lower), scored(of=lower)
    assert outcome(run, baseline, rule(column=lower, higher_is_better=False)) == "regression"


def test_too_few_samples_are_inconclusive():
    few = {"people": 6, "prompts": 1}
    run = scored(-0.02, seed=1, noise=0.05, **few)
    assert outcome(run, scored(**few)) == "inconclusive"
    few = {"people": 3}
    (result,) = check_gate(scored(**few), scored(**few), [rule()]).results
    assert result.outcome == "inconclusive"
    assert result.reasons == ("3 identities with pairs, the rule needs 5",)


def test_run_without_all_samples_of_the_baseline_is_inconclusive():
    (result,) = check_gate(scored(people=10), scored(people=12), [rule()]).results
    assert result.outcome == "inconclusive"
    assert "10 samples of the baseline are not in the run" in result.reasons


def test_lost_samples_fail_although_the_rest_is_better():
    missing = {f"c{person:02d}00" for person in range(12)}
    run = scored(+0.05, missing=missing)
    (result,) = check_gate(run, scored(), [rule(min_coverage=0.9)]).results
    assert result.outcome == "regression"
    assert result.reasons[-1] == "coverage 0.800, at least 0.9 required"
    (result,) = check_gate(run, scored(), [rule(min_coverage=None, max_misses=11)]).results
    assert result.reasons[-1] == "12 samples without a value, 11 allowed"
    assert outcome(run, scored(), rule(min_coverage=None, max_misses=12)) == "pass"


def test_bounds_by_hand():
    # Changes per person -0.04, -0.02, -0.03 (one sample each): mean drop 0.03, standard
    # deviation 0.01, standard error 0.01 / sqrt(3), t of 2 degrees of freedom.
    found = bound_drop(
        np.array([-0.04, -0.02, -0.03]),
        np.ones(3),
        ["a", "b", "c"],
        rule(confidence=0.95, fail_confidence=0.99),
    )
    error = 0.01 / math.sqrt(3)
    assert found.mean == pytest.approx(0.03)
    assert found.fail_bound == pytest.approx(0.03 - stats.t(2).ppf(0.99) * error)
    assert found.pass_bound == pytest.approx(0.03 + stats.t(2).ppf(0.95) * error)


def test_gate_is_as_bad_as_its_worst_rule():
    good, bad = rule(max_drop=0.1), rule(max_drop=0.001)
    run, baseline = scored(-0.06, seed=1, noise=0.01), scored()
    assert outcome(run, baseline, good) == "pass"
    assert outcome(run, baseline, good, bad) == "regression"
    assert EXIT_CODES == {"pass": 0, "regression": 1, "inconclusive": 2}


@pytest.mark.parametrize(
    ("facts", "named"),
    [
        ({"suite": {"name": "s", "version": 1, "sha256": "b" * 64}}, "suite sha256"),
        ({"seed_policy": "fixed:1"}, "seed policy 'fixed:1', not 'hashed'"),
        ({"size": (512, 512)}, r"image size \(512, 512\), not None"),
    ],
)
def test_runs_that_are_no_pairs_are_refused(facts, named):
    with pytest.raises(BaselineError, match=named):
        outcome(scored(**facts), scored())


def test_column_of_another_fingerprint_is_refused_with_the_difference():
    old = column(details='{"version": 1}')
    new = column(fingerprint="0" * 16, details='{"version": 2}')
    with pytest.raises(LookupError, match="version: 2, not 1"):
        outcome(scored(of=new), scored(of=old), rule(column=old))
    with pytest.raises(LookupError, match="has no scores of other"):
        outcome(scored(), scored(), rule(column=column("other@strict[x]")))


def test_baseline_file_keeps_what_a_gate_needs(tmp_path):
    run = scored(missing={"c0001"})
    save_baseline(run, tmp_path / "b.json")
    kept = read_baseline(tmp_path / "b.json")
    assert kept.facts == run.facts
    assert kept.columns == run.columns
    merged = kept.frame.merge(run.frame, on=["case_id", "sample"], suffixes=("", "_run"))
    assert np.allclose(merged["value"], merged["value_run"], rtol=1e-6, equal_nan=True)
    assert (merged["reason"] == merged["reason_run"]).all()
    assert (merged["identity"] == merged["identity_run"]).all()


def test_baseline_file_is_small_and_the_same_every_time(tmp_path):
    run = scored(people=100, prompts=41)
    save_baseline(run, tmp_path / "one.json")
    shuffled = dataclasses.replace(run, frame=run.frame.sample(frac=1, random_state=0))
    save_baseline(shuffled, tmp_path / "two.json")
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()
    assert (tmp_path / "one.json").stat().st_size < 40 * 4100
    assert json.loads((tmp_path / "one.json").read_text())["format"] == "idbench.baseline/1"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("{", "no baseline or damaged"),
        ('{"format": "idbench.baseline/9"}', "has format 'idbench.baseline/9'"),
        ("[]", "no baseline or damaged"),
        ('{"format": "idbench.baseline/1"}', "no baseline or damaged"),
    ],
)
def test_damaged_baseline_is_refused(tmp_path, text, named):
    (tmp_path / "b.json").write_text(text)
    with pytest.raises(BaselineError, match=named):
        read_baseline(tmp_path / "b.json")


def test_absent_baseline_says_how_to_make_one(tmp_path):
    with pytest.raises(BaselineError, match="idbench baseline save RUN"):
        read_baseline(tmp_path / "b.json")


RULES = """
format: idbench.gate/1
defaults: {min_coverage: 0.95, confidence: 0.98}
rules:
  facesim: {max_drop: 0.02}
  lpips@strict: {max_drop: 0.1, confidence: 0.9, max_misses: 3}
"""
COLUMNS = [FACESIM, column("lpips@strict[x]", higher=False), column("open@strict[x]", higher=None)]


def test_rules_are_read_with_defaults_and_share_false_alarms(tmp_path):
    (tmp_path / "gate.yaml").write_text(RULES)
    first, second = read_rules(tmp_path / "gate.yaml", COLUMNS)
    assert (first.column, first.max_drop, first.min_coverage) == (FACESIM, 0.02, 0.95)
    assert (first.confidence, first.fail_confidence) == (0.98, 0.98)
    assert (second.confidence, second.max_misses, second.min_coverage) == (0.9, 3, 0.95)
    assert not second.higher_is_better
    two = GateConfig(
        format="idbench.gate/1",
        defaults=RuleConfig(max_drop=0.1, min_coverage=0.9, confidence=0.98),
        rules={"facesim": RuleConfig(), "lpips": RuleConfig()},
    )
    assert [r.fail_confidence for r in resolve_rules(two, COLUMNS, where="x")] == [0.99, 0.99]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (("max_drop: 0.02", "max_dorp: 0.02"), "rules.facesim.max_dorp"),
        (("max_drop: 0.02", "max_drop: -1"), "rules.facesim.max_drop"),
        (("max_drop: 0.02", "max_drop: much"), "rules.facesim.max_drop"),
        (("max_drop: 0.02", "max_misses: 1"), "rules.facesim.max_drop: is missing"),
        (("min_coverage: 0.95, ", ""), "rules.facesim: needs min_coverage or max_misses"),
        (("idbench.gate/1", "idbench.gate/2"), "format"),
        (("lpips@strict", "open"), "rules.open.direction"),
        (("rules:", "ruels:"), "ruels"),
        (("lpips@strict", "facesim@strict"), r"facesim@strict\[dlib\] has two rules"),
        ((RULES, "{"), "is not YAML"),
    ],
)
def test_wrong_rules_name_file_and_key(tmp_path, change, named):
    path = tmp_path / "gate.yaml"
    path.write_text(RULES.replace(*change))
    with pytest.raises(ValueError, match=named) as caught:
        read_rules(path, COLUMNS)
    assert str(path) in str(caught.value)


def test_rule_for_an_unknown_column_lists_the_known(tmp_path):
    (tmp_path / "gate.yaml").write_text(RULES.replace("facesim", "facesin"))
    with pytest.raises(LookupError, match="unknown column 'facesin'; known: facesim@strict"):
        read_rules(tmp_path / "gate.yaml", COLUMNS)


@pytest.fixture
def mixed():
    return check_gate(
        scored(-0.06, seed=1, noise=0.01),
        scored(),
        [rule(max_drop=0.1), rule(max_drop=0.001), rule(max_drop=0.0605)],
    )


def test_junit_counts_failures_and_errors(mixed):
    root = ElementTree.fromstring(gate_text.junit(mixed))
    suite = root.find("testsuite")
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("3", "1", "1")
    kinds = [[child.tag for child in case] for case in suite.findall("testcase")]
    assert kinds == [[], ["failure"], ["error"]]


def test_github_annotations(mixed):
    lines = gate_text.github(mixed).splitlines()
    assert [line.split(" ")[0] for line in lines] == ["::notice", "::error", "::warning"]


def test_hostile_labels_stay_text():
    evil = "</x>|`a`\n::error::%0A\x1b[31m"
    result = check_gate(scored(label=evil, run=evil), scored(label=evil), [rule()])
    ElementTree.fromstring(gate_text.junit(result))
    for text in (gate_text.terminal(result), gate_text.markdown(result), gate_text.github(result)):
        assert all(line.isprintable() for line in text.splitlines())
        assert not any(line.startswith("::error") for line in text.splitlines())


def test_coverage_is_in_every_output(mixed):
    for text in (gate_text.terminal(mixed), gate_text.markdown(mixed), gate_text.github(mixed)):
        assert "60/60" in text


# Simulation


def test_simulated_shares_are_those_of_a_students_t_test():
    found = simulate(
        rule(max_drop=0.02, confidence=0.95, fail_confidence=0.95),
        Noise(person=0.0, sample=0.03, source=""),
        identities=20,
        per_identity=5,
        effect=0.03,
        repeats=20000,
    )
    # At the allowed drop both errors are 5 % by construction; power is a non-central t.
    assert found.at_limit["regression"] == pytest.approx(0.05, abs=0.006)
    assert found.at_limit["pass"] == pytest.approx(0.05, abs=0.006)
    error = 0.03 / math.sqrt(5) / math.sqrt(20)
    expected = stats.nct(19, 0.01 / error).sf(stats.t(19).ppf(0.95))
    assert found.power == pytest.approx(expected, abs=0.01)


def test_the_gate_itself_errs_as_the_simulation_says():
    noise, allowed = Noise(person=0.01, sample=0.05, source=""), 0.03
    rules = rule(max_drop=allowed, fail_confidence=0.9, confidence=0.9)
    said = simulate(rules, noise, identities=12, per_identity=4, effect=0.05, repeats=20000)
    rng = np.random.default_rng(1)
    people = [f"p{index:02d}" for index in range(12) for _ in range(4)]
    for drop, shares in ((allowed, said.at_limit), (0.05, said.at_effect)):
        outcomes = []
        for _ in range(1200):
            change = np.repeat(rng.normal(0, 0.01, 12), 4) + rng.normal(0, 0.05, 48) - drop
            outcomes.append(decide(bound_drop(change, np.ones(48), people, rules), rules)[0])
        for name, share in shares.items():
            assert outcomes.count(name) / 1200 == pytest.approx(share, abs=0.04)


def test_declared_goals_for_a_suite_of_a_hundred_identities():
    found = simulate(
        rule(max_drop=0.01),
        Noise(person=0.01, sample=0.08, source=""),
        identities=100,
        per_identity=41,
        effect=0.02,
    )
    assert found.unchanged["regression"] <= 0.01
    assert found.at_limit["regression"] <= 0.015
    assert found.power >= 0.90
    assert found.good


def test_small_suite_misses_the_goals_and_says_so():
    found = simulate(
        rule(max_drop=0.01),
        Noise(person=0.0, sample=0.08, source=""),
        identities=7,
        per_identity=3,
        effect=0.02,
    )
    assert found.power < 0.2
    assert not found.good


def test_noise_of_two_runs_is_measured():
    rng = np.random.default_rng(0)
    one = scored(people=200, prompts=6)
    person = np.repeat(rng.normal(0, 0.02, 200), 6)
    value = one.frame["value"] + person + rng.normal(0, 0.05, len(one.frame))
    other = dataclasses.replace(one, frame=one.frame.assign(value=value))
    found = noise_of_pair(one, other, rule())
    assert found.person == pytest.approx(0.02, rel=0.2)
    assert found.sample == pytest.approx(0.05, rel=0.05)


def test_noise_of_a_baseline_is_that_of_two_independent_draws():
    # Values spread by 0.03 within identities, so a difference of two draws by sqrt(2) x 0.03.
    found = noise_of_baseline(scored(people=200, prompts=6), rule())
    assert found.person == 0.0
    assert found.sample == pytest.approx(math.sqrt(2) * 0.03, rel=0.05)
