import json
import pathlib
import resource
import shutil
import tracemalloc

import numpy as np
import pytest
import soundfile
from PIL import Image

import l3net
from l3net import export, extract
from l3net.errors import UserError
from l3net.files import CannotWriteError
from l3net.inference import file_features, saved_model
from l3net.media import images
from tests import commands, conftest
from tests.tiny_networks import POOL4, save_tiny_network, save_tiny_run
from tests.tiny_sounds import RATE, pictures, tone


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return export.export(save_tiny_run(tmp_path_factory.mktemp("run")))


@pytest.fixture(scope="module")
def model(network):
    return saved_model.SavedModel(network)


def run(inputs, network, out_dir, **flags) -> list[extract.Outcome]:
    config = {name: flags.pop(name) for name in ("batch_size", "overwrite") if name in flags}
    return extract.extract_files(
        inputs,
        extract.Config(saved_model=network, out_dir=out_dir, **config),
        extract.Settings(**flags),
    )


def refused(message, inputs, network, out_dir, **flags) -> None:
    with pytest.raises(UserError, match=message):
        run(inputs, network, out_dir, **flags)


def statuses(outcomes) -> list[str]:
    return [outcome.status for outcome in outcomes]


def load(path) -> dict[str, np.ndarray]:
    with np.load(path) as npz:
        return dict(npz)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Files of every kind, two of them broken."""
    folder = tmp_path_factory.mktemp("media")
    (folder / "sub").mkdir()
    for name in ("tone.wav", "tone.flac", "sub/tone.ogg", "tone.mp3"):
        soundfile.write(folder / name, tone(2.0, 44_100), 44_100)
    soundfile.write(folder / "short.wav", tone(0.2), RATE)
    soundfile.write(folder / "silence.wav", np.zeros(RATE), RATE)
    Image.fromarray(pictures(90, 120)).save(folder / "picture.jpg")
    Image.fromarray(pictures(90, 120)).save(folder / "PICTURE2.PNG")
    conftest.make_video(folder / "tone.mp4", seconds=3.0)
    (folder / "broken.mp4").write_text("no video at all")
    (folder / "empty.wav").touch()
    (folder / "notes.txt").write_text("no media")
    (folder / ".hidden.wav").write_text("not looked at")
    return folder


def test_links_are_followed_and_content_decides_without_a_known_suffix(tmp_path, network, caplog):
    folder, elsewhere, out_dir = (tmp_path / name for name in ("folder", "elsewhere", "out"))
    folder.mkdir()
    elsewhere.mkdir()
    soundfile.write(elsewhere / "tone", tone(1.0), RATE, format="FLAC")
    Image.fromarray(pictures(90, 120)).save(elsewhere / "picture.1", format="PNG")
    (elsewhere / "README").write_text("no media")
    (folder / "link").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(folder)
    assert statuses(run([folder], network, out_dir)) == ["done", "done"]
    made = {str(path.relative_to(out_dir)) for path in out_dir.rglob("*.npz")}
    assert made == {"link/tone.npz", "link/picture.1.npz"}
    assert f"left out the link {folder}/link/back: the same folder as {folder}/" in caplog.text
    named = run([elsewhere / "tone", elsewhere / "README"], network, tmp_path / "named")
    assert statuses(named) == ["done", "failed"]
    assert "unknown suffix '', and by its content neither sound" in named[1].reason


def test_files_of_other_kinds_are_counted_and_left_out(tmp_path, caplog):
    for name in ("a.ts", "b.WEBM", "c.webp", "d.txt", "e.txt", "f"):
        (tmp_path / name).touch()
    with caplog.at_level("INFO"):
        paths, problems = file_features.files_below(tmp_path)
    assert [path.name for path in paths] == ["a.ts", "b.WEBM", "c.webp"] and not problems
    assert "3 other files left out (2 .txt, 1 no suffix)" in caplog.text


def test_the_default_track_is_taken_or_the_one_asked_for(tmp_path, network):
    pitches = [tone(2.0), tone(2.0) ** 2]  # an octave apart
    for name, each in zip("ab", pitches, strict=True):
        soundfile.write(tmp_path / f"{name}.wav", each, RATE)
    inputs = [word for name in "ab" for word in ("-i", str(tmp_path / f"{name}.wav"))]
    flags = ("-c", "copy", "-disposition:a:0", "0", "-disposition:a:1", "default")
    both = tmp_path / "both.mka"
    conftest.run_ffmpeg(*inputs, "-map", "0", "-map", "1", *flags, str(both))
    expected = [get_embedding(tmp_path / f"{name}.wav", network, tmp_path) for name in "ab"]
    np.testing.assert_array_equal(get_embedding(both, network, tmp_path), expected[1])
    for track in (0, 1):
        got = get_embedding(both, network, tmp_path / str(track), audio_track=track)
        np.testing.assert_array_equal(got, expected[track])
    outcomes = run([both], network, tmp_path / "2", audio_track=2)
    assert outcomes[0].reason.endswith("no track 2 of sound: it has 2, counted from 0")
    assert not list((tmp_path / "2").glob("*"))
    outcomes = run([both], network, tmp_path, audio_track=0)
    assert "made with audio_track None, not 0; give --overwrite" in outcomes[0].reason


def get_embedding(path, network, out_dir, **flags) -> np.ndarray:
    assert statuses(run([path], network, out_dir, **flags)) == ["done"]
    return load(out_dir / f"{path.name}.npz")["embedding"]


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
    np.testing.assert_array_equal(load(out_dir / "PICTURE2.PNG.npz")["timestamps"], [0.0])


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
    settings = {"model": model, "output": "pool4", "hop_size": 0.5, "center": False}
    sound, rate = soundfile.read(folder / "silence.wav", dtype="int16")
    expected, _ = l3net.get_audio_embedding(sound, rate, **settings)
    got = load(out_dir / "silence.wav.npz")["embedding"]
    np.testing.assert_allclose(got, expected, atol=1e-5 * np.abs(expected).max())
    sound, rate = soundfile.read(folder / "short.wav", dtype="int16")
    expected, times = l3net.get_audio_embedding(sound, rate, **settings)
    got = load(out_dir / "short.wav.npz")
    np.testing.assert_array_equal(got["timestamps"], times)
    np.testing.assert_allclose(got["embedding"], expected, atol=1e-4 * np.abs(expected).max())


def test_a_video_gives_sound_and_pictures_on_one_time_line(extracted):
    got = load(extracted[0] / "tone.mp4.npz")
    names = ("audio_embedding", "audio_timestamps", "image_embedding", "image_timestamps")
    assert set(got) == {*names, "metadata"}
    np.testing.assert_array_equal(got["audio_timestamps"], [0.0, 0.5, 1.0, 1.5, 2.0])
    np.testing.assert_array_equal(got["image_timestamps"], [0.0, 0.5, 1.0, 1.5, 2.0, 2.5])
    assert got["audio_embedding"].shape == (5, POOL4)
    assert got["image_embedding"].shape == (6, POOL4)
    metadata = json.loads(got["metadata"].item())
    assert metadata["source"] == "tone.mp4" and metadata["kind"] == "video"
    assert metadata["hop_seconds"] == 0.5 and metadata["frame_rate_hz"] == 2.0
    assert metadata["network"]["model"] == "l3_net_ots" and metadata["trained_steps"] == 7


def test_videos_that_are_very_short_or_without_sound_or_picture(tmp_path, network):
    video = conftest.make_video(tmp_path / "short.mp4", seconds=0.2)
    assert statuses(run([video], network, tmp_path / "out")) == ["done"]
    got = load(tmp_path / "out/short.mp4.npz")
    assert len(got["image_timestamps"]) == len(got["audio_timestamps"]) == 1
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


@pytest.fixture
def three(tmp_path):
    """A folder with three pictures."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("a.png", "b.png", "c.png"):
        Image.fromarray(pictures(90, 120)).save(folder / name)
    return folder


def test_a_full_disk_ends_the_list_at_its_first_file(three, network, tmp_path):
    out_dir, limits = tmp_path / "out", resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))  # as a full disk: no more bytes
    try:
        with pytest.raises(CannotWriteError, match="cannot write .*a.png.npz: File too large"):
            run([three], network, out_dir)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(out_dir.iterdir())
    assert statuses(run([three], network, out_dir)) == ["done"] * 3


def test_a_stopped_run_keeps_what_is_done_and_goes_on(three, network, tmp_path, monkeypatch):
    read = images.read_image

    def stop_at_b(path, frame_px):
        if path.name == "b.png":
            raise KeyboardInterrupt
        return read(path, frame_px)

    out_dir = tmp_path / "out"
    monkeypatch.setattr(images, "read_image", stop_at_b)
    with pytest.raises(KeyboardInterrupt):
        run([three], network, out_dir)
    assert [path.name for path in out_dir.iterdir()] == ["a.png.npz"]
    monkeypatch.setattr(images, "read_image", read)
    assert statuses(run([three], network, out_dir)) == ["skipped", "done", "done"]
    assert len(list(out_dir.iterdir())) == 3
    assert statuses(run([three], network, out_dir, overwrite=True)) == ["done"] * 3


def test_other_settings_or_weights_are_not_mixed(three, network, tmp_path):
    out_dir = tmp_path / "out"
    run([three / "a.png"], network, out_dir)
    (outcome,) = run([three / "a.png"], network, out_dir, features="conv4_2")
    assert "made with features pool4, not conv4_2" in outcome.reason
    other = shutil.copytree(network, tmp_path / "other")
    metadata = saved_model.read_metadata(other)
    metadata["weights_sha256"] = "of other weights"
    (other / saved_model.METADATA_FILE).write_text(json.dumps(metadata))
    (outcome,) = run([three / "a.png"], other, out_dir)
    assert "weights_sha256" in outcome.reason
    made = (out_dir / "a.png.npz").read_bytes()
    where = made.index(b"NUMPY") + 200  # in the values
    for content in (b"something else", made[:where], made[:where] + b"x" + made[where + 1 :]):
        (out_dir / "b.png.npz").write_bytes(content)
        (outcome,) = run([three / "b.png"], network, out_dir)
        assert "damaged or not ours" in outcome.reason


def test_bfloat16_is_near_float32_and_not_mixed_with_it(folder, extracted, network, tmp_path):
    flags = (f"--saved_model={network}", f"--out_dir={tmp_path}", "--precision=bfloat16")
    done = commands.run("-m", "l3net.extract", *flags, folder / "tone.wav")
    assert done.returncode == 0, done.stderr
    half = load(tmp_path / "tone.wav.npz")["embedding"]
    expected = load(extracted[0] / "tone.wav.npz")["embedding"]
    np.testing.assert_allclose(half, expected, rtol=0, atol=3e-2 * np.abs(expected).max())
    if "avx512_bf16" in pathlib.Path("/proc/cpuinfo").read_text():
        assert (half != expected).any()
    (outcome,) = run([folder / "tone.wav"], network, tmp_path)
    assert "made with precision bfloat16, not float32" in outcome.reason


def test_an_unexpected_error_stops_one_file_only(three, network, tmp_path, monkeypatch):
    read = images.read_image
    monkeypatch.setattr(
        images, "read_image", lambda path, px: 1 / 0 if path.name == "b.png" else read(path, px)
    )
    outcomes = run([three], network, tmp_path / "out")
    assert statuses(outcomes) == ["done", "failed", "done"]
    assert "ZeroDivisionError" in outcomes[1].reason


def test_inputs_that_are_not_there(network, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("no media")
    inputs = [tmp_path / "empty", tmp_path / "none.wav", tmp_path / "notes.txt"]
    reasons = [outcome.reason for outcome in run(inputs, network, tmp_path / "out")]
    assert "holds no sound, image or video" in reasons[0]
    assert "no such file" in reasons[1]
    assert "unknown suffix '.txt'" in reasons[2]


def test_two_files_for_one_output_are_refused(network, tmp_path):
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").touch()
    refused("both be written", [tmp_path / "x", tmp_path / "y/a.png"], network, tmp_path / "out")
    files, _ = extract.find_files([tmp_path, tmp_path], tmp_path / "out")
    assert len(files) == 2  # the same folder twice is no clash


def test_saved_models_and_settings_that_are_not_usable(network, three, tmp_path):
    out_dir = tmp_path / "out"
    refused("does not exist", [three], tmp_path / "none", out_dir)
    refused("no SavedModel of ours", [three], three, out_dir)
    missing = "gives conv4_2, conv4_2_map, pool4 for .*'embedding'"
    refused(missing, [three], network, out_dir, features="embedding")
    refused("frame_rate_hz=0", [three], network, out_dir, frame_rate_hz=0.0)
    damaged = shutil.copytree(network, tmp_path / "damaged")
    graph = damaged / "saved_model.pb"
    graph.write_bytes(graph.read_bytes()[:1000])
    refused("damaged SavedModel", [three], damaged, out_dir)
    graph.unlink()
    refused("damaged SavedModel", [three], damaged, out_dir)


def test_a_network_without_the_signature(network, three, tmp_path):
    metadata = saved_model.read_metadata(network)
    deaf = save_tiny_network(tmp_path / "deaf", metadata=metadata)
    refused(r"no signature 'vision' \(it has audio\)", [three], deaf, tmp_path / "out")
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
