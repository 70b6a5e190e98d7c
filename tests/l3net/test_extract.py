"""Extraction: files of every kind, broken ones among them; restarts, time stamps, memory."""

import json
import shutil
import tracemalloc

import numpy as np
import pytest
import soundfile
import tensorflow as tf
from PIL import Image

from l3net import constants, export, extract
from l3net.errors import UserError
from l3net.inference import file_features, saved_model
from l3net.media import images
from tests import conftest
from tests.l3net.test_export import POOL4, TINY, save_tiny_run

RATE = constants.SAMPLE_RATE_HZ


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return export.export(save_tiny_run(tmp_path_factory.mktemp("run")))


@pytest.fixture(scope="module")
def model(network):
    return saved_model.SavedModel(network)


def tone(seconds: float, rate: int = RATE, pitch_hz: float = 440.0) -> np.ndarray:
    times = np.arange(round(seconds * rate)) / rate
    return (0.5 * np.sin(2 * np.pi * pitch_hz * times)).astype(np.float32)


def picture(height: int = 90, width: int = 120) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)


def run(inputs, network, out_dir, **keywords) -> list[extract.Outcome]:
    settings = {
        name: keywords.pop(name)
        for name in list(keywords)
        if name in extract.Settings.__annotations__
    }
    return extract.extract_files(
        inputs,
        saved_model_dir=network,
        out_dir=out_dir,
        settings=extract.Settings(**settings),
        **keywords,
    )


def statuses(outcomes) -> list[str]:
    return [outcome.status for outcome in outcomes]


def load(path) -> dict[str, np.ndarray]:
    with np.load(path) as npz:
        return dict(npz)


# --- Windows -------------------------------------------------------------------------------------
def starts_of(
    num_samples: int, *, hop: int, center: bool = False, block: int = 10_007
) -> list[int]:
    """Cuts a ramp whose value is its sample's number plus 1; returns where windows start."""
    ramp = np.arange(1, num_samples + 1, dtype=np.float32)
    blocks = [ramp[start : start + block] for start in range(0, num_samples, block)]
    starts = []
    for window in saved_model.windows(blocks, hop=hop, center=center):
        assert window.shape == (RATE,) and window.dtype == np.float32
        sound = np.flatnonzero(window)
        start = int(window[sound[0]]) - 1 - int(sound[0])
        whole = np.arange(start, start + RATE)
        expected = np.where((whole >= 0) & (whole < num_samples), whole + 1, 0)
        np.testing.assert_array_equal(window, expected)
        starts.append(start)
    return starts


@pytest.mark.parametrize(
    ("seconds", "hop_seconds", "expected_seconds"),
    [
        (1.0, 0.5, [0]),
        (0.3, 0.5, [0]),
        (1.005, 0.5, [0]),  # a rest below 0.01 s opens no window
        (1.02, 0.5, [0, 0.5]),
        (5.0, 0.5, [0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4]),
        (5.0, 1.0, [0, 1, 2, 3, 4]),
        (5.0, 2.0, [0, 2, 4]),  # a hop longer than a window
        (5.2, 2.0, [0, 2, 4]),
        (6.2, 2.0, [0, 2, 4, 6]),
    ],
)
@pytest.mark.parametrize("block", [4801, 48_000, 1_000_000])
def test_windows_start_at_multiples_of_the_hop(seconds, hop_seconds, expected_seconds, block):
    starts = starts_of(round(seconds * RATE), hop=round(hop_seconds * RATE), block=block)
    assert starts == [round(start * RATE) for start in expected_seconds]


def test_centred_windows_begin_half_a_second_before():
    starts = starts_of(2 * RATE, hop=RATE // 2, center=True)
    assert starts == [-RATE // 2, 0, RATE // 2, RATE]


def test_windows_of_nothing_and_of_int16():
    assert not list(saved_model.windows([], hop=100))
    (window,) = saved_model.windows([np.full(RATE, -32768, np.int16)], hop=100)
    np.testing.assert_array_equal(window, -1.0)


def test_windows_and_batches_take_no_more_than_they_need():
    taken = 0

    def an_hour():
        nonlocal taken
        for _ in range(3600):
            taken += 1
            yield np.zeros(RATE, np.int16)

    stream = saved_model.batches(saved_model.windows(an_hour(), hop=RATE // 2), batch_size=8)
    assert next(stream).shape == (8, RATE) and taken == 5
    next(stream)
    assert taken == 9


# --- From Python ---------------------------------------------------------------------------------
def test_audio_embeddings_equal_the_signature(model):
    sound = tone(2.0)
    embedding, timestamps = saved_model.audio_embeddings(model, sound, RATE, hop_seconds=0.5)
    np.testing.assert_array_equal(timestamps, [0.0, 0.5, 1.0])
    assert embedding.dtype == np.float32 and timestamps.dtype == np.float64
    windows = np.stack([sound[start : start + RATE] for start in (0, RATE // 2, RATE)])
    expected = model.features("audio", "pool4")(windows)
    np.testing.assert_allclose(embedding, expected, atol=1e-5 * np.abs(expected).max())


def test_the_hop_does_not_drift(model):
    _, timestamps = saved_model.audio_embeddings(model, tone(3.0), RATE, hop_seconds=1 / 3)
    np.testing.assert_array_equal(timestamps * RATE, np.arange(7) * 16_000)


def test_other_sample_rates_channels_and_types_agree(model):
    expected, _ = saved_model.audio_embeddings(model, tone(1.0), RATE)
    for sound, rate in (
        (tone(1.0, 44_100), 44_100),
        (np.stack([tone(1.0), tone(1.0)], axis=1), RATE),
        (np.round(tone(1.0) * 32767).astype(np.int16), RATE),
    ):
        got, _ = saved_model.audio_embeddings(model, sound, rate)
        assert np.linalg.norm(got[0] - expected[0]) < 0.1 * np.linalg.norm(expected[0])


@pytest.mark.parametrize(
    ("sound", "rate", "hop_seconds", "message"),
    [
        (np.zeros(RATE), 0, 0.5, "sample rate of 0"),
        (np.zeros(RATE), -48_000, 0.5, "sample rate of -48000"),
        (np.zeros(RATE), np.nan, 0.5, "sample rate of nan"),
        (np.zeros(0), RATE, 0.5, "not empty"),
        (np.zeros((2, 2, 2)), RATE, 0.5, "shape"),
        (np.full(RATE, np.nan), RATE, 0.5, "NaN"),
        (np.zeros(RATE, np.uint8), RATE, 0.5, "uint8"),
        (np.zeros(RATE), RATE, 0.0, "hop of 0.0"),
        (np.zeros(RATE), RATE, np.inf, "hop of inf"),
    ],
)
def test_nonsense_is_refused(model, sound, rate, hop_seconds, message):
    with pytest.raises(UserError, match=message):
        saved_model.audio_embeddings(model, sound, rate, hop_seconds=hop_seconds)


# --- Images --------------------------------------------------------------------------------------
def test_center_crop_is_224_of_256():
    image = np.zeros((256, 340, 3), np.uint8)
    image[16:240, 58:282] = 255  # the centre 224 x 224
    assert (images.center_crop(image, 224) == 255).all()
    assert images.center_crop(image[:100, :73], 64).shape == (64, 64, 3)


def test_images_are_upright_rgb_of_8_bits(tmp_path):
    half = np.zeros((128, 128, 3), np.uint8)
    half[:, 64:] = 255  # white on the right
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying: to be turned clockwise, the right goes to the bottom
    Image.fromarray(half).save(tmp_path / "turned.png", exif=exif)
    upright = images.read_image(tmp_path / "turned.png", 64)
    assert upright[0].max() == 0 and upright[-1].min() == 255
    Image.fromarray(np.full((64, 64), 257 * 100, np.uint16)).save(tmp_path / "deep.png")
    assert (images.read_image(tmp_path / "deep.png", 32) == 100).all()
    for mode in ("L", "P", "RGBA", "CMYK"):
        path = tmp_path / ("image.jpg" if mode == "CMYK" else f"{mode}.png")
        Image.fromarray(half).convert(mode).save(path)
        assert images.read_image(path, 32).shape == (32, 32, 3)


# --- Files ---------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Files of every kind, two of them broken."""
    folder = tmp_path_factory.mktemp("media")
    (folder / "sub").mkdir()
    for name in ("tone.wav", "tone.flac", "sub/tone.ogg", "tone.mp3"):
        soundfile.write(folder / name, tone(2.0, 44_100), 44_100)
    soundfile.write(folder / "short.wav", tone(0.2), RATE)
    soundfile.write(folder / "silence.wav", np.zeros(RATE), RATE)
    Image.fromarray(picture()).save(folder / "picture.jpg")
    Image.fromarray(picture()).save(folder / "PICTURE2.PNG")
    conftest.make_video(folder / "tone.mp4", seconds=3.0)
    (folder / "broken.mp4").write_text("no video at all")
    (folder / "empty.wav").touch()
    (folder / "notes.txt").write_text("no media")
    (folder / ".hidden.wav").write_text("not looked at")
    return folder


def test_files_of_other_kinds_are_counted_and_left_out(tmp_path, caplog):
    for name in ("a.ts", "b.WEBM", "c.webp", "d.txt", "e.txt", "f"):
        (tmp_path / name).touch()
    with caplog.at_level("INFO"):
        found, complaints = file_features.files_below(tmp_path)
    assert [path.name for path in found] == ["a.ts", "b.WEBM", "c.webp"] and not complaints
    assert "3 other files left out (2 .txt, 1 no suffix)" in caplog.text


@pytest.fixture(scope="module")
def extracted(folder, network, tmp_path_factory):
    out_dir = tmp_path_factory.mktemp("out")
    return out_dir, run([folder], network, out_dir, hop_seconds=0.5, frame_rate_hz=2.0)


def test_every_kind_of_file_goes_through(folder, extracted):
    out_dir, outcomes = extracted
    failed = {o.path.name: o.reason for o in outcomes if o.status == "failed"}
    assert sorted(failed) == ["broken.mp4", "empty.wav"]
    assert "zero bytes" in failed["empty.wav"] and "not_media" in failed["broken.mp4"]
    made = {str(path.relative_to(out_dir)) for path in out_dir.rglob("*") if path.is_file()}
    assert made == {
        *("tone.wav.npz", "tone.flac.npz", "sub/tone.ogg.npz", "tone.mp3.npz", "tone.mp4.npz"),
        *("short.wav.npz", "silence.wav.npz", "picture.jpg.npz", "PICTURE2.PNG.npz"),
    }


def test_sound_files_agree_whatever_their_format(extracted):
    out_dir, _ = extracted
    expected = load(out_dir / "tone.wav.npz")
    assert set(expected) == {"embedding", "timestamps", "metadata"}
    np.testing.assert_array_equal(expected["timestamps"], [0.0, 0.5, 1.0])
    assert expected["embedding"].shape == (3, POOL4) and expected["embedding"].dtype == np.float32
    for name in ("tone.flac", "sub/tone.ogg", "tone.mp3"):
        got = load(out_dir / f"{name}.npz")["embedding"][:3]
        error = np.linalg.norm(got[1] - expected["embedding"][1])
        assert error < 0.1 * np.linalg.norm(expected["embedding"][1]), name


def test_a_sound_file_equals_the_array(folder, extracted, model):
    out_dir, _ = extracted
    sound, rate = soundfile.read(folder / "silence.wav", dtype="int16")
    expected, _ = saved_model.audio_embeddings(model, sound, rate)
    got = load(out_dir / "silence.wav.npz")["embedding"]
    np.testing.assert_allclose(got, expected, atol=1e-5 * np.abs(expected).max())
    sound, rate = soundfile.read(folder / "short.wav", dtype="int16")
    expected, times = saved_model.audio_embeddings(model, sound, rate)
    got = load(out_dir / "short.wav.npz")
    np.testing.assert_array_equal(got["timestamps"], times)
    np.testing.assert_allclose(got["embedding"], expected, atol=1e-4 * np.abs(expected).max())


def test_an_image_equals_the_signature(folder, extracted, model):
    out_dir, _ = extracted
    got = load(out_dir / "PICTURE2.PNG.npz")
    crop = images.center_crop(picture(), TINY.frame_px)
    expected = model.features("vision", "pool4")(crop[np.newaxis])
    np.testing.assert_allclose(got["embedding"], expected, atol=1e-5 * np.abs(expected).max())
    np.testing.assert_array_equal(got["timestamps"], [0.0])


def test_a_video_gives_sound_and_pictures_on_one_time_line(extracted):
    got = load(extracted[0] / "tone.mp4.npz")
    names = ("audio_embedding", "audio_timestamps", "image_embedding", "image_timestamps")
    assert set(got) == {*names, "metadata"}
    np.testing.assert_array_equal(got["audio_timestamps"], [0.0, 0.5, 1.0, 1.5, 2.0])
    np.testing.assert_array_equal(got["image_timestamps"], [0.0, 0.5, 1.0, 1.5, 2.0, 2.5])
    assert got["audio_embedding"].shape == (5, POOL4)
    assert got["image_embedding"].shape == (6, POOL4)


def test_metadata_names_source_settings_and_network(extracted):
    metadata = json.loads(load(extracted[0] / "tone.mp4.npz")["metadata"].item())
    assert metadata["source"] == "tone.mp4" and metadata["kind"] == "video"
    assert metadata["hop_seconds"] == 0.5 and metadata["frame_rate_hz"] == 2.0
    assert metadata["network"]["model"] == "l3_net_ots" and metadata["trained_steps"] == 7


def test_pictures_are_those_of_their_time(tmp_path):
    # Brightness tells the time: 16 + 50 a second, in ffmpeg's 16..235.
    video = conftest.make_video(
        tmp_path / "ramp.mp4",
        picture="color=black:s=64x64:r=25,geq=lum='16+T*50':cb=128:cr=128",
        sound=None,
        seconds=4.0,
    )
    frames = images.video_frames(video, frame_rate_hz=1.0, frame_px=32)
    times = [frame.mean() * 219 / 255 / 50 for frame in frames]
    np.testing.assert_allclose(times, [0.0, 1.0, 2.0, 3.0], atol=0.08)


def test_a_late_picture_is_seen_from_its_start(tmp_path):
    video = conftest.make_video(
        tmp_path / "late.mkv",
        picture="color=black:s=64x64:r=25,geq=lum='16+T*50':cb=128:cr=128",
        seconds=2.5,
        picture_late_seconds=0.2,
    )
    frames = images.video_frames(video, frame_rate_hz=1.0, frame_px=32)
    times = [frame.mean() * 219 / 255 / 50 for frame in frames]
    np.testing.assert_allclose(times, [0.0, 0.8, 1.8], atol=0.08)


def test_a_very_short_video_has_a_picture(tmp_path, network):
    video = conftest.make_video(tmp_path / "short.mp4", seconds=0.2)
    assert statuses(run([video], network, tmp_path / "out")) == ["done"]
    got = load(tmp_path / "out/short.mp4.npz")
    assert len(got["image_timestamps"]) == len(got["audio_timestamps"]) == 1


def test_a_video_without_sound_or_picture(tmp_path, network):
    mute = conftest.make_video(tmp_path / "mute.mp4", sound=None)
    dark = conftest.make_video(tmp_path / "dark.mp4", picture=None)
    outcomes = run([mute, dark], network, tmp_path / "out")
    assert "no audio track" in outcomes[0].reason and "no picture" in outcomes[1].reason
    assert statuses(run([mute], network, tmp_path / "a", video_streams="picture")) == ["done"]
    assert statuses(run([dark], network, tmp_path / "b", video_streams="sound")) == ["done"]
    assert set(load(tmp_path / "a/mute.mp4.npz")) == {
        *("image_embedding", "image_timestamps", "metadata")
    }


def test_same_file_same_numbers_whatever_the_batches(folder, extracted, network, tmp_path):
    expected = load(extracted[0] / "tone.wav.npz")["embedding"]
    run([folder / "tone.wav"], network, tmp_path / "again", frame_rate_hz=2.0)
    again = load(tmp_path / "again/tone.wav.npz")["embedding"]
    np.testing.assert_array_equal(again, expected)
    run([folder / "tone.wav"], network, tmp_path / "ones", batch_size=1)
    ones = load(tmp_path / "ones/tone.wav.npz")["embedding"]
    np.testing.assert_allclose(ones, expected, atol=1e-5 * np.abs(expected).max())


def test_memory_does_not_grow_with_the_length(tmp_path, network):
    rate, seconds = 8000, 600  # 58 MB once it is 16-bit sound at 48 kHz
    soundfile.write(tmp_path / "long.wav", np.zeros(rate * seconds, np.int16), rate)
    settings = {"hop_seconds": 4.0, "batch_size": 8, "features": "conv4_2"}
    tracemalloc.start()
    outcomes = run([tmp_path / "long.wav"], network, tmp_path / "out", **settings)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert statuses(outcomes) == ["done"]
    assert load(tmp_path / "out/long.wav.npz")["timestamps"][-1] == 596.0
    assert peak < 20e6


# --- Restart -------------------------------------------------------------------------------------
@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("a.png", "b.png", "c.png"):
        Image.fromarray(picture()).save(folder / name)
    return folder


def test_a_stopped_run_keeps_what_is_done_and_goes_on(pictures, network, tmp_path, monkeypatch):
    read = images.read_image

    def stop_at_b(path, frame_px):
        if path.name == "b.png":
            raise KeyboardInterrupt
        return read(path, frame_px)

    out_dir = tmp_path / "out"
    monkeypatch.setattr(images, "read_image", stop_at_b)
    with pytest.raises(KeyboardInterrupt):
        run([pictures], network, out_dir)
    assert [path.name for path in out_dir.iterdir()] == ["a.png.npz"]
    monkeypatch.setattr(images, "read_image", read)
    (out_dir / ".b.png.npz.tmp").write_text("what a killed process left")
    assert statuses(run([pictures], network, out_dir)) == ["skipped", "done", "done"]
    assert len(list(out_dir.iterdir())) == 3
    assert statuses(run([pictures], network, out_dir, overwrite=True)) == ["done"] * 3


def test_other_settings_or_weights_are_not_mixed(pictures, network, tmp_path):
    out_dir = tmp_path / "out"
    run([pictures / "a.png"], network, out_dir)
    (outcome,) = run([pictures / "a.png"], network, out_dir, features="conv4_2")
    assert "made with features pool4, not conv4_2" in outcome.reason
    other = shutil.copytree(network, tmp_path / "other")
    metadata = json.loads((other / saved_model.METADATA_FILE).read_text())
    metadata["weights_sha256"] = "of other weights"
    (other / saved_model.METADATA_FILE).write_text(json.dumps(metadata))
    (outcome,) = run([pictures / "a.png"], other, out_dir)
    assert "weights_sha256" in outcome.reason
    (out_dir / "b.png.npz").write_text("something else")
    (outcome,) = run([pictures / "b.png"], network, out_dir)
    assert "not ours" in outcome.reason


def test_an_unexpected_error_stops_one_file_only(pictures, network, tmp_path, monkeypatch):
    read = images.read_image
    monkeypatch.setattr(
        images, "read_image", lambda path, px: 1 / 0 if path.name == "b.png" else read(path, px)
    )
    outcomes = run([pictures], network, tmp_path / "out")
    assert statuses(outcomes) == ["done", "failed", "done"]
    assert "ZeroDivisionError" in outcomes[1].reason


# --- What cannot work ----------------------------------------------------------------------------
def test_inputs_that_are_not_there(network, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("no media")
    inputs = [tmp_path / "empty", tmp_path / "none.wav", tmp_path / "notes.txt"]
    reasons = [outcome.reason for outcome in run(inputs, network, tmp_path / "out")]
    assert "holds no file of known suffix" in reasons[0]
    assert "no such file" in reasons[1]
    assert "unknown suffix '.txt'" in reasons[2]


def test_two_files_for_one_output_are_refused(network, tmp_path):
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").touch()
    with pytest.raises(UserError, match="both be written"):
        run([tmp_path / "x", tmp_path / "y/a.png"], network, tmp_path / "out")
    files, _ = extract.find_files([tmp_path, tmp_path], tmp_path / "out")
    assert len(files) == 2  # the same folder twice is no clash


def test_a_truncated_image_is_refused(tmp_path):
    Image.fromarray(picture()).save(tmp_path / "cut.png")
    data = (tmp_path / "cut.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match="cannot decode"):
        images.read_image(tmp_path / "cut.png", 64)
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(UserError, match="not an image"):
        images.read_image(tmp_path / "text.png", 64)


def test_saved_models_that_are_not_usable(network, pictures, tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        run([pictures], tmp_path / "none", tmp_path / "out")
    with pytest.raises(UserError, match="no SavedModel of ours"):
        run([pictures], pictures, tmp_path / "out")
    with pytest.raises(UserError, match="gives conv4_2, conv4_2_map, pool4 for .*'embedding'"):
        run([pictures], network, tmp_path / "out", features="embedding")
    with pytest.raises(UserError, match="frame_rate_hz=0"):
        run([pictures], network, tmp_path / "out", frame_rate_hz=0.0)


def test_a_damaged_saved_model(network, pictures, tmp_path):
    damaged = shutil.copytree(network, tmp_path / "damaged")
    graph = damaged / "saved_model.pb"
    graph.write_bytes(graph.read_bytes()[:1000])
    with pytest.raises(UserError, match="damaged SavedModel"):
        run([pictures], damaged, tmp_path / "out")
    graph.unlink()
    with pytest.raises(UserError, match="damaged SavedModel"):
        run([pictures], damaged, tmp_path / "out")


def test_a_network_without_the_signature(network, pictures, tmp_path):
    deaf = tmp_path / "deaf"
    module = tf.Module()
    module.audio = tf.function(
        lambda waveform: {"pool4": waveform[:, :4]},
        input_signature=[tf.TensorSpec([None, RATE], tf.float32, name="waveform")],
    )
    tf.saved_model.save(module, str(deaf), signatures={"audio": module.audio})
    shutil.copytree(network / "assets.extra", deaf / "assets.extra", dirs_exist_ok=True)
    with pytest.raises(UserError, match=r"no signature 'vision' \(it has audio\)"):
        run([pictures], deaf, tmp_path / "out")
    soundfile.write(tmp_path / "tone.wav", tone(1.0), RATE)
    assert statuses(run([tmp_path / "tone.wav"], deaf, tmp_path / "out")) == ["done"]


def test_the_summary_fails_if_a_file_failed(tmp_path, caplog):
    done, failed = (
        extract.Outcome(tmp_path / "a", "done"),
        extract.Outcome(tmp_path / "b", "failed", "b: broken"),
    )
    extract._report([done])
    with pytest.raises(UserError, match="^b: broken$"):
        extract._report([failed])
    with pytest.raises(UserError, match="1 of 2 inputs failed"):
        extract._report([done, failed])
    assert "b: broken" in caplog.text
