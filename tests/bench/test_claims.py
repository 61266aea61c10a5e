import pytest

from idbench.claims import Claim, check_claim, evaluate, load_claims
from idbench.commands import claims as verb
from idbench.paper_tables import load_tables

# Verdicts reached by hand from the papers.
PARTLY = {
    "editidv2-14", "editidv2-15", "editidv2-17", "flexid-13", "flexip-06", "dynamicid-01",
    "editedid-15",
}  # fmt: skip
CONTRADICTED = {
    "editidv2-04", "editidv2-13", "editidv2-16", "flexid-02", "flexid-07", "flexip-02",
    "dynamicid-04", "dynamicid-08", "editedid-09",
}  # fmt: skip
NOT_VERIFIABLE = {"editidv2-18", "editedid-10"}


def test_every_claim_gets_the_verdict_reached_by_hand():
    assert len(load_claims()) == 65
    for claim in load_claims():
        expected = (
            "partially_supported"
            if claim.id in PARTLY
            else "contradicted"
            if claim.id in CONTRADICTED
            else "not_verifiable"
            if claim.id in NOT_VERIFIABLE
            else "supported"
        )
        assert check_claim(claim).verdict == expected, claim.id


def claim(check, table="table1", paper="editidv2"):
    return Claim(
        id=f"{paper}-x", paper=paper, claim="", claimed="", table=table, checks=(check,), note=""
    )


def measured(**columns):
    return {"editidv2:table1": columns}


def test_claim_on_measured_numbers():
    check = claim('v("EditIDv2","facesim") > v("EditID","facesim")')
    assert check_claim(check).verdict == "contradicted"
    better = measured(facesim={"EditIDv2": 0.9, "EditID": 0.5})
    assert check_claim(check, better).verdict == "supported"
    assert check_claim(check, measured(facesim={"EditID": 0.5})).verdict == "not_measured"


def test_superlative_needs_every_row():
    check = claim('v("EditIDv2","facesim") > max(others("EditIDv2","facesim"))')
    some = measured(facesim={"EditIDv2": 0.9, "EditID": 0.5})
    assert check_claim(check, some).verdict == "not_measured"


def test_measured_numbers_may_miss_the_printed_digits_within_the_tolerance():
    check = claim('shows(v("EditIDv2","facesim"), "0.659")')
    near = measured(facesim={"EditIDv2": 0.667})
    assert check_claim(check, near).verdict == "contradicted"
    assert check_claim(check, near, tolerance=0.02).verdict == "supported"


@pytest.mark.parametrize(
    "check",
    [
        '__import__("os").system("true")',
        "().__class__",
        "open('x')",
        "[x for x in (1,)].append(2)",
        "lambda: 1",
        "v('EditIDv2','facesim') ** 9",
        "exec('1')",
    ],
)
def test_checks_can_only_compute(check):
    with pytest.raises(ValueError, match="may not stand in a check"):
        evaluate(check, claim(check))


def test_check_of_an_unknown_row_or_column_is_a_fault_of_the_data():
    with pytest.raises(LookupError, match="has no row 'Nobody'"):
        evaluate('v("Nobody","facesim")', claim(""))
    with pytest.raises(LookupError, match="no column 'nothing'"):
        evaluate('v("EditIDv2","nothing")', claim(""))


def test_verb_prints_every_claim(capsys):
    import argparse

    parser = argparse.ArgumentParser()
    verb.add_arguments(parser)
    assert verb.run(parser.parse_args(["flexip"])) == 0
    printed = capsys.readouterr().out
    assert printed.count("printed numbers:") == 8
    assert "6 supported, 1 partly supported, 1 contradicted" in printed
    with pytest.raises(LookupError, match="unknown paper 'flex'; known: editidv2, flexid"):
        verb.run(parser.parse_args(["flex"]))


def test_every_claim_names_a_table_that_there_is():
    for each in load_claims():
        assert each.table is None or f"{each.paper}:{each.table}" in load_tables()
