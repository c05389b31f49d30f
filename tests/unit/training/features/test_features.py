import errno
import logging
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from training.captioner.captioner import Captioner
from training.config import EncoderConfig
from training.data import transforms
from training.data.manifest import Row, hash_file
from training.errors import DataError
from training.features.cache import Cache, DamagedError
from training.features.features import FULL_SCALE, MIRRORED, Inputs
from training.runtime.files import is_full


def arrays(count: int, start: int = 0) -> np.ndarray:
    return np.arange(start * 6, (start + count) * 6, dtype=np.float16).reshape(count, 2, 3)


def lopsided(folder: Path) -> Row:
    """An image that is not its own mirror image."""
    image = folder / "lopsided.png"
    Image.fromarray(np.linspace(0, 255, 32 * 32, dtype=np.uint8).reshape(32, 32).T).save(image)
    return Row(image, hash_file(image), ("darker on one side",))


def noise(folder: Path, seed: int) -> Row:
    """An image that looks otherwise in another size."""
    image = folder / f"noise-{seed}.png"
    pixels = np.random.default_rng(seed).integers(0, 2, (48, 48, 3)) * 255
    Image.fromarray(pixels.astype(np.uint8)).save(image)
    return Row(image, hash_file(image), ("it snows",))


def test_grows_and_is_found_again(tmp_path: Path) -> None:
    Cache(tmp_path, (2, 3), "float16").add(["a", "b"], arrays(2))
    cache = Cache(tmp_path, (2, 3), "float16")
    assert "a" in cache
    assert "c" not in cache
    cache.add(["c"], arrays(1, 2))
    assert (cache.get(["c", "a", "c"]) == arrays(3)[[2, 0, 2]]).all()


def test_two_writers_do_not_lose_or_double(tmp_path: Path) -> None:
    one, other = Cache(tmp_path, (2, 3), "float16"), Cache(tmp_path, (2, 3), "float16")
    one.add(["a", "b"], arrays(2))
    other.add(["b", "c"], arrays(2, 1))
    assert (Cache(tmp_path, (2, 3), "float16").get(["a", "b", "c"]) == arrays(3)).all()
    assert (tmp_path / "arrays").stat().st_size == 3 * 6 * 2


@pytest.mark.parametrize("harm", ["half an array", "half a line", "a line without its array"])
def test_a_crash_costs_only_what_was_being_written(tmp_path: Path, harm: str) -> None:
    Cache(tmp_path, (2, 3), "float16").add(["a", "b"], arrays(2))
    if harm == "half an array":
        with (tmp_path / "arrays").open("ab") as file:
            file.write(b"12345")
    else:
        with (tmp_path / "index").open("a") as file:
            file.write("c" if harm == "half a line" else "d 00000000\n")
    cache = Cache(tmp_path, (2, 3), "float16")
    assert "c" not in cache
    cache.add(["c"], arrays(1, 2))
    assert (Cache(tmp_path, (2, 3), "float16").get(["a", "b", "c"]) == arrays(3)).all()


@pytest.mark.parametrize(
    ("name", "content", "kept"),
    [
        ("shape.json", b"", 2),  # as a crash or a power cut may leave them
        ("shape.json", b'{"shape": [2,', 2),
        ("index", b"\0" * 30 + b"\n", 0),
        ("index", b"a 00000000 b\nb 00000000\n", 0),
        ("index", b"\xff\xfe\n", 0),
        ("used", b"123", 2),
        ("arrays", b"123", 0),
    ],
)
def test_a_damaged_file_costs_what_it_had_and_nobody_has_to_mend_it(
    tmp_path: Path, name: str, content: bytes, kept: int
) -> None:
    Cache(tmp_path, (2, 3), "float16").add(["a", "b"], arrays(2))
    (tmp_path / name).write_bytes(content)
    cache = Cache(tmp_path, (2, 3), "float16")
    assert ["a" in cache, "b" in cache] == [kept == 2] * 2
    cache.touch(["a", "b"])
    cache.add(["a", "b", "c"], arrays(3))
    found = Cache.opened(tmp_path)
    assert (found.get(["a", "b", "c"]) == arrays(3)).all()


def test_what_is_dropped_gives_its_space_back_under_a_reader(tmp_path: Path) -> None:
    cache, reader = Cache(tmp_path, (2, 3), "float16"), Cache(tmp_path, (2, 3), "float16")
    cache.add(list("abcde"), arrays(5))
    reader.add(["a"], arrays(1))
    assert (reader.get(list("abcde")) == arrays(5)).all()
    cache.drop({"a", "c", "unknown"})
    assert (tmp_path / "arrays").stat().st_size == 3 * 6 * 2
    assert (reader.get(["b", "d", "e"]) == arrays(5)[[1, 3, 4]]).all()
    with pytest.raises(DamagedError) as caught:
        reader.get(["a", "b"])
    assert caught.value.hashes == ["a"]
    reader.add(["a", "c"], arrays(5)[[0, 2]])
    for each in (reader, Cache.opened(tmp_path)):
        assert (each.get(list("abcde")) == arrays(5)).all()


def test_it_knows_when_each_was_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(tmp_path, (2, 3), "float16")
    cache.add(list("abc"), arrays(3))
    for name, second in (("b", 7.0), ("c", 9.0)):
        monkeypatch.setattr("time.time", lambda second=second: second)
        cache.touch([name, "unknown"])
    cache.drop({"a"})
    assert Cache.opened(tmp_path).entries() == [("c", 9.0, 12), ("b", 7.0, 12)]
    cache.drop({"b", "c"})
    assert Cache.opened(tmp_path).entries() == []


def test_a_crash_while_it_drops_costs_only_what_was_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(tmp_path, (2, 3), "float16")
    cache.add(list("abc"), arrays(3))
    monkeypatch.setattr("training.features.cache.atomic_file", lambda path: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cache.drop({"a"})
    again = Cache.opened(tmp_path)
    assert (again.get(["b", "c"]) == arrays(3)[[1, 2]]).all()
    with pytest.raises(DamagedError):
        again.get(["a"])


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    cache = Cache(tmp_path, (2, 3), "float16")
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(DataError, match=r"^The cache .* cannot be written: No space left on device\.$") as caught:
        cache.add(["a"], arrays(1))
    assert is_full(caught.value)


def test_a_training_uses_what_it_reads(tiny: Captioner, coloured_rows: list[Row], tmp_path: Path) -> None:
    Inputs(tiny, coloured_rows[:3], tmp_path)
    (folder,) = tmp_path.glob("grid-*")
    first = {entry.name: entry.used for entry in Cache.opened(folder).entries()}
    assert all(first.values())
    Inputs(tiny, coloured_rows[:2], tmp_path)
    then = {entry.name: entry.used for entry in Cache.opened(folder).entries()}
    assert [then[row.sha256] > first[row.sha256] for row in coloured_rows[:3]] == [True, True, False]


def test_another_shape_is_refused(tmp_path: Path) -> None:
    Cache(tmp_path, (2, 3), "float16")
    with pytest.raises(DataError, match="another shape"):
        Cache(tmp_path, (2, 4), "float16")


def test_each_image_is_encoded_once(
    tiny: Captioner, coloured_rows: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[int] = []
    encode = tiny.encode
    monkeypatch.setattr(tiny, "encode", lambda pixels, views: encoded.append(len(pixels)) or encode(pixels, views))  # type: ignore[func-returns-value]
    told: list[tuple[int, int]] = []
    Inputs(tiny, coloured_rows[:3] + coloured_rows[:3], tmp_path, lambda done, total: told.append((done, total)))
    again = Inputs(tiny, coloured_rows[:5], tmp_path)
    assert encoded == [3, 2]
    assert told == [(0, 3), (3, 3)]
    hashes = [row.sha256 for row in coloured_rows[:5]]
    with torch.inference_mode():
        from training.data import transforms

        fresh = encode(np.stack([transforms.load(row.image, tiny.side) for row in coloured_rows[:5]])).float()
    torch.testing.assert_close(again.grid(hashes).float(), fresh, rtol=2e-2, atol=2e-2)


def test_other_weights_do_not_meet_old_features(tiny: Captioner, coloured_rows: list[Row], tmp_path: Path) -> None:
    hashes = [coloured_rows[0].sha256]
    before = Inputs(tiny, coloured_rows[:1], tmp_path).grid(hashes)
    with torch.no_grad():
        for parameter in tiny.encoder.parameters():
            parameter.mul_(2)
    after = Inputs(tiny, coloured_rows[:1], tmp_path).grid(hashes)
    assert not torch.allclose(before, after)


def test_unreadable_images_are_left_out_and_told(
    tiny: Captioner, picture: Callable[..., Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good, bad = picture("red"), tmp_path / "bad.png"
    bad.write_bytes(b"bad")
    rows = [Row(good, hash_file(good), ("red",)), Row(bad, hash_file(bad), ("bad",))]
    with caplog.at_level(logging.WARNING):
        inputs = Inputs(tiny, rows, tmp_path / "cache")
    assert inputs.rows == rows[:1]
    assert "1 of 2 images are left out" in caplog.text
    assert "bad.png" in caplog.text


def test_a_damaged_entry_is_found_and_computed_again(
    tiny: Captioner, coloured_rows: list[Row], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hashes = [row.sha256 for row in coloured_rows[:3]]
    before = Inputs(tiny, coloured_rows[:3], tmp_path).grid(hashes)
    (arrays_file,) = tmp_path.glob("grid-*/arrays")
    with arrays_file.open("r+b") as file:
        file.seek(arrays_file.stat().st_size // 2)
        file.write(b"\x01\x02")
    torch.testing.assert_close(Inputs(tiny, coloured_rows[:3], tmp_path).grid(hashes), before)
    assert "1 of the cached arrays are damaged or gone and are computed again." in caplog.text
    caplog.clear()
    torch.testing.assert_close(Inputs(tiny, coloured_rows[:3], tmp_path).grid(hashes), before)
    assert not caplog.text, "mended for good"


def test_a_damaged_entry_whose_image_is_gone(tiny: Captioner, coloured_rows: list[Row], tmp_path: Path) -> None:
    inputs = Inputs(tiny, coloured_rows[:1], tmp_path / "cache")
    (arrays_file,) = (tmp_path / "cache").glob("grid-*/arrays")
    with arrays_file.open("r+b") as file:
        file.write(b"\x01\x02")
    coloured_rows[0].image.unlink()
    with pytest.raises(DataError, match=r"^The cached entry of .* is damaged, and the image cannot be read\.$"):
        inputs.grid([coloured_rows[0].sha256])


def test_training_images_have_a_mirror_image(tiny: Captioner, coloured_rows: list[Row], tmp_path: Path) -> None:
    rows = [lopsided(tmp_path), replace(coloured_rows[1], split="dev")]
    inputs = Inputs(tiny, rows, tmp_path / "cache", mirrored=True)
    assert inputs.rows == rows
    view = rows[0].sha256 + MIRRORED
    turned = transforms.load(rows[0].image, 32)[:, ::-1].copy()
    with torch.inference_mode():
        expected = tiny.encode(turned[None]).float()
    torch.testing.assert_close(inputs.grid([view]).float(), expected, rtol=2e-2, atol=2e-2)
    assert not torch.allclose(inputs.grid([view]), inputs.grid([rows[0].sha256]))
    assert next((tmp_path / "cache").iterdir()).joinpath("index").read_text().count("\n") == 3  # none of the dev row


def test_the_mirror_image_is_not_cached_where_a_view_is_mirrored(
    tiny: Captioner, coloured_rows: list[Row], tmp_path: Path
) -> None:
    tiny.encoder.config = replace(tiny.encoder.config, views=((1.0, False), (1.0, True)))
    tiny.encoder.freeze(True)
    rows = [lopsided(tmp_path), coloured_rows[1]]
    inputs = Inputs(tiny, rows, tmp_path / "cache", mirrored=True)
    assert next((tmp_path / "cache").iterdir()).joinpath("index").read_text().count("\n") == 2
    plain, turned = rows[0].sha256, rows[0].sha256 + MIRRORED
    with torch.inference_mode():
        expected = tiny.encode(transforms.load(rows[0].image, 32)[:, ::-1].copy()[None]).float()
    found = inputs.grid([plain, turned, plain]).float()
    torch.testing.assert_close(found[1:2], expected, rtol=2e-2, atol=2e-2)
    torch.testing.assert_close(found[0], found[2])
    assert not torch.allclose(found[0], found[1])


def of_two_sizes(
    captioner: Captioner, folder: Path, mirrors: bool, scales: tuple[float, ...] = (1.0, 1.5)
) -> list[Row]:
    """An image to train on and one to validate by, for a captioner that now has views at several scales."""
    views = tuple((scale, mirrored) for scale in scales for mirrored in ((False, True) if mirrors else (False,)))
    captioner.encoder.config = replace(captioner.encoder.config, views=views)
    captioner.encoder.freeze(True)
    return [noise(folder, 0), replace(noise(folder, 1), split="dev")]


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("mirrors", [False, True])
def test_training_images_have_two_views_and_others_all(mirrors: bool, tiny: Captioner, tmp_path: Path) -> None:
    rows = of_two_sizes(tiny, tmp_path, mirrors, scales=(0.75, 1.0, 1.5))
    inputs = Inputs(tiny, rows, tmp_path / "cache", mirrored=True, two_views=rows[:1])
    assert inputs.rows == rows
    index = next((tmp_path / "cache").iterdir()) / "index"
    assert index.read_text().count("\n") == (3 if mirrors else 5)
    pixels = np.stack([transforms.load(row.image, tiny.side) for row in rows])
    turned = pixels[:, :, ::-1].copy()
    with torch.inference_mode():
        mean = tiny.encode(pixels).float()
        own, mirrored = (
            (tiny.encode(of, "full_scale").float() + tiny.encode(of, "small_mirrored").float()) / 2
            for of in (pixels, turned)
        )
    if mirrors:
        mirrored = around(own)
    assert not any(torch.allclose(one, of, rtol=2e-3, atol=2e-3) for one, of in zip(own, mean, strict=True))
    hashes = [row.sha256 for row in rows]
    views = [*hashes, hashes[0] + MIRRORED]
    expected = torch.stack([own[0], mean[1], mirrored[0]])
    torch.testing.assert_close(inputs.grid(views).float(), expected, rtol=2e-3, atol=2e-3)
    torch.testing.assert_close(inputs.shown(views[::2]), expected[::2], rtol=2e-3, atol=2e-3)
    others = Inputs(tiny, rows, tmp_path / "cache")  # who only captions
    torch.testing.assert_close(others.grid(hashes).float(), mean, rtol=2e-3, atol=2e-3)
    assert index.read_text().count("\n") == (4 if mirrors else 6)


@pytest.mark.parametrize(("scales", "costs_less"), [((1.5, 0.75), True), ((1.0, 0.75), False)])
def test_two_views_are_cached_where_they_cost_less(
    scales: tuple[float, ...], costs_less: bool, tiny: Captioner, tmp_path: Path
) -> None:
    rows = of_two_sizes(tiny, tmp_path, mirrors=True)
    views = tuple(zip(scales, (False, True), strict=True))
    tiny.encoder.config = replace(tiny.encoder.config, views=views)
    Inputs(tiny, rows, tmp_path / "cache", two_views=rows[:1])
    index = (next((tmp_path / "cache").iterdir()) / "index").read_text()
    assert index.count("\n") == (3 if costs_less else 2)
    assert (FULL_SCALE in index) == costs_less


@pytest.mark.usefixtures("exact")
def test_an_image_to_train_on_and_to_validate_by_has_all_views_in_validation(tiny: Captioner, tmp_path: Path) -> None:
    learned, _ = of_two_sizes(tiny, tmp_path, mirrors=True)
    rows = [learned, replace(learned, split="dev")]
    inputs = Inputs(tiny, rows, tmp_path / "cache", two_views=[learned], varied=True)
    with torch.inference_mode():
        mean = tiny.encode(transforms.load(learned.image, tiny.side)[None].copy()).float()
    torch.testing.assert_close(inputs.grid([learned.sha256]).float(), mean, rtol=2e-3, atol=2e-3)
    assert not torch.allclose(inputs.shown([learned.sha256]).float(), mean, rtol=2e-3, atol=2e-3)


def around(grids: torch.Tensor) -> torch.Tensor:
    """Grids (B, P, C) with left and right exchanged."""
    side = math.isqrt(grids.shape[1])
    return grids.unflatten(1, (side, side)).flip(2).flatten(1, 2)


@pytest.mark.parametrize("mirrors", [False, True])
@pytest.mark.parametrize("scales", [(1.0, 1.5), (0.75, 1.0)])
def test_varied_grids_are_drawn_anew_each_time_between_two_views(
    mirrors: bool, scales: tuple[float, ...], tiny: Captioner, tmp_path: Path
) -> None:
    rows = of_two_sizes(tiny, tmp_path, mirrors, scales)
    inputs = Inputs(tiny, rows, tmp_path / "cache", mirrored=True, two_views=rows[:1], varied=True)
    index = next((tmp_path / "cache").iterdir()) / "index"
    assert index.read_text().count("\n") == (3 if mirrors else 5)  # both of the one, the mean of the other
    pixels = transforms.load(rows[0].image, tiny.side).copy()
    shares = []
    for view, seen in ((rows[0].sha256, pixels), (rows[0].sha256 + MIRRORED, pixels[:, ::-1].copy())):
        if mirrors and view.endswith(MIRRORED):
            continue  # such are turned around, of which the next test is
        with torch.inference_mode():
            near, far = tiny.encode(seen[None], "full_scale").float(), tiny.encode(seen[None], "small_mirrored").float()
        for shown in inputs.shown([view] * 20):
            share = ((shown - near) * (far - near)).sum() / ((far - near) ** 2).sum()
            torch.testing.assert_close(shown[None], torch.lerp(near, far, share), rtol=5e-2, atol=5e-2)
            shares.append(share.item())
    assert -0.01 < min(shares) < 0.3
    assert 0.7 < max(shares) < 1.01
    torch.manual_seed(5)
    one = inputs.shown([rows[0].sha256])
    torch.manual_seed(5)
    torch.testing.assert_close(inputs.shown([rows[0].sha256]), one)
    with torch.inference_mode():
        mean = tiny.encode(transforms.load(rows[1].image, tiny.side)[None].copy()).float()
    torch.testing.assert_close(inputs.grid([rows[1].sha256]).float(), mean, rtol=2e-2, atol=2e-2)


def test_a_varied_image_is_turned_around_for_its_mirror_image(tiny: Captioner, tmp_path: Path) -> None:
    rows = of_two_sizes(tiny, tmp_path, mirrors=True)
    inputs = Inputs(tiny, rows, tmp_path / "cache", mirrored=True, two_views=rows[:1], varied=True)
    torch.manual_seed(5)
    shown = inputs.shown([rows[0].sha256])
    torch.manual_seed(5)
    torch.testing.assert_close(around(inputs.shown([rows[0].sha256 + MIRRORED])), shown)


def test_the_two_views_are_at_full_scale_and_small_and_mirrored(tiny: Captioner, tmp_path: Path) -> None:
    of_two_sizes(tiny, tmp_path, mirrors=True, scales=(0.75, 1.0, 1.5))
    pixels = transforms.load(noise(tmp_path, 0).image, tiny.side)[None].copy()
    near, far = tiny.encode(pixels, "full_scale").float(), tiny.encode(pixels, "small_mirrored").float()
    tiny.encoder.config = replace(tiny.encoder.config, views=((1.0, False),))
    own = tiny.encode(pixels).float()
    tiny.encoder.config = replace(tiny.encoder.config, views=((0.75, False),))
    turned = tiny.encode(pixels[:, :, ::-1].copy()).float()
    torch.testing.assert_close(near, own, rtol=2e-2, atol=2e-2)
    torch.testing.assert_close(far, around(turned), rtol=2e-2, atol=2e-2)


def test_of_one_view_nothing_varies(tiny: Captioner, coloured_rows: list[Row], tmp_path: Path) -> None:
    hashes = [row.sha256 for row in coloured_rows[:2]]
    inputs = Inputs(tiny, coloured_rows[:2], tmp_path / "cache", two_views=coloured_rows, varied=True)
    torch.testing.assert_close(inputs.shown(hashes), inputs.stored(hashes), rtol=0, atol=0)
    assert next((tmp_path / "cache").iterdir()).joinpath("index").read_text().count("\n") == 2


def test_a_larger_scale_shows_what_the_file_has_at_that_size(tiny: Captioner, tmp_path: Path) -> None:
    row = noise(tmp_path, 0)  # of 48 pixels, of which 32 leave little
    tiny.encoder.config = replace(tiny.encoder.config, views=((1.5, False),))
    tiny.encoder.freeze(True)
    assert tiny.side == 48
    with torch.inference_mode():
        shown = Inputs(tiny, [row], tmp_path / "cache").grid([row.sha256]).float()
        sharp, blurred = (np.stack([transforms.load(row.image, side)]) for side in (48, 32))
        expected, wrong = tiny.encode(sharp).float(), tiny.encode(blurred).float()
    torch.testing.assert_close(shown, expected, rtol=2e-2, atol=2e-2)
    assert not torch.allclose(shown, wrong, rtol=5e-2, atol=5e-2)


def test_a_damaged_view_is_computed_again(tiny: Captioner, coloured_rows: list[Row], tmp_path: Path) -> None:
    tiny.encoder.config = replace(tiny.encoder.config, views=((0.75, False), (1.0, False), (1.5, False)))
    tiny.encoder.freeze(True)
    hashes = [row.sha256 for row in coloured_rows[:2]]
    before = Inputs(tiny, coloured_rows[:2], tmp_path, two_views=coloured_rows).grid(hashes)
    (arrays_file,) = tmp_path.glob("grid-*/arrays")
    with arrays_file.open("r+b") as file:
        file.write(b"\x01\x02")
    torch.testing.assert_close(Inputs(tiny, coloured_rows[:2], tmp_path, two_views=coloured_rows).grid(hashes), before)


def test_an_encoder_that_learns_shows_its_mean(tiny: Captioner, tmp_path: Path) -> None:
    tiny.encoder.config = EncoderConfig("small_cnn", "none", "all", views=((1.0, False), (1.5, False)))
    tiny.encoder.freeze(False)
    tiny.eval()
    row = noise(tmp_path, 0)
    with torch.inference_mode():
        shown = Inputs(tiny, [row], tmp_path / "cache", two_views=[row], varied=True).grid([row.sha256])
    assert FULL_SCALE not in next((tmp_path / "cache").iterdir()).joinpath("index").read_text()
    with torch.inference_mode():
        expected = tiny.encode(np.stack([transforms.load(row.image, tiny.side)]))
    torch.testing.assert_close(shown, expected, rtol=2e-2, atol=2e-2)


def test_an_unreadable_image_has_no_mirror_image(
    tiny: Captioner, coloured_rows: list[Row], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no image")
    rows = [coloured_rows[0], Row(broken, "b" * 64, ("nothing",))]
    with caplog.at_level(logging.WARNING):
        inputs = Inputs(tiny, rows, tmp_path / "cache", mirrored=True)
    assert inputs.rows == rows[:1]
    assert "1 of 2 images are left out" in caplog.text
