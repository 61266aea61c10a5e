"""A gate's verdict for people and machines: terminal, Markdown, JUnit XML, GitHub annotations."""

import math
import textwrap
from xml.etree import ElementTree

from idbench import escape
from idbench.gates import GateResult, RuleResult
from idbench.tables import MISSING, Header

MARKS = {"pass": "pass", "regression": "REGRESSION", "inconclusive": "inconclusive"}


def terminal(result: GateResult, width: int = 80) -> str:
    """The verdict, then one paragraph per rule."""
    lines = [
        f"gate: {MARKS[result.outcome]}",
        f"run      {escape.plain(result.label)}",
        f"baseline {escape.plain(result.baseline)}  (suite {escape.plain(result.suite)})",
    ]
    for rule in result.results:
        lines += ["", f"{MARKS[rule.outcome]:<12}  {escape.plain(rule.rule.column.name)}"]
        for text in (_means(rule), *rule.reasons):
            lines += textwrap.wrap(
                escape.plain(text), width, initial_indent="  ", subsequent_indent="    "
            )
    return "\n".join(lines) + "\n"


def markdown(result: GateResult) -> str:
    """A summary for a pull request or a job page."""
    lines = [
        f"### idbench gate: {MARKS[result.outcome]}",
        "",
        f"{escape.markdown(result.label)} against the baseline {escape.markdown(result.baseline)}, "
        f"suite {escape.markdown(result.suite)}.",
        "",
        "| outcome | column | baseline | run | drop | allowed | pairs | why |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for rule in result.results:
        header = Header(column=rule.rule.column, decimals=4)
        cells = [
            MARKS[rule.outcome],
            escape.markdown(rule.rule.column.name),
            _number(header, rule.baseline_mean),
            _number(header, rule.run_mean),
            _number(header, rule.drop.mean),
            f"{rule.rule.max_drop:g}",
            f"{rule.pairs}/{rule.total}",
            "<br>".join(map(escape.markdown, rule.reasons)),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def junit(result: GateResult) -> str:
    """JUnit XML: a regression is a failure, an inconclusive rule an error."""
    counts = [rule.outcome for rule in result.results]
    suite = ElementTree.Element(
        "testsuite",
        name=f"idbench gate: {escape.plain(result.suite)}",
        tests=str(len(counts)),
        failures=str(counts.count("regression")),
        errors=str(counts.count("inconclusive")),
        skipped="0",
    )
    for rule in result.results:
        case = ElementTree.SubElement(
            suite,
            "testcase",
            classname=f"idbench.{escape.plain(result.suite)}",
            name=escape.plain(rule.rule.column.name),
        )
        if rule.outcome != "pass":
            tag = "failure" if rule.outcome == "regression" else "error"
            found = ElementTree.SubElement(
                case, tag, message=escape.plain("; ".join(rule.reasons)), type=rule.outcome
            )
            found.text = escape.plain(_means(rule))
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=False) + "\n"


def github(result: GateResult) -> str:
    """Workflow commands that annotate a job: errors for regressions, warnings for the undecided."""
    lines = []
    for rule in result.results:
        level = {"regression": "error", "inconclusive": "warning", "pass": "notice"}[rule.outcome]
        title = _property(f"idbench gate: {rule.rule.column.name}")
        text = _message(f"{rule.outcome}: {'; '.join(rule.reasons)}. {_means(rule)}")
        lines.append(f"::{level} title={title}::{text}")
    return "\n".join(lines) + "\n"


def _means(rule: RuleResult) -> str:
    header = Header(column=rule.rule.column, decimals=4)
    return (
        f"baseline {_number(header, rule.baseline_mean)}, run {_number(header, rule.run_mean)}, "
        f"drop {_number(header, rule.drop.mean)} over {rule.pairs}/{rule.total} pairs of "
        f"{rule.drop.identities} identities; {rule.misses} samples without a value"
    )


def _number(header: Header, value: float) -> str:
    return MISSING if math.isnan(value) else header.number(value)


def _message(text: str) -> str:
    """Text of a workflow command, which ends at a line break."""
    return escape.plain(text).replace("%", "%25")


def _property(text: str) -> str:
    return _message(text).replace(":", "%3A").replace(",", "%2C")
