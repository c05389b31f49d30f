import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.unit.training.commands.conftest import Run
from training.captioner import checkpoint
from training.captioner.captioner import Captioner
from training.commands import compare as module
from training.data.manifest import Row
from training.decoding.retrieval import RetrievalMemory


def test_checkpoints_stand_in_one_table_with_the_best_of_each_column_marked(
    succeed: Run, saved: Path, blind: Path, listed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = tmp_path / "compared.json"
    printed = succeed("compare", saved, blind, "--manifest", listed, "--beam", 2, "--json", written).stdout
    lines = printed.splitlines()
    for head in ("BLEU-4", "CIDEr-D", "ROUGE-L", "METEOR", "distinct words", "words a caption", "captions a second"):
        assert head in lines[0]
    assert [line.split()[0] for line in lines[1:3]] == [str(saved), str(blind)]
    assert lines[1].count("*") + lines[2].count("*") >= 7
    assert any(line.startswith("BLEU-4: bleu4|nltk:") and line.endswith("|refs:2|n:16") for line in lines)
    assert lines[-1] == "Human captions: 4.5 words a caption. Decoding: beam:2|penalty:0.9|max:6"

    result = json.loads(written.read_text())
    assert [entry["checkpoint"] for entry in result["checkpoints"]] == [str(saved), str(blind)]
    assert (result["images"], result["human_mean_length"]) == (16, 4.5)
    assert result["decoding"] == "beam:2|penalty:0.9|max:6"
    assert all(entry["captions_a_second"] > 0 for entry in result["checkpoints"])
    assert result["best"]["meteor"] == [str(saved), str(blind)]
    [quickest] = result["best"]["captions_a_second"]
    assert quickest == max(result["checkpoints"], key=lambda entry: entry["captions_a_second"])["checkpoint"]
    assert set(result["signatures"]) >= {"bleu4", "cider_d", "rouge_l", "meteor"}


def test_all_are_decoded_as_the_first(succeed: Run, saved: Path, blind: Path, listed: Path) -> None:
    printed = succeed("compare", blind, saved, "--manifest", listed, "--split", "dev").output
    assert "|refs:2|n:4" in printed
    assert printed.rstrip().endswith("Decoding: beam:3|penalty:0.9|max:6")
    assert module.TIMED >= 32


def test_a_checkpoint_whose_captions_are_not_reranked_is_named(
    succeed: Run, tiny: Captioner, blind: Path, coloured_rows: list[Row], listed: Path, tmp_path: Path
) -> None:
    tiny.retrieval = RetrievalMemory.build(coloured_rows[:2], torch.randn(2, tiny.encoder.channels), tiny.vocabulary, 9)
    tiny.decoding = replace(tiny.decoding, neighbours=2)
    remembering = checkpoint.save(tmp_path / "remembering", tiny)
    printed = succeed("compare", remembering, blind, "--manifest", listed, "--split", "dev").output
    assert printed.count("are not reranked") == 1
    assert f"{blind} has no index of training images: its captions are not reranked." in printed
    assert (
        "are not reranked" not in succeed("compare", blind, remembering, "--manifest", listed, "--split", "dev").output
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("SAVED", "--manifest", "LISTED"), "Give at least two checkpoints to compare."),
        (("SAVED", "absent", "--manifest", "LISTED"), "no checkpoint folder absent"),
        (("SAVED", "SAVED"), "Give --dataset with --data-dir, or --manifest."),
        (("SAVED", "SAVED", "--manifest", "LISTED", "--beam", "99"), "beam is 99"),
        (("SAVED", "SAVED", "--dataset", "nocaps", "--data-dir", "NOCAPS", "--split", "test"), "nothing to score by"),
    ],
)
def test_wrong_input_is_one_line(
    arguments: tuple[str, ...],
    says: str,
    fail: Run,
    saved: Path,
    listed: Path,
    nocaps: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    stand_ins = {"SAVED": saved, "LISTED": listed, "NOCAPS": nocaps}
    assert says in fail("compare", *(stand_ins.get(argument, argument) for argument in arguments))
