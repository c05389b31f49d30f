"""Each benchmark can be found."""

from tests.smoke.test_benchmarks import NAMES, ROOT


def test_every_benchmark_stands_in_the_documentation() -> None:
    documentation = (ROOT / "docs" / "benchmarks.md").read_text()
    assert [name for name in NAMES if f"benchmarks.{name}" not in documentation] == []
