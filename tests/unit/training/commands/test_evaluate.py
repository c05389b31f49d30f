import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.unit.training.commands.conftest import Run
from training.captioner import checkpoint
from training.captioner.captioner import Captioner
from training.data import manifest
from training.data.manifest import Row
from training.decoding.retrieval import RetrievalMemory
from training.evaluation.outcome import SCORES
from training.metrics import MetricUnavailableError, Score, report


def test_scores_are_printed_with_signatures_and_written(
    succeed: Run, saved: Path, listed: Path, tmp_path: Path
) -> None:
    written = tmp_path / "new" / "scores.json"
    printed = succeed("evaluate", saved, "--manifest", listed, "--split", "dev", "--json", written).stdout
    lines = printed.splitlines()
    names = ["BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr-D", "METEOR"]
    assert [line.split()[0] for line in lines[:7]] == names
    assert lines[3].split()[2].startswith("bleu4|nltk:")
    assert lines[3].endswith("|refs:2|n:4")
    assert lines[7].endswith("beam:3|penalty:0.9|max:6")

    result = json.loads(written.read_text())
    assert set(result) == {
        *("checkpoint", "decoding", "scores", "signatures", "unavailable"),
        *("distinct_words", "mean_length", "subsets", "images"),
    }
    assert (result["checkpoint"], result["unavailable"], result["subsets"]) == ("saved", {}, {})
    assert tuple(result["scores"]) == tuple(result["signatures"]) == SCORES
    assert all(isinstance(value, float) for value in result["scores"].values())
    assert [item["image"] for item in result["images"]] == [f"{c}-3.png" for c in ("red", "green", "blue", "white")]
    assert set(result["images"][0]) == {"image", "image_id", "sha256", "hypothesis", "references", "cider_d"}
    assert result["images"][0]["references"] == ["A red picture.", "This is a picture in red."]
    mean = sum(item["cider_d"] for item in result["images"]) / 4
    assert result["scores"]["cider_d"] == pytest.approx(mean)
    assert list(written.parent.iterdir()) == [written]


def test_without_a_checkpoint_the_starter_is_scored(
    succeed: Run, fail: Run, starter: Path, listed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ("--manifest", listed, "--json", tmp_path / "scores.json")
    scored = succeed("evaluate", *asked).output
    assert json.loads((tmp_path / "scores.json").read_text())["checkpoint"] == "starter"
    assert succeed("evaluate", "starter", *asked).output == scored
    monkeypatch.chdir(tmp_path)
    (tmp_path / "starter").mkdir()
    assert "The checkpoint starter is incomplete" in fail("evaluate", "starter", *asked), "a folder has that name"
    assert succeed("evaluate", *asked).output == scored


def test_all_rows_of_a_manifest_are_scored_and_the_dev_rows_of_a_data_set(
    succeed: Run, saved: Path, listed: Path
) -> None:
    assert "n:16" in succeed("evaluate", saved, "--manifest", listed).output
    assert "n:4" in succeed("evaluate", saved, "--dataset", "jsonl", "--data-dir", listed.parent).output
    assert "n:3" in succeed("evaluate", saved, "--dataset", "jsonl", "--data-dir", listed, "--limit", 3).output


def test_a_score_that_cannot_be_had_has_its_reason(
    succeed: Run, saved: Path, listed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacking(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Score:
        raise MetricUnavailableError("METEOR needs Java.")

    monkeypatch.setattr(report, "meteor", lacking)
    written, page = tmp_path / "scores.json", tmp_path / "page.html"
    printed = succeed("evaluate", saved, "--manifest", listed, "--json", written, "--html", page).output
    [line] = [line for line in printed.splitlines() if line.startswith("METEOR")]
    assert line.split(maxsplit=2)[1:] == ["-", "METEOR needs Java."]
    result = json.loads(written.read_text())
    assert (result["scores"]["meteor"], result["signatures"]["meteor"]) == (None, None)
    assert result["unavailable"] == {"meteor": "METEOR needs Java."}
    assert "METEOR needs Java." in page.read_text()


@pytest.mark.parametrize(
    ("options", "signature"),
    [
        (("--beam", 1), "beam:1|penalty:0.9|max:6"),
        (("--length-penalty", 0.5), "beam:3|penalty:0.5|max:6"),
        (("--max-length", 5), "beam:3|penalty:0.9|max:5"),
        (("--top-p", 0.5), "top-p:0.5|temperature:1|seed:1|max:6"),
        (("--top-p", 1, "--temperature", 0.5, "--seed", 9), "top-p:1|temperature:0.5|seed:9|max:6"),
    ],
)
def test_decoding_follows_the_options(
    options: tuple[object, ...], signature: str, succeed: Run, saved: Path, listed: Path, tmp_path: Path
) -> None:
    written = tmp_path / "scores.json"
    succeed("evaluate", saved, "--manifest", listed, "--split", "dev", "--json", written, *options)
    result = json.loads(written.read_text())
    assert result["decoding"] == signature
    if "--max-length" in options:
        assert all(len(item["hypothesis"].split()) <= 5 for item in result["images"])


@pytest.mark.parametrize(
    ("options", "ending"),
    [
        ((), "|neighbours:2"),
        (("--neighbours", 3), "|neighbours:3"),
        (("--neighbours", 0), "|max:6"),
    ],
)
def test_reranking_follows_the_options(
    options: tuple[object, ...],
    ending: str,
    succeed: Run,
    tiny: Captioner,
    coloured_rows: list[Row],
    listed: Path,
    tmp_path: Path,
) -> None:
    tiny.retrieval = RetrievalMemory.build(coloured_rows[:2], torch.randn(2, tiny.encoder.channels), tiny.vocabulary, 9)
    tiny.decoding = replace(tiny.decoding, neighbours=2)
    remembering, written = checkpoint.save(tmp_path / "remembering", tiny), tmp_path / "scores.json"
    succeed("evaluate", remembering, "--manifest", listed, "--split", "dev", "--json", written, *options)
    assert json.loads(written.read_text())["decoding"].endswith(ending)


def test_a_checkpoint_without_an_index_refuses_neighbours(
    succeed: Run, fail: Run, saved: Path, listed: Path, picture: Callable[..., Path]
) -> None:
    refused = "Error: The checkpoint has no index of training images: leave out --neighbours."
    assert fail("evaluate", saved, "--manifest", listed, "--neighbours", 5, "--device", "cpu") == refused
    assert fail("caption", saved, picture("red"), "--neighbours", 5, "--device", "cpu") == refused
    succeed("caption", saved, picture("red"), "--neighbours", 0)


def test_domains_of_nocaps_are_scored_separately(succeed: Run, saved: Path, nocaps: Path, tmp_path: Path) -> None:
    written, exported, page = tmp_path / "scores.json", tmp_path / "coco.json", tmp_path / "page.html"
    files = ("--json", written, "--coco", exported, "--html", page)
    printed = succeed("evaluate", saved, "--dataset", "nocaps", "--data-dir", nocaps, "--split", "dev", *files).stdout
    assert [line.split()[:2] for line in printed.splitlines() if "-domain" in line] == [
        ["in-domain", "2"],
        ["out-domain", "2"],
    ]
    result = json.loads(written.read_text())
    assert {name: tuple(scores) for name, scores in result["subsets"].items()} == {
        "in-domain": SCORES,
        "out-domain": SCORES,
    }
    submission = json.loads(exported.read_text())
    assert [item["image_id"] for item in submission] == [1, 2, 3, 4]
    assert [item["caption"] for item in submission] == [item["hypothesis"] for item in result["images"]]
    assert "<td>out-domain</td><td>2</td>" in page.read_text()


def test_images_without_references_are_captioned_for_a_submission(
    succeed: Run, fail: Run, saved: Path, nocaps: Path, tmp_path: Path
) -> None:
    exported, written = tmp_path / "coco.json", tmp_path / "scores.json"
    source = ("--dataset", "nocaps", "--data-dir", nocaps, "--split", "test")
    printed = succeed("evaluate", saved, *source, "--coco", exported, "--json", written).stdout
    assert "Captioned but not scored, without a human caption: 4 of 4 images." in printed
    assert "BLEU" not in printed
    assert [item["image_id"] for item in json.loads(exported.read_text())] == [101, 102, 103, 104]
    result = json.loads(written.read_text())
    assert result["scores"] == result["signatures"] == dict.fromkeys(SCORES)
    assert set(result["unavailable"]) == set(SCORES)
    assert [item["cider_d"] for item in result["images"]] == [None] * 4

    nothing = fail("evaluate", saved, *source, "--device", "cpu")
    assert nothing == "Error: No image has a human caption (4 images): give --coco or --json for the captions."
    page = fail("evaluate", saved, *source, "--coco", exported, "--html", tmp_path / "page.html", "--device", "cpu")
    assert "--html has no scores to show" in page


def test_of_a_mixed_manifest_the_captioned_images_are_scored(
    succeed: Run, saved: Path, coloured_rows: list[Row], tmp_path: Path
) -> None:
    rows = [replace(row, split="test", references=()) for row in coloured_rows[:3]] + coloured_rows[3:8]
    listing, written = manifest.save(rows, tmp_path / "mixed.jsonl"), tmp_path / "scores.json"
    printed = succeed("evaluate", saved, "--manifest", listing, "--json", written).stdout
    assert "without a human caption: 3 of 8 images." in printed
    assert "n:5" in printed
    images: list[dict[str, Any]] = json.loads(written.read_text())["images"]
    assert [item["cider_d"] is None for item in images] == [True] * 3 + [False] * 5


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("absent", "--manifest", "LISTED"), "no checkpoint folder absent"),
        (("SAVED",), "Give --dataset with --data-dir, or --manifest."),
        (("SAVED", "--manifest", "LISTED", "--dataset", "csv"), "Give --dataset with --data-dir, or --manifest."),
        (("SAVED", "--manifest", "LISTED", "--split", "test"), "no images of the split 'test'"),
        (("SAVED", "--manifest", "LISTED", "--beam", "0"), "beam is 0"),
        (("SAVED", "--manifest", "LISTED", "--beam", "many"), "'many' is not a valid integer"),
        (("SAVED", "--manifest", "LISTED", "--max-length", "0"), "max_length is 0"),
        (("SAVED", "--manifest", "LISTED", "--top-p", "2"), "top_p is 2.0"),
        (
            ("SAVED", "--manifest", "LISTED", "--top-p", "0.9", "--beam", "2", "--neighbours", "2"),
            "out --beam and --ne",
        ),
        (("SAVED", "--manifest", "LISTED", "--temperature", "2"), "without --top-p: give it, or leave out --temp"),
        (("SAVED", "--manifest", "LISTED", "--seed", "2"), "without --top-p: give it, or leave out --seed"),
        (("SAVED", "--manifest", "LISTED", "--json", "LISTED/x.json"), "x.json cannot be written"),
        (("SAVED", "--manifest", "LISTED", "--html", "."), "is a directory"),
        (("SAVED", "--manifest", "LISTED", "--device", "tpu"), "no device called 'tpu'"),
    ],
)
def test_wrong_input_is_one_line(arguments: tuple[str, ...], says: str, refuse: Run) -> None:
    assert says in refuse("evaluate", *arguments)
