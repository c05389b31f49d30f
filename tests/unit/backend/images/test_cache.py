from __future__ import annotations

import base64
import errno
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from requests.utils import requote_uri

from backend.domain.errors import ImageError, UnreachableImageError
from backend.images import cache as module
from backend.images.cache import Images
from backend.store.database import now
from backend.store.store import Project
from tests.factories import picture, settings, task
from tests.fakes import Answer, Host, host
from training.data import transforms

PHOTO = picture()
LEGACY = "0123456789abcdef0123456789abcdef01234567"
PERSONAL = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').decode().rstrip("=") + ".e30.c2ln"


@pytest.fixture
def studio() -> Iterator[Host]:
    with host() as running:
        yield running


@pytest.fixture
def other() -> Iterator[Host]:
    with host() as running:
        yield running


def configured(data_dir: Path, studio: Host, key: str = LEGACY, **environ: str) -> Images:
    return Images(settings(data_dir, LABEL_STUDIO_URL=studio.url, LABEL_STUDIO_API_KEY=key, **environ))


def project_at(hostname: str, access_token: str) -> Project:
    return Project(1, None, hostname, access_token, training_asked=False, updated_at=now(), reused_seq=0)


def fetched(images: Images, reference: str, project: Project | None = None) -> bytes:
    return images.local(reference, task(id=7), project).path.read_bytes()


def test_on_a_full_disk_an_image_is_asked_for_later(
    tmp_path: Path, studio: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes, durable: bool = True) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    studio.answers["/data/upload/1/a.png"] = Answer(200, PHOTO)
    monkeypatch.setattr(module, "write", full)
    with pytest.raises(UnreachableImageError, match=r"a.png could not be stored: No space left on device\.$"):
        configured(tmp_path, studio).local("/data/upload/1/a.png", task())


def test_an_upload_is_fetched_with_the_token_and_kept_by_content(tmp_path: Path, studio: Host) -> None:
    reference = "/data/upload/1/aff8b37c-pic_0_%C3%A9.jpg"
    studio.answers[reference] = Answer(200, PHOTO)
    found = configured(tmp_path, studio).local(reference, task())
    digest = sha256(PHOTO).hexdigest()
    assert found.sha256 == digest
    assert found.path == tmp_path / "images" / digest[:2] / f"{digest}.png"
    assert found.path.read_bytes() == PHOTO
    assert studio.credentials() == [f"Token {LEGACY}"]


def test_an_upload_is_fetched_once_for_ever(tmp_path: Path, studio: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    studio.answers["/data/upload/1/a.png"] = Answer(200, PHOTO)
    fetched(configured(tmp_path, studio), "/data/upload/1/a.png")
    monkeypatch.setattr(module, "REFETCH_AFTER_SECONDS", 0.0)
    assert fetched(configured(tmp_path, studio), "/data/upload/1/a.png") == PHOTO  # another process, a day later
    assert len(studio.asked) == 1


def test_two_references_of_one_content_share_a_file(tmp_path: Path, studio: Host) -> None:
    studio.answers |= {"/data/upload/1/a.png": Answer(200, PHOTO), "/data/upload/1/b.png": Answer(200, PHOTO)}
    images = configured(tmp_path, studio)
    first, second = (images.local(f"/data/upload/1/{name}.png", task()) for name in "ab")
    assert first == second


def test_local_files_keep_their_query(tmp_path: Path, studio: Host) -> None:
    studio.answers["/data/local-files/"] = Answer(200, PHOTO)
    assert fetched(configured(tmp_path, studio), "/data/local-files/?d=my%20photos/a.png") == PHOTO
    assert studio.paths() == ["/data/local-files/?d=my%20photos/a.png"]


@pytest.mark.parametrize("uri", ["s3://bucket/a b/é.png", "gs://bucket/a.png", "azure-blob://box/a.png"])
def test_cloud_files_come_through_label_studio_and_the_bucket_sees_no_token(
    tmp_path: Path, studio: Host, other: Host, uri: str
) -> None:
    studio.answers["/tasks/7/presign/"] = Answer(303, headers={"Location": f"{other.url}/key?X-Signature=s"})
    other.answers["/key"] = Answer(200, PHOTO)
    assert fetched(configured(tmp_path, studio, CAPTIONER_IMAGE_HOSTS=other.address), uri) == PHOTO
    path, headers = studio.asked[0]
    assert base64.urlsafe_b64decode(path.split("fileuri=")[1].replace("%3D", "=")).decode() == uri
    assert headers["authorization"] == f"Token {LEGACY}"
    assert other.credentials() == [None]


def test_a_private_bucket_must_be_named(tmp_path: Path, studio: Host, other: Host) -> None:
    studio.answers["/tasks/7/presign/"] = Answer(303, headers={"Location": f"{other.url}/key"})
    with pytest.raises(ImageError, match="CAPTIONER_IMAGE_HOSTS"):
        fetched(configured(tmp_path, studio), "s3://bucket/a.png")
    assert other.asked == []


def test_a_cloud_file_may_be_answered_by_label_studio_itself(tmp_path: Path, studio: Host) -> None:
    studio.answers["/tasks/7/presign/"] = Answer(200, PHOTO)
    assert fetched(configured(tmp_path, studio), "s3://bucket/a.png") == PHOTO


def test_an_address_elsewhere_gets_no_token(tmp_path: Path, studio: Host, other: Host) -> None:
    other.answers["/a.png"] = Answer(200, PHOTO)
    images = configured(tmp_path, studio, CAPTIONER_IMAGE_HOSTS=other.address)
    assert fetched(images, f"{other.url}/a.png", project_at(studio.url, LEGACY)) == PHOTO
    assert other.credentials() == [None]
    assert studio.asked == []


def test_an_address_elsewhere_that_leads_to_label_studio_gets_no_token(
    tmp_path: Path, studio: Host, other: Host
) -> None:
    other.answers["/a"] = Answer(302, headers={"Location": f"{studio.url}/data/upload/1/a.png"})
    studio.answers["/data/upload/1/a.png"] = Answer(401)
    with pytest.raises(ImageError, match="answered 401"):
        fetched(configured(tmp_path, studio, CAPTIONER_IMAGE_HOSTS=other.address), f"{other.url}/a")
    assert studio.credentials() == [None]


def test_a_full_address_of_label_studios_own_files_gets_the_token(tmp_path: Path, studio: Host) -> None:
    studio.answers["/data/upload/1/a.png"] = Answer(200, PHOTO)
    fetched(configured(tmp_path, studio), f"{studio.url}/data/upload/1/a.png")
    assert studio.credentials() == [f"Token {LEGACY}"]


@pytest.mark.parametrize(
    "path", ["/api/users", "/data/../api/users", "/data/%2e%2E/api/users", "/data/..%2fapi/users", "/data/./x", "/"]
)
def test_the_token_is_spent_on_nothing_but_files(tmp_path: Path, studio: Host, path: str) -> None:
    studio.answers[requote_uri(path)] = Answer(200, PHOTO)
    images = configured(tmp_path, studio)
    fetched(images, studio.url + path)
    assert studio.credentials() == [None]
    with pytest.raises(ImageError, match="is not a file of Label Studio"):
        fetched(images, path)


def test_a_port_beside_label_studio_is_not_label_studio(tmp_path: Path, studio: Host, other: Host) -> None:
    with pytest.raises(ImageError, match="CAPTIONER_IMAGE_HOSTS"):
        fetched(configured(tmp_path, studio), f"{other.url}/data/upload/1/a.png")
    assert other.asked == []


def test_a_personal_token_is_exchanged_and_never_sent_itself(tmp_path: Path, studio: Host) -> None:
    studio.answers |= {
        "/api/token/refresh/": Answer(200, b'{"access": "short-lived"}'),
        "/data/upload/1/a.png": Answer(200, PHOTO),
    }
    fetched(configured(tmp_path, studio, key=PERSONAL), "/data/upload/1/a.png")
    assert studio.paths() == ["/api/token/refresh/", "/data/upload/1/a.png"]
    assert studio.credentials() == [None, "Bearer short-lived"]


def test_a_refused_access_token_is_exchanged_anew(tmp_path: Path, studio: Host) -> None:
    tokens = iter(["old", "new"])

    def exchange(handler: BaseHTTPRequestHandler) -> Answer:
        return Answer(200, json.dumps({"access": next(tokens)}).encode())

    def upload(handler: BaseHTTPRequestHandler) -> Answer:
        return Answer(200, PHOTO) if handler.headers["Authorization"] == "Bearer new" else Answer(401)

    studio.answers |= {"/api/token/refresh/": exchange, "/data/upload/1/a.png": upload}
    assert fetched(configured(tmp_path, studio, key=PERSONAL), "/data/upload/1/a.png") == PHOTO


def test_what_setup_said_is_used_where_nothing_is_configured(tmp_path: Path, studio: Host) -> None:
    studio.answers["/data/upload/1/a.png"] = Answer(200, PHOTO)
    images = Images(settings(tmp_path, CAPTIONER_IMAGE_HOSTS=studio.address))
    assert fetched(images, "/data/upload/1/a.png", project_at(f"{studio.url}/", LEGACY)) == PHOTO
    assert studio.credentials() == [f"Token {LEGACY}"]


def test_the_host_setup_names_is_no_exception_to_the_guard(tmp_path: Path, studio: Host) -> None:
    with pytest.raises(ImageError, match="CAPTIONER_IMAGE_HOSTS"):
        fetched(Images(settings(tmp_path)), "/data/upload/1/a.png", project_at(studio.url, LEGACY))
    assert studio.asked == []


def test_the_configured_key_does_not_go_to_a_host_that_setup_names(tmp_path: Path, other: Host) -> None:
    other.answers["/data/upload/1/a.png"] = Answer(200, PHOTO)
    secret = "f" * 40
    images = Images(settings(tmp_path, LABEL_STUDIO_API_KEY=secret, CAPTIONER_IMAGE_HOSTS=other.address))
    fetched(images, "/data/upload/1/a.png", project_at(other.url, LEGACY))
    assert other.credentials() == [f"Token {LEGACY}"]


def test_the_configured_address_goes_before_what_setup_said(tmp_path: Path, studio: Host, other: Host) -> None:
    studio.answers["/data/upload/1/a.png"] = Answer(200, PHOTO)
    images = configured(tmp_path, studio, CAPTIONER_IMAGE_HOSTS=other.address)
    assert fetched(images, "/data/upload/1/a.png", project_at(other.url, "0" * 40)) == PHOTO
    assert studio.credentials() == [f"Token {LEGACY}"]
    assert other.asked == []


@pytest.mark.parametrize("token", [PERSONAL, "a\r\nX-Header: b", ""])
def test_a_token_of_setup_is_never_exchanged_nor_sent_when_odd(tmp_path: Path, other: Host, token: str) -> None:
    other.answers["/data/upload/1/a.png"] = Answer(200, PHOTO)
    images = Images(settings(tmp_path, CAPTIONER_IMAGE_HOSTS=other.address))
    fetched(images, "/data/upload/1/a.png", project_at(other.url, token))
    assert other.paths() == ["/data/upload/1/a.png"]
    assert other.credentials() == [None]


def test_label_studio_under_a_path(tmp_path: Path, studio: Host) -> None:
    studio.answers["/label/data/upload/1/a.png"] = Answer(200, PHOTO)
    images = Images(settings(tmp_path, LABEL_STUDIO_URL=f"{studio.url}/label", LABEL_STUDIO_API_KEY=LEGACY))
    for reference in ["/data/upload/1/a.png", "/label/data/upload/1/a.png"]:
        assert fetched(images, reference) == PHOTO


def test_a_refused_token_says_what_to_set(tmp_path: Path, studio: Host) -> None:
    studio.answers["/data/upload/1/a.png"] = Answer(401)
    with pytest.raises(ImageError, match=r"answered 401\. Set LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY"):
        fetched(configured(tmp_path, studio), "/data/upload/1/a.png")


def test_a_relative_reference_without_label_studio_says_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="set LABEL_STUDIO_URL"):
        fetched(Images(settings(tmp_path)), "/data/upload/1/a.png")


@pytest.mark.parametrize("reference", ["photo.jpg", "file:///etc/passwd", "ftp://a/b", "database.jpg", "x:y"])
def test_other_references_are_refused(tmp_path: Path, studio: Host, reference: str) -> None:
    with pytest.raises(ImageError, match="is not an image reference"):
        fetched(configured(tmp_path, studio), reference)


@pytest.mark.parametrize(
    "reference",
    [
        "//evil.example/a.png",
        "/data/\ud800.png",
        "s3://b/\ud800.png",
        "http://a/\udfff",
        "http://[",
        "http://a:b/",
        "/data/\x00[",
        "//[/data/x",
    ],
)
def test_malformed_references_are_one_sentence(tmp_path: Path, studio: Host, reference: str) -> None:
    with pytest.raises(ImageError):
        fetched(configured(tmp_path, studio), reference)


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>log in</html>", b"<svg xmlns='http://www.w3.org/2000/svg'/>", PHOTO[:40], b"%!PS-Adobe-3.0 EPSF-3.0"],
)
def test_what_is_no_image_is_refused_and_not_kept(tmp_path: Path, studio: Host, body: bytes) -> None:
    studio.answers["/data/upload/1/a.png"] = Answer(200, body)
    with pytest.raises(ImageError, match="is not a readable JPEG"):
        fetched(configured(tmp_path, studio), "/data/upload/1/a.png")
    assert not list(tmp_path.rglob("*.*"))


@pytest.mark.parametrize(
    ("kind", "extension"), [("JPEG", "jpg"), ("MPO", "jpg"), ("WEBP", "webp"), ("GIF", "gif"), ("TIFF", "tif")]
)
def test_the_ending_is_the_contents(tmp_path: Path, studio: Host, kind: str, extension: str) -> None:
    studio.answers["/data/upload/1/a.bin"] = Answer(200, picture(kind=kind))
    found = configured(tmp_path, studio).local("/data/upload/1/a.bin", task())
    assert found.path.suffix == f".{extension}"


def test_too_many_pixels_are_refused(tmp_path: Path, studio: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PIXELS", 100)
    studio.answers["/data/upload/1/a.png"] = Answer(200, picture(size=(11, 10)))
    with pytest.raises(ImageError, match="million pixels"):
        fetched(configured(tmp_path, studio), "/data/upload/1/a.png")
    photo = picture(kind="JPEG", size=(11, 10))
    studio.answers["/data/upload/1/a.jpg"] = Answer(200, photo)
    assert fetched(configured(tmp_path, studio), "/data/upload/1/a.jpg") == photo, "it is decoded at a fraction"
    monkeypatch.setattr(module, "MAX_JPEG_PIXELS", 100)
    studio.answers["/data/upload/1/b.jpg"] = Answer(200, photo)
    with pytest.raises(ImageError, match="million pixels"):
        fetched(configured(tmp_path, studio), "/data/upload/1/b.jpg")


def test_the_captioner_reads_what_is_let_in() -> None:
    assert module.MAX_PIXELS <= transforms.MAX_PIXELS
    assert module.MAX_JPEG_PIXELS <= transforms.MAX_JPEG_PIXELS


def test_an_address_is_fetched_again_after_a_day(tmp_path: Path, other: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    images = Images(settings(tmp_path, CAPTIONER_IMAGE_HOSTS=other.address))
    other.answers["/a.png"] = Answer(200, PHOTO)
    assert fetched(images, f"{other.url}/a.png") == PHOTO
    other.answers["/a.png"] = Answer(200, picture("blue"))
    assert fetched(images, f"{other.url}/a.png") == PHOTO
    monkeypatch.setattr(module, "REFETCH_AFTER_SECONDS", 0.0)
    assert fetched(images, f"{other.url}/a.png") == picture("blue")
    other.answers["/a.png"] = Answer(503)
    assert fetched(images, f"{other.url}/a.png") == picture("blue")  # rather the old one than none


def test_a_damaged_cache_mends_itself(tmp_path: Path, studio: Host) -> None:
    studio.answers["/data/upload/1/a.png"] = Answer(200, PHOTO)
    images = configured(tmp_path, studio)
    found = images.local("/data/upload/1/a.png", task())
    found.path.unlink()
    assert fetched(images, "/data/upload/1/a.png") == PHOTO
    (entry,) = (tmp_path / "images" / "index").rglob("*.json")
    entry.write_text('{"file": ')
    assert fetched(images, "/data/upload/1/a.png") == PHOTO
    assert len(studio.asked) == 3
    found.path.write_bytes(b"")  # as a power cut may leave it
    assert fetched(images, "/data/upload/1/a.png") == PHOTO
    assert len(studio.asked) == 4


def test_those_who_wait_for_a_failing_image_get_its_failure(tmp_path: Path, studio: Host) -> None:
    images = configured(tmp_path, studio)

    def gone(handler: BaseHTTPRequestHandler) -> Answer:
        deadline = time.monotonic() + 20
        while max(map(images._turns.threads, list(images._turns._turns))) < 12 and time.monotonic() < deadline:
            time.sleep(0.001)
        return Answer(404)

    studio.answers["/data/upload/1/a.png"] = gone

    def ask(_: int) -> str:
        with pytest.raises(ImageError) as caught:
            fetched(images, "/data/upload/1/a.png")
        return str(caught.value)

    with ThreadPoolExecutor(12) as pool:
        assert len(set(pool.map(ask, range(12)))) == 1
    assert len(studio.asked) == 1
    studio.answers["/data/upload/1/a.png"] = Answer(200, PHOTO)
    assert fetched(images, "/data/upload/1/a.png") == PHOTO, "nobody waited any more"


def test_an_image_is_never_fetched_twice_at_once(tmp_path: Path, studio: Host) -> None:
    """Each task asks for the image of a bucket under an address of its own, so that no failure stands for another."""
    images, guard, counts = configured(tmp_path, studio), threading.Lock(), [0]
    at_once: list[int] = []

    def gone(handler: BaseHTTPRequestHandler) -> Answer:
        with guard:
            counts[0] += 1
            at_once.append(counts[0])
        time.sleep(0.002)  # as long as a quick answer takes
        with guard:
            counts[0] -= 1
        return Answer(404)

    def ask(thread: int) -> None:
        for turn in range(4):
            with pytest.raises(ImageError):
                images.local("s3://bucket/a.png", task(id=4 * thread + turn))

    studio.answers |= {f"/tasks/{number}/presign/": gone for number in range(32)}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(8)))
    assert at_once == [1] * 32


def test_many_requests_for_one_new_image_fetch_it_once(tmp_path: Path, studio: Host) -> None:
    arrived = threading.Barrier(8)

    studio.answers["/data/upload/1/a.png"] = Answer(200, PHOTO)
    images = configured(tmp_path, studio)

    def ask(_: int) -> bytes:
        arrived.wait(10)
        return fetched(images, "/data/upload/1/a.png")

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == [PHOTO] * 8
    assert len(studio.asked) == 1
    assert not [path for path in tmp_path.rglob(".*") if path.is_file()]


INLINE = base64.b64encode(PHOTO).decode()


@pytest.mark.parametrize(
    "reference",
    [
        f"data:image/png;base64,{INLINE}",
        f" DATA:image/jpeg;charset=x;base64,{INLINE[:20]}\n{INLINE[20:].rstrip('=')}",
        f"data:;base64,{INLINE.replace('+', '%2B').replace('=', '%3D')}",
        "data:image/png," + "".join(f"%{byte:02x}" for byte in PHOTO),
    ],
)
def test_an_image_that_stands_in_the_task_is_decoded_and_kept(tmp_path: Path, reference: str) -> None:
    images = Images(settings(tmp_path))
    assert fetched(images, reference) == PHOTO
    images.local(reference, task()).path.unlink()
    assert fetched(images, reference) == PHOTO


@pytest.mark.parametrize(
    ("reference", "sentence"),
    [
        ("data:image/png;base64,SECRET!", "The image data:image/png;base64… is not valid base64."),
        ("data:image/png;base64,SECRETSECRETSECRET", "The image data:image/png;base64… is not a readable JPEG"),
        ("data:SECRETSECRET", "The image data:… has no content: a comma and then base64 is needed."),
        ("data:image/SECRETSECRET", "The image data:… has no content"),
        (
            "data:image/png;base64,SECRET" + "A" * 2000,
            "The image data:image/png;base64… is larger than 0.000976562 MB.",
        ),
        ("data:image/png;base64,SECRET\ud800", "half a character"),
    ],
)
def test_of_an_image_in_the_task_nothing_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reference: str, sentence: str
) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 1024)
    with pytest.raises(ImageError) as caught:
        Images(settings(tmp_path)).local(reference, task())
    assert sentence in str(caught.value)
    assert "SECRET" not in str(caught.value)


def test_an_address_that_redirects_to_an_image_in_itself_prints_nothing_of_it(tmp_path: Path, other: Host) -> None:
    other.answers["/a.png"] = Answer(302, headers={"Location": f"data:image/png;base64,{INLINE}"})
    images = Images(settings(tmp_path, CAPTIONER_IMAGE_HOSTS=other.address))
    with pytest.raises(ImageError, match=r"'data:image/png;base64…' is not an http\(s\) address"):
        images.local(f"{other.url}/a.png", task())
