"""What every benchmark prints."""

import json

import pytest

from benchmarks.report import percentile, report


def test_the_last_line_is_json_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    report("example", {"seconds": 1.23456789, "count": 3}, {"seconds": "s, of something"})
    lines = capsys.readouterr().out.splitlines()
    found = json.loads(lines[-1])
    assert found["benchmark"] == "example"
    assert found["figures"] == {"seconds": 1.2346, "count": 3.0}
    assert found["machine"]["cores"] >= 1
    assert any("s, of something" in line for line in lines)


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1), (0.5, 50), (0.95, 95), (0.99, 99), (1.0, 100)])
def test_a_percentile_is_one_of_the_values(share: float, expected: float) -> None:
    assert percentile([*range(100, 0, -1)], share) == expected
    assert percentile([7.0], share) == 7.0
