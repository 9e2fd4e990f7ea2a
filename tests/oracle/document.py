"""The document that lists the differences from Envoy, held against what was found."""

import re
from pathlib import Path

DOCUMENT = (Path(__file__).parents[2] / "docs/differences-from-envoy.md").read_text()
Outcomes = dict[str, tuple[str, str]]
"""Case -> what Envoy did, what we do."""


def section(scenario: str) -> str:
    """What the document says of a scenario."""
    found = re.search(rf"^## `{scenario}`$(.*?)(?=^## |\Z)", DOCUMENT, re.M | re.S)
    assert found is not None, f"no section for {scenario}"
    return found[1]


def listed(scenario: str) -> Outcomes:
    """The document's table of a scenario."""
    rows = [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in section(scenario).splitlines()
        if line.startswith("| `")
    ]
    for row in rows:
        assert len(row) == 4 and row[3], f"needs case, Envoy, Warmpath and why: {row}"
    return {case.strip("`"): (envoy, ours) for case, envoy, ours, _ in rows}


def compare(scenario: str, outcomes: Outcomes) -> None:
    found = {case: pair for case, pair in outcomes.items() if pair[0] != pair[1]}
    expected = listed(scenario)
    wrong = [
        f"| `{case}` | {' | '.join(found.get(case, ('no difference', '')))} | listed: "
        f"{expected.get(case, 'not at all')}"
        for case in sorted(found.keys() | expected.keys())
        if found.get(case) != expected.get(case)
    ]
    assert not wrong, "\n" + "\n".join(wrong)
    said = verdict(len(outcomes), len(found))
    assert said in section(scenario), f"the section of {scenario} should say: {said}"


def verdict(cases: int, different: int) -> str:
    """The sentence with which a scenario's section begins."""
    if not different:
        return f"All {cases} cases end alike: nothing differs."
    return f"Of {cases} cases {different} {'ends' if different == 1 else 'end'} differently."


def near(theirs: dict[str, float], ours: dict[str, float], points: float) -> tuple[str, str]:
    """Both as text; the same text if no share differs by more than ``points``."""
    names = theirs.keys() | ours.keys()
    text = ", ".join(f"{name} {share:.0f}%" for name, share in sorted(theirs.items()))
    if all(abs(theirs.get(name, 0) - ours.get(name, 0)) <= points for name in names):
        return text, text
    return text, ", ".join(f"{name} {share:.0f}%" for name, share in sorted(ours.items()))
