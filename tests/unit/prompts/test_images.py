"""An image is opened only from where it may come, only within its limits, and what is wrong with it is said by name."""

from __future__ import annotations

import base64
import io
import os
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.systems import needs_pipes_as_files
from workbench.errors import InvalidRequestError, UnsupportedContentError
from workbench.prompts.images import MAX_BYTES, MAX_PIXELS, MEDIA_TYPES, ImageSources, decode, open_image
from workbench.protocol import URL, ImageMedia

SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\0\0\0\0WEBP", b"GIF89a")
FIELD = "messages[0].content[1].image"
NOWHERE = ImageSources()
RED = (255, 0, 0)


def opened(uri: str, sources: ImageSources = NOWHERE) -> Image.Image:
    return open_image(ImageMedia(image=URL(uri=uri)), FIELD, sources)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    with io.BytesIO() as file:
        image.save(file, format=kind, **options)
        return file.getvalue()


def data_url(data: bytes, media_type: str = "image/png") -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode('ascii')}"


def png_of_size(width: int, height: int) -> bytes:
    """A whole PNG whose pixels are all zero: a few kilobytes, however many pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)  # one bit a pixel, grey
    rows = zlib.compress(bytes((width + 7) // 8 + 1) * height)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def refusal(uri: str, sources: ImageSources = NOWHERE) -> str:
    with pytest.raises(InvalidRequestError) as caught:
        opened(uri, sources)
    assert caught.value.field == FIELD
    return str(caught.value)


# ------------------------------------------------------------------------------------------------- decoded images


def test_an_image_is_copied_so_that_later_changes_do_not_reach_the_request() -> None:
    mine = Image.new("RGB", (4, 3), RED)
    taken = open_image(ImageMedia(image=mine), FIELD, NOWHERE)
    mine.putpixel((0, 0), (0, 0, 0))
    assert taken.getpixel((0, 0)) == RED


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "HSV"])
def test_every_mode_becomes_rgb_and_the_original_stays_as_it_was(mode: str) -> None:
    mine = Image.new(mode, (4, 3))
    taken = open_image(ImageMedia(image=mine), FIELD, NOWHERE)
    assert (taken.mode, taken.size, mine.mode) == ("RGB", (4, 3), mode)


def test_what_was_transparent_lies_over_white() -> None:
    taken = open_image(ImageMedia(image=Image.new("RGBA", (2, 2), (0, 0, 0, 0))), FIELD, NOWHERE)
    assert taken.getpixel((0, 0)) == (255, 255, 255)


def test_sixteen_bits_are_scaled_and_not_clipped() -> None:
    grey = Image.fromarray(np.full((2, 2), 0x80FF, dtype=np.uint16))
    taken = open_image(ImageMedia(image=grey), FIELD, NOWHERE)
    assert taken.getpixel((0, 0)) == (0x80, 0x80, 0x80)


def test_numbers_without_a_known_range_are_refused_unless_they_are_bytes() -> None:
    fine = Image.fromarray(np.full((2, 2), 200.0, dtype=np.float32))
    assert open_image(ImageMedia(image=fine), FIELD, NOWHERE).getpixel((0, 0)) == (200, 200, 200)
    for wild in (np.full((2, 2), 40_000, dtype=np.int32), np.full((2, 2), -1.0, dtype=np.float32)):
        with pytest.raises(InvalidRequestError, match=r"values from 0 to 255"):
            open_image(ImageMedia(image=Image.fromarray(wild)), FIELD, NOWHERE)


def test_a_decoded_image_has_the_same_limit_of_pixels() -> None:
    with pytest.raises(InvalidRequestError, match=r"6000x5000 pixels \(30\.0 megapixels\)"):
        open_image(ImageMedia(image=Image.new("1", (6000, 5000))), FIELD, NOWHERE)


# ---------------------------------------------------------------------------------------------------- data: URLs


@pytest.mark.parametrize("media_type", sorted(MEDIA_TYPES))
def test_the_four_formats_are_read_from_data_urls(media_type: str) -> None:
    data = encoded(Image.new("RGB", (5, 4), RED), MEDIA_TYPES[media_type])
    image = opened(data_url(data, media_type))
    assert (image.mode, image.size) == ("RGB", (5, 4))
    assert np.abs(np.asarray(image).astype(int)[0, 0] - RED).max() <= 3, "JPEG and WebP round"


def test_scheme_and_media_type_are_read_in_any_case() -> None:
    url = data_url(encoded(Image.new("RGB", (1, 1)))).replace("image/png", "Image/PNG")
    assert opened(url).size == (1, 1)


@pytest.mark.parametrize(
    "uri, said",
    [
        ("data:image/svg+xml;base64,PHN2Zy8+", "image/png, image/jpeg, image/webp, image/gif"),
        ("data:image/tiff;base64,AAAA", "got 'image/tiff'"),
        ("data:text/html;base64,AAAA", "got 'text/html'"),
        ("data:;base64,AAAA", "data:image/png;base64,..."),
        ("data:image/png,AAAA", "data:image/png;base64,..."),
        ("data:image/png;charset=utf-8;base64,AAAA", "data:image/png;base64,..."),
        ("data:image/png;base64,AA AA", "data:image/png;base64,..."),
        ("data:image/png;base64,AAAA\n", "data:image/png;base64,..."),
        ("data:image/png;base64,AAA%3D", "data:image/png;base64,..."),
        ("data:image/png;base64,AAA", "padded base64"),
        ("data:image/png;base64,A===", "data:image/png;base64,..."),
        ("data:image/png;base64,", "undamaged"),
        ("data:image/png;base64,AAAA", "undamaged"),
        ("image.png", "a data: URL or a decoded image"),
        ("", "a data: URL or a decoded image"),
        ("ftp://example.com/a.png", "a data: URL or a decoded image"),
        ("javascript:alert(1)", "a data: URL or a decoded image"),
    ],
)
def test_a_wrong_url_is_refused_by_what_is_allowed(uri: str, said: str) -> None:
    assert said in refusal(uri)


def test_bytes_must_be_of_the_type_that_the_url_names() -> None:
    said = refusal(data_url(encoded(Image.new("RGB", (2, 2)), "GIF"), "image/png"))
    assert "a PNG image, as its URL says" in said


@pytest.mark.parametrize("kind", ["BMP", "TIFF", "PPM", "ICO", "PCX", "TGA", "EPS", "PDF"])
def test_other_decoders_of_pillow_are_never_asked(kind: str) -> None:
    data = encoded(Image.new("RGB", (16, 16)), kind)
    with pytest.raises(UnsupportedContentError, match="an undamaged PNG, JPEG, WebP or GIF image"):
        decode(data, FIELD)


def test_a_truncated_image_is_refused_at_every_length() -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8))
    for media_type, kind in MEDIA_TYPES.items():
        whole = encoded(picture, kind)
        # The last bytes of a PNG or GIF are a trailer that no pixel needs.
        for length in range(0, len(whole) - 16, 37):
            assert "undamaged" in refusal(data_url(whole[:length], media_type))


@given(st.binary(max_size=200), st.sampled_from(SIGNATURES))
def test_whatever_follows_the_first_bytes_of_an_image_is_one_or_is_refused_by_name(rest: bytes, start: bytes) -> None:
    try:
        assert decode(start + rest, FIELD).mode == "RGB"
    except InvalidRequestError as refused:
        assert refused.field == FIELD  # noqa: PT017 - most inputs end here, a few may be images


def test_more_than_20_megabytes_are_refused_before_they_are_decoded() -> None:
    said = refusal("data:image/png;base64," + "A" * (28 * 10**6))
    assert "at most 20 MB" in said
    assert "got '21.0 MB'" in said
    with pytest.raises(InvalidRequestError, match="at most 20 MB"):
        decode(bytes(MAX_BYTES + 1), FIELD)


def test_30_megapixels_are_refused_and_25_are_not() -> None:
    said = refusal(data_url(png_of_size(6000, 5000)))
    assert "at most 25 megapixels" in said
    assert "30.0 megapixels" in said
    assert opened(data_url(png_of_size(5000, 5000))).size == (5000, 5000)
    assert MAX_PIXELS == 25_000_000


@pytest.mark.parametrize("side", [10_000, 16_000, 100_000])
def test_a_decompression_bomb_is_refused_below_and_above_the_size_at_which_pillow_itself_warns(side: int) -> None:
    bomb = png_of_size(side, side) if side < 100_000 else png_of_size(side, 1)[:16] + struct.pack(">II", side, side)
    if side == 100_000:  # a header alone: ten thousand megapixels
        bomb += b"\1\0\0\0\0" + struct.pack(">I", zlib.crc32(b"IHDR" + bomb[16:24] + b"\1\0\0\0\0"))
        bomb += png_of_size(8, 8)[33:]
    assert "at most 25 megapixels" in refusal(data_url(bomb))


def test_where_pillow_only_warns_the_image_is_refused_all_the_same() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert "10000x10000 pixels (100.0 megapixels)" in refusal(data_url(png_of_size(10_000, 10_000)))


def test_a_png_whose_text_unpacks_to_gigabytes_is_refused() -> None:
    packed = b"Comment\0\0" + zlib.compress(bytes(80 * 2**20))
    chunk = struct.pack(">I", len(packed)) + b"zTXt" + packed + struct.pack(">I", zlib.crc32(b"zTXt" + packed))
    whole = png_of_size(8, 8)
    assert "undamaged" in refusal(data_url(whole[:33] + chunk + whole[33:]))


@pytest.mark.parametrize("size", [(1, 101), (20_200, 200)])
def test_a_strip_of_which_a_processor_would_make_gigabytes_is_refused(size: tuple[int, int]) -> None:
    assert "100 times as long as it is wide" in refusal(data_url(png_of_size(*size)))


def test_of_an_animation_the_first_frame_is_taken() -> None:
    frames = [Image.new("RGB", (3, 3), color) for color in (RED, (0, 255, 0), (0, 0, 255))]
    for media_type in ("image/gif", "image/webp", "image/png"):
        options = {"lossless": True} if media_type == "image/webp" else {}
        data = encoded(frames[0], MEDIA_TYPES[media_type], save_all=True, append_images=frames[1:], **options)
        assert opened(data_url(data, media_type)).getpixel((1, 1)) == RED


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_an_image_is_turned_upright_as_its_camera_says(kind: str) -> None:
    lying = Image.new("RGB", (16, 8), RED)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    media_type = {name: media for media, name in MEDIA_TYPES.items()}[kind]
    assert opened(data_url(encoded(lying, kind, exif=exif), media_type)).size == (8, 16)


# ---------------------------------------------------------------------------------------------------- file: URLs


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "images" / "inner").mkdir(parents=True)
    (tmp_path / "images-secret").mkdir()
    for name in ("images/ok.png", "images/inner/a b%20.png", "secret.png", "images-secret/s.png"):
        (tmp_path / name).write_bytes(encoded(Image.new("RGB", (2, 2), RED)))
    return tmp_path / "images"


def test_files_are_off_unless_a_root_is_configured(root: Path) -> None:
    assert "reading files is switched off" in refusal((root / "ok.png").as_uri())


def test_a_file_under_the_root_is_read(root: Path) -> None:
    sources = ImageSources(root=root)
    for name in ("ok.png", "inner/a b%20.png", "inner/../ok.png"):
        (root / "link.png").unlink(missing_ok=True)
        assert opened(f"file://{root}/{name}".replace("%", "%25").replace(" ", "%20"), sources).size == (2, 2)
    assert opened(f"file://localhost{root}/ok.png", sources).size == (2, 2)
    (root / "link.png").symlink_to("inner/../ok.png")
    assert opened(f"file://{root}/link.png", sources).size == (2, 2), "a link that stays inside"


def test_a_root_that_is_a_link_itself_is_where_it_leads(root: Path, tmp_path: Path) -> None:
    (tmp_path / "door").symlink_to(root)
    assert opened(f"file://{tmp_path}/door/ok.png", ImageSources(root=tmp_path / "door")).size == (2, 2)
    assert opened(f"file://{root}/ok.png", ImageSources(root=tmp_path / "door")).size == (2, 2)


def test_no_way_leads_out_of_the_root(root: Path, tmp_path: Path) -> None:
    (root / "out.png").symlink_to(tmp_path / "secret.png")
    (root / "outdir").symlink_to(tmp_path)
    outside = [
        f"{tmp_path}/secret.png",
        f"{tmp_path}/images-secret/s.png",  # a name that begins as the root's does
        f"{root}/../secret.png",
        f"{root}/%2e%2e/secret.png",
        f"{root}/..%2fsecret.png",
        f"{root}/inner/../../secret.png",
        f"{root}/out.png",
        f"{root}/outdir/secret.png",
        "/etc/passwd",
        "/proc/self/environ",
        f"{tmp_path}/no-such-file.png",
    ]
    said = {refusal(f"file://{path}", ImageSources(root=root)).partition("; got")[0] for path in outside}
    assert said == {f"{FIELD} must be a file inside the folder that the run config sets as image_root"}


@pytest.mark.parametrize(
    "uri",
    [
        "file:{root}/ok.png",
        "file://host{root}/ok.png",
        "file:///{root}/ok.png",
        "file://{root}/ok.png%00.txt",
        "file://{root}/ok.png\0",
        "file://{root}/ok.png?x=1",
        "file://{root}/ok.png#x",
        "file://{root}/o\nk.png",
        "file://user@localhost{root}/ok.png",
        "file:///%2F{root}/ok.png",
        "file:ok.png",
        "file://",
    ],
)
def test_a_file_url_has_one_form(root: Path, uri: str) -> None:
    assert "of the form file:///folder/name.png" in refusal(uri.format(root=root), ImageSources(root=root))


@needs_pipes_as_files
def test_what_is_no_ordinary_file_is_refused_and_never_waited_for(root: Path) -> None:
    os.mkfifo(root / "pipe.png")
    assert "a regular file" in refusal(f"file://{root}/pipe.png", ImageSources(root=root))
    assert "a regular file" in refusal(f"file://{root}/inner", ImageSources(root=root))
    assert "a regular file" in refusal("file:///dev/zero", ImageSources(root=Path("/dev")))
    assert "can be read" in refusal(f"file://{root}/missing.png", ImageSources(root=root))


def test_a_file_of_more_than_20_megabytes_is_refused_unread(root: Path) -> None:
    with (root / "huge.png").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    assert "at most 20 MB" in refusal(f"file://{root}/huge.png", ImageSources(root=root))


@pytest.mark.parametrize("scheme", ["http", "https", "HTTPS"])
def test_the_web_is_off_unless_it_is_configured(scheme: str) -> None:
    assert "fetching from the web is switched off" in refusal(f"{scheme}://example.com/a.png")
