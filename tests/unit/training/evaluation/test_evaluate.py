from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from training.captioner.captioner import Captioner
from training.config import DecodingConfig
from training.data.manifest import Row
from training.decoding.beam_search import Hypothesis
from training.evaluation import evaluate
from training.evaluation.outcome import score
from training.gate import gate


def test_aligned_with_the_rows(
    tiny: Captioner, coloured_rows: list[Row], tmp_path: Path, picture: Callable[..., Path]
) -> None:
    absent = replace(coloured_rows[0], image=tmp_path / "absent.png", sha256="0" * 64)
    rows = [coloured_rows[3], absent, coloured_rows[0], coloured_rows[3]]
    captions = evaluate.hypotheses(tiny, rows, None, tmp_path / "cache")
    assert captions[1].text == ""
    assert captions[0] == captions[3]
    alone = tiny.caption([rows[0].image, rows[2].image])
    assert [item.text for item in alone if isinstance(item, Hypothesis)] == [captions[0].text, captions[2].text]


def test_captions_have_signals_where_they_are_asked_for(
    tiny: Captioner, coloured_rows: list[Row], tmp_path: Path
) -> None:
    described = evaluate.hypotheses(tiny, coloured_rows, None, tmp_path, signals=True)
    assert all(each.signals and each.signals.log_probability <= 0 for each in described)
    assert all(each.feature for each in described) == bool(tiny.feature_space)
    plain = evaluate.hypotheses(tiny, coloured_rows, None, tmp_path)
    assert plain == described
    assert not any(each.signals or each.feature for each in plain)


def test_an_evaluation_the_gate_can_judge(tiny: Captioner, coloured_rows: list[Row], tmp_path: Path) -> None:
    common = {"evaluation_set": "held out", "cache_dir": tmp_path / "cache"}
    evaluation = evaluate.evaluate(tiny, coloured_rows, model="v1", **common)  # type: ignore[arg-type]
    assert evaluation.decoding == tiny.decoding.signature()
    assert evaluation.references[2] == coloured_rows[2].references
    assert len(evaluation.hypotheses) == len(coloured_rows)
    again = evaluate.evaluate(tiny, coloured_rows, model="v2", **common)  # type: ignore[arg-type]
    assert gate.judge([gate.EvaluationSet(gate.CORRECTIONS, again, evaluation)]).pairs == len(coloured_rows)
    other = evaluate.evaluate(tiny, coloured_rows[1:], model="v1", decoding=DecodingConfig(beam=1), **common)  # type: ignore[arg-type]
    assert other.set_hash != evaluation.set_hash
    assert other.decoding != evaluation.decoding


def test_progress_counts_images(tiny: Captioner, coloured_rows: list[Row], tmp_path: Path) -> None:
    captions: list[tuple[int, int]] = []
    evaluate.hypotheses(tiny, coloured_rows, None, tmp_path, lambda done, total: captions.append((done, total)))
    assert captions[-1] == (16, 16)


def test_a_captioner_that_tells_nothing_of_its_images_is_warned_of() -> None:
    rows = [Row(Path(f"{n}.jpg"), f"{n:064x}", ("a red dot",)) for n in range(12)]

    def warning(*hypotheses: str) -> str:
        told = score("it", "beam:3", rows[: len(hypotheses)], hypotheses)
        return told.warning

    assert (
        warning("a a a", "a") == "The captions of all 2 images are made of one word: the captioner has learned nothing."
    )
    assert warning(*["a red dot"] * 12) == "All 12 images have the same caption: it does not depend on them."
    assert not warning("a"), "one image says little"
    assert not warning(*["a red dot"] * 3)
    assert not warning(*["a red dot"] * 11, "a dot")
