import hashlib
import json
from pathlib import Path

import pytest

from training.data import manifest
from training.data.manifest import Row
from training.errors import DataError


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "photos" / "one.jpg"
    path.parent.mkdir()
    path.write_bytes(b"pretend picture")
    return path


def test_save_and_load_round_trip(tmp_path: Path, image: Path) -> None:
    row = Row(image, manifest.hash_file(image), ("Ein Hündchen.", "a dog"), manifest.DEV, 0.5)
    path = manifest.save([row], tmp_path / "manifest.jsonl")
    assert manifest.load(path) == [row]
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["manifest.jsonl"]


def test_images_beside_the_manifest_move_with_it(tmp_path: Path, image: Path) -> None:
    path = manifest.save([Row(image, "ab", ("a dog",))], tmp_path / "manifest.jsonl")
    assert json.loads(path.read_text())["image"] == "photos/one.jpg"
    elsewhere = manifest.save([Row(image, "ab", ("a dog",))], tmp_path / "other" / "manifest.jsonl")
    assert manifest.load(elsewhere)[0].image == image


def test_relative_manifest_paths(tmp_path: Path, image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = manifest.save([Row(Path("photos/one.jpg"), "ab", ("a dog",))], Path("sets/manifest.jsonl"))
    assert manifest.load(path)[0].image.resolve() == image
    path = manifest.save([Row(Path("photos/one.jpg"), "ab", ("a dog",))], Path("manifest.jsonl"))
    assert manifest.load(path)[0].image == Path("photos/one.jpg")


def test_hash_split_and_weight_have_defaults(tmp_path: Path, image: Path) -> None:
    path = tmp_path / "manifest.jsonl"
    path.write_text('\n{"image": "photos/one.jpg", "references": ["a dog"]}\n\n')
    (row,) = manifest.load(path)
    assert row.sha256 == hashlib.sha256(b"pretend picture").hexdigest()
    assert (row.split, row.weight) == ("train", 1.0)


@pytest.mark.parametrize(
    "line",
    [
        "not json",
        "[]",
        '"text"',
        '{"image": "photos/one.jpg"}',
        '{"references": ["a dog"]}',
        '{"image": "photos/one.jpg", "references": "a dog"}',
        '{"image": "photos/one.jpg", "references": [1]}',
        '{"image": "photos/one.jpg", "references": ["a"], "weight": "heavy"}',
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, image: Path, line: str) -> None:
    path = tmp_path / "manifest.jsonl"
    path.write_text('{"image": "photos/one.jpg", "references": ["a dog"]}\n' + line + "\n")
    with pytest.raises(DataError, match=r"Line 2 .*manifest\.jsonl"):
        manifest.load(path)


@pytest.mark.parametrize("content", [None, b"", b"\n\n", b"\xff\xfe\x00"])
def test_no_rows(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "manifest.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"manifest\.jsonl"):
        manifest.load(path)


def test_an_interrupted_save_leaves_the_old_manifest(tmp_path: Path, image: Path) -> None:
    path = manifest.save([Row(image, "ab", ("a dog",))], tmp_path / "manifest.jsonl")

    def rows():  # type: ignore[no-untyped-def]
        yield Row(image, "cd", ("a cat",))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        manifest.save(rows(), path)
    assert [row.sha256 for row in manifest.load(path)] == ["ab"]


def test_content_hash_ignores_paths() -> None:
    row = Row(Path("a.jpg"), "ab", ("a dog",))
    same = manifest.content_hash([row])
    assert manifest.content_hash([Row(Path("moved/a.jpg"), "ab", ("a dog",))]) == same
    others = [
        Row(Path("a.jpg"), "cd", ("a dog",)),
        Row(Path("a.jpg"), "ab", ("a cat",)),
        Row(Path("a.jpg"), "ab", ("a dog",), manifest.DEV),
        Row(Path("a.jpg"), "ab", ("a dog",), weight=2.0),
    ]
    assert len({same, *(manifest.content_hash([other]) for other in others)}) == 5
    assert manifest.content_hash([row, others[0]]) != manifest.content_hash([others[0], row])


def test_split_position_is_fixed_and_even() -> None:
    hashes = [hashlib.sha256(bytes([i % 256, i // 256])).hexdigest() for i in range(2000)]
    positions = [manifest.split_position(sha) for sha in hashes]
    assert all(0 <= position < 1 for position in positions)
    assert 0.12 < sum(position < 0.15 for position in positions) / 2000 < 0.18
    assert positions == [manifest.split_position(sha) for sha in hashes]
    assert positions != [manifest.split_position(sha, salt="other") for sha in hashes]
    assert manifest.split_position("ab") == 0xFB8E20FC2E4C3 / 16**13  # the first digits of SHA-256 of "ab"


def test_hash_of_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.jpg"):
        manifest.hash_file(tmp_path / "gone.jpg")


def test_a_caption_may_hold_any_character_of_unicode(tmp_path: Path, image: Path) -> None:
    texts = ("a\u2028dog", "a\x85dog", "a\u2029dog", "a\x0bdog", "a\x1cdog", "a\r\ndog")
    path = manifest.save([Row(image, "ab", texts)], tmp_path / "manifest.jsonl")
    assert manifest.load(path)[0].references == texts
