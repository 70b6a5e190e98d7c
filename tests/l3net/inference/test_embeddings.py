import pathlib
import subprocess
import sys
import types

import numpy as np
import pytest
import soundfile
from PIL import Image

import l3net
from l3net import export, extract, models
from l3net.errors import UserError
from l3net.inference import embeddings, saved_model
from l3net.media import images
from l3net.media.sound import AS_OPENL3, mono_48k, sound_blocks, windows
from tests import conftest
from tests.tiny_networks import save_tiny_run
from tests.tiny_sounds import RATE, pictures, tone

AVE = models.ModelConfig("ave_net", width=0.03, frame_px=64, spectrogram_average=2)
POOL4 = round(512 * AVE.width)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return export.export(save_tiny_run(tmp_path_factory.mktemp("run"), config=AVE))


@pytest.fixture(scope="module")
def model(network):
    return l3net.SavedModel(network)


def close(got: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_importing_the_package_does_not_import_tensorflow():
    program = (
        "import sys, l3net; assert 'get_video_embedding' in dir(l3net)\n"
        "assert not {'tensorflow', 'keras', 'numpy'} & set(sys.modules), 'not lazy'"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert l3net.get_audio_embedding is embeddings.get_audio_embedding
    with pytest.raises(AttributeError, match="no attribute 'get_smell_embedding'"):
        _ = l3net.get_smell_embedding


def test_the_names_of_earlier_versions_are_the_same_things():
    from l3net import embeddings as old_embeddings
    from l3net import hear
    from l3net import saved_model as old_saved_model

    assert old_embeddings.get_video_embedding is embeddings.get_video_embedding
    assert old_saved_model.SavedModel is saved_model.SavedModel is l3net.SavedModel
    assert old_saved_model.windows is windows and callable(hear.load_model)


def test_sound_has_openl3s_shape_and_centred_times(model):
    sound = tone(1.5)
    embedding, timestamps = l3net.get_audio_embedding(sound, RATE, model=model)
    # Centres until all sound is in a window: the last reaches from 0.5 s to 1.5 s.
    np.testing.assert_allclose(timestamps, np.arange(11) / 10, atol=1e-12)
    assert embedding.shape == (11, 128) and embedding.dtype == np.float32
    assert timestamps.dtype == np.float64
    windows = np.stack([np.pad(sound, (RATE // 2, 0))[:RATE], sound[RATE // 2 :]])
    close(embedding[[0, 10]], model.features("audio", "embedding")(windows))


@pytest.mark.parametrize("output", ["pool4", "conv4_2"])
def test_windows_that_start_at_their_times(model, output):
    embedding, times = l3net.get_audio_embedding(
        tone(2.0), RATE, model=model, output=output, hop_size=0.5, center=False
    )
    np.testing.assert_array_equal(times, [0.0, 0.5, 1.0])
    windows = np.stack([tone(2.0)[start : start + RATE] for start in (0, RATE // 2, RATE)])
    close(embedding, model.features("audio", output)(windows))
    _, times = l3net.get_audio_embedding(tone(3.0), RATE, model=model, hop_size=1 / 3, center=False)
    np.testing.assert_array_equal(times * RATE, np.arange(7) * 16_000)


def test_other_sample_rates_channels_and_types_agree(model):
    def pool4(sound, rate):
        settings = {"output": "pool4", "hop_size": 0.5, "center": False}
        return l3net.get_audio_embedding(sound, rate, model=model, **settings)[0][0]

    expected = pool4(tone(1.0), RATE)
    for sound, rate in (
        (tone(1.0, 44_100), 44_100),
        (np.stack([tone(1.0), tone(1.0)], axis=1), RATE),
        (np.round(tone(1.0) * 32767).astype(np.int16), RATE),
    ):
        error = np.linalg.norm(pool4(sound, rate) - expected)
        assert error < 0.1 * np.linalg.norm(expected)


@pytest.mark.parametrize(
    ("sound", "rate", "hop_size", "message"),
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
def test_invalid_sounds_are_refused(model, sound, rate, hop_size, message):
    with pytest.raises(UserError, match=message):
        l3net.get_audio_embedding(sound, rate, model=model, hop_size=hop_size)


SHARED = pathlib.Path(__file__).parents[4] / "shared/data"
REAL = [
    path
    for folder in ("esc10/001 - Dog bark", "esc10/009 - Rooster", "digits/recordings")
    for path in sorted((SHARED / folder).glob("*"))[:2]
]
# Sample rate, channels, subtype and gain of noise with a tone.
MADE = {
    "same.wav": (RATE, 1, "PCM_16", 1),
    "deep.wav": (RATE, 2, "PCM_24", 1),
    "disc.wav": (44_100, 2, "FLOAT", 1),
    "speech.wav": (16_000, 1, "PCM_16", 1),
    "telephone.wav": (8000, 2, "PCM_U8", 1),
    "studio.wav": (96_000, 1, "DOUBLE", 1),
    "loud.wav": (44_100, 1, "FLOAT", 6),
    "of_16_bits.wav": (RATE, 1, "FLOAT", 32_767),
    "nan.wav": (22_050, 1, "FLOAT", np.nan),
    "infinite.wav": (RATE, 2, "DOUBLE", np.inf),
}
REFUSED = ("of_16_bits.wav", "nan.wav", "infinite.wav")


@pytest.fixture(scope="module")
def extracted(network, tmp_path_factory):
    """Sound files by name, and what extract made of each: features, or why it failed."""
    folder = tmp_path_factory.mktemp("sounds")
    for name, (rate, channels, subtype, gain) in MADE.items():
        noise = np.random.default_rng(0).normal(0, 0.1, (3 * rate // 2, channels))
        samples = gain * (noise + tone(1.5, rate)[:, np.newaxis])
        soundfile.write(folder / name, samples, rate, subtype=subtype)
    config = extract.Config(saved_model=network, out_dir=folder)
    settings = extract.Settings(features="pool4")
    outcomes = extract.extract_files([folder, *REAL], config, settings)
    made = {}
    for outcome in outcomes:
        if outcome.status == "done":
            with np.load(folder / f"{outcome.path.name}.npz") as npz:
                made[outcome.path.name] = outcome.path, npz["embedding"]
        else:
            made[outcome.path.name] = outcome.path, outcome.reason
    return made


@pytest.mark.filterwarnings("ignore:samples beyond 1")
@pytest.mark.parametrize("name", [*MADE, *(path.name for path in REAL)])
def test_the_command_and_the_function_agree(model, extracted, name):
    path, got = extracted[name]
    samples, rate = soundfile.read(path)
    settings = {"output": "pool4", "hop_size": 0.5, "center": False}
    if name in REFUSED:
        assert "bad_samples" in got
        with pytest.raises(UserError, match="NaN or infinite|samples up to"):
            l3net.get_audio_embedding(samples, rate, model, **settings)
        return
    expected, _ = l3net.get_audio_embedding(samples, rate, model, **settings)
    errors = np.linalg.norm(got - expected, axis=1) / np.linalg.norm(expected, axis=1)
    assert got.shape == expected.shape and errors.max() < 0.02


def test_openl3s_calls_go_through(model, monkeypatch):
    sound, settings = tone(1.5), {"model": model, "hop_size": 0.5, "center": False}
    expected, times = l3net.get_audio_embedding(sound, RATE, output="pool4", **settings)
    # audio, sr, model, input_repr, content_type, embedding_size, center, hop_size, batch_size,
    # frontend, verbose
    openl3s = (sound, RATE, model, "linear", "music", POOL4, False, 0.5, 2, "kapre", True)
    got = l3net.get_audio_embedding(*openl3s)
    close(got[0], expected)
    np.testing.assert_array_equal(got[1], times)
    got = l3net.get_audio_embedding(sound, RATE, frontend="librosa", verbose=False, **settings)
    assert got[0].shape == (2, 128)  # no size: as before
    stack = pictures(3, 70, 80)
    # image, frame_rate, model, input_repr, content_type, embedding_size, batch_size, verbose
    embedding, times = l3net.get_image_embedding(stack, 25, model, "linear", "env", POOL4, 2, False)
    close(embedding, l3net.get_image_embedding(stack, model=model, output="pool4"))
    np.testing.assert_allclose(times, [0, 0.04, 0.08])
    lists = l3net.get_image_embedding([stack, stack[0]], [25, 2.0], model)
    assert [len(one) for one in lists[0]] == [len(one) for one in lists[1]] == [3, 1]
    assert l3net.get_image_embedding([], 25, model=model) == ([], [])


def test_what_openl3s_arguments_would_change_is_refused(model, monkeypatch):
    def refused(message, **settings):
        with pytest.raises(UserError, match=message):
            l3net.get_audio_embedding(tone(1.0), RATE, **{"model": model, **settings})

    refused("no model: .* no weights come with this package", model=None)
    refused("input_repr='mel256': this network has 'linear'; give None", input_repr="mel256")
    refused("input_repr='mel64': need one of linear, mel128, mel256", input_repr="mel64")
    refused("content_type='speech': need one of music, env", content_type="speech")
    refused("frontend='nnaudio': need one of kapre, librosa", frontend="nnaudio")
    refused("embedding_size=6144: .*; there is .*pool4 15", embedding_size=6144)
    refused("request for embedding of 15", embedding_size=POOL4, output="embedding")
    monkeypatch.setitem(model.metadata, "model_config", {"model": "openl3_audio_mel128_env"})
    refused("input_repr='linear': this network has 'mel128'", input_repr="linear")
    refused("content_type='music': this network has 'env'", content_type="music")
    l3net.get_audio_embedding(tone(1.0), RATE, model, "mel128", "env")


def test_networks_of_openl3_hear_sound_resampled_by_it(model, monkeypatch):
    noise = np.random.default_rng(0).normal(0, 0.1, 16_000)
    resampled = mono_48k(noise, 16_000, AS_OPENL3)
    monkeypatch.setitem(model.metadata, "model_config", {"model": "openl3_audio_linear_env"})
    got, _ = l3net.get_audio_embedding(noise, 16_000, model, center=False)
    close(got, l3net.get_audio_embedding(resampled, RATE, model, center=False)[0])


def test_a_list_of_sounds_gives_lists(model):
    sounds = [tone(1.0), np.stack([tone(1.5, 44_100)] * 2, axis=1)]
    lists, times = l3net.get_audio_embedding(sounds, [RATE, 44_100], model=model, hop_size=0.5)
    assert [each.shape for each in lists] == [(2, 128), (3, 128)]
    assert [len(each) for each in times] == [2, 3]
    alone, _ = l3net.get_audio_embedding(sounds[1], 44_100, model=model, hop_size=0.5)
    np.testing.assert_array_equal(lists[1], alone)
    assert l3net.get_audio_embedding([], RATE, model=model) == ([], [])
    with pytest.raises(UserError, match="2 sounds with 1 sample rates"):
        l3net.get_audio_embedding(sounds, [RATE], model=model)


def test_an_image_is_seen_as_a_file_is(model, network, tmp_path):
    image = pictures(90, 120)
    got = l3net.get_image_embedding(image, model=network)  # by its path
    assert got.shape == (1, 128) and got.dtype == np.float32
    close(got, model.features("vision", "embedding")(images.center_crop(image, 64)[np.newaxis]))
    Image.fromarray(image).save(tmp_path / "image.png")
    config = extract.Config(saved_model=network, out_dir=tmp_path / "out")
    extract.extract_files([tmp_path], config, extract.Settings(features="embedding"))
    with np.load(tmp_path / "out/image.png.npz") as npz:
        close(got, npz["embedding"])


def test_stacks_and_lists_of_images(model):
    stack, other = pictures(3, 70, 80), pictures(100, 64)
    of_stack = l3net.get_image_embedding(stack, model=model, output="pool4", batch_size=2)
    assert len(of_stack) == 3
    listed = l3net.get_image_embedding([other, stack], model=model, output="pool4")
    assert [each.shape[0] for each in listed] == [1, 3]
    close(listed[1], of_stack)
    close(listed[0], l3net.get_image_embedding(other, model=model, output="pool4"))
    assert l3net.get_image_embedding([], model=model) == []


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((64, 64, 3)), "float64: need uint8"),
        (np.zeros((64, 64), np.uint8), r"shape \(64, 64\)"),
        (np.zeros((64, 64, 4), np.uint8), r"shape \(64, 64, 4\)"),
        (np.zeros((0, 64, 64, 3), np.uint8), "not empty"),
        (np.zeros((3, 64, 64), np.uint8), "channels go last"),
        (np.full((64, 64, 3), np.nan), "float64: need uint8"),
        (np.zeros((64, 64, 3), int), "int64: need uint8"),
        ("a.png", "type <U5"),
        ([], "type float64"),
    ],
)
def test_images_that_are_none(model, image, message):
    with pytest.raises(UserError, match=message):
        l3net.get_image_embedding([image], model=model)


@pytest.mark.parametrize("rate", [0, -25.0, "25", np.nan, True])
def test_frame_rates_that_are_none(model, rate):
    with pytest.raises(UserError, match="frame rate of"):
        l3net.get_image_embedding(pictures(64, 64), rate, model)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """Two seconds: the picture grows brighter, the sound rises."""
    return conftest.make_video(
        tmp_path_factory.mktemp("video") / "ramp.mkv",
        picture="color=black:s=64x64:r=25,geq=lum='16+T*80':cb=128:cr=128",
        sound="aevalsrc='0.5*sin(2*PI*(300+800*t)*t)':s=48000",
    )


def test_sound_and_picture_of_a_video_are_aligned(model, video):
    sound, picture, times = l3net.get_video_embedding(
        video, model=model, output="pool4", hop_size=0.2
    )
    np.testing.assert_allclose(times, np.arange(10) / 5, atol=1e-12)  # up to the end of the file
    assert sound.shape == picture.shape == (10, POOL4) and times.dtype == np.float64
    whole = np.concatenate(list(sound_blocks(video)))
    padded = np.pad(whole, RATE // 2).astype(np.float32) / 32768
    hear, see = model.features("audio", "pool4"), model.features("vision", "pool4")
    for step in (0, 4, 9):
        start = round(times[step] * RATE)  # its second reaches from half a second before it
        close(sound[step], hear(padded[np.newaxis, start : start + RATE])[0])
    frames = list(images.video_frames(video, frame_rate_hz=25, frame_px=64))
    for step in (0, 4, 9):
        close(picture[step], see(frames[5 * step][np.newaxis])[0])


@pytest.mark.parametrize("late", ["picture_late_seconds", "sound_late_seconds"])
def test_a_video_ends_with_the_shorter_stream(model, tmp_path, late):
    # One stream lasts to 1.0 s, the other to 1.5 s.
    video = conftest.make_video(tmp_path / "late.mkv", seconds=1.0, **{late: 0.5})
    sound, picture, times = l3net.get_video_embedding(video, model=model, hop_size=0.25)
    assert len(sound) == len(picture) == len(times) == 4


def test_files_that_are_no_video_with_both(model, tmp_path):
    soundfile.write(tmp_path / "tone.wav", tone(1.0), RATE)
    mute = conftest.make_video(tmp_path / "mute.mp4", sound=None, seconds=0.5)
    for path, message in (
        (tmp_path / "tone.wav", "not a video"),
        (np.zeros(3), "video of type ndarray"),
        (tmp_path / "none.mp4", "no such file"),
        (mute, "no audio track"),
    ):
        with pytest.raises(UserError, match=message):
            l3net.get_video_embedding(path, model=model)


def test_the_default_output_is_one_that_the_network_has():
    both = {"pool4": 512, "embedding": 128}
    sizes = {"audio": both, "vision": {"pool4": 512}}
    avol = types.SimpleNamespace(metadata={"feature_sizes": sizes})
    none = types.SimpleNamespace(metadata={"feature_sizes": {}})
    assert embeddings.choose_output(avol, None, "audio") == "embedding"
    assert embeddings.choose_output(avol, None, "vision") == "pool4"
    assert embeddings.choose_output(avol, None, "audio", "vision") == "pool4"
    assert embeddings.choose_output(avol, "conv4_2", "audio") == "conv4_2"
    assert embeddings.choose_output(none, None, "audio") == "pool4"


def test_networks_that_see_more_than_an_image_are_refused(model, monkeypatch):
    monkeypatch.setitem(model.metadata, "inputs", ["frame", "flow", "log_spectrogram"])
    with pytest.raises(UserError, match="sees frame and flow at once"):
        l3net.get_image_embedding(pictures(64, 64), model=model)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": 3}, "model of type int"),
        ({"model": "no/such/folder"}, "does not exist"),
        ({"output": "softmax"}, "got a request for 'softmax'"),
        ({"batch_size": 0}, "batch size of 0"),
        ({"batch_size": 2.5}, "batch size of 2.5"),
        ({"batch_size": None}, "batch size of None"),
        ({"hop_size": 0.0}, "hop of 0.0"),
        ({"hop_size": "0.1"}, "hop of 0.1"),
        ({"hop_size": None}, "hop of None"),
    ],
)
def test_invalid_settings_are_refused(model, video, settings, message):
    settings = {"model": model, **settings}
    with pytest.raises(UserError, match=message):
        l3net.get_audio_embedding(tone(1.0), RATE, **settings)
    with pytest.raises(UserError, match=message):
        l3net.get_video_embedding(video, **settings)
    if "hop_size" not in settings:
        with pytest.raises(UserError, match=message):
            l3net.get_image_embedding(pictures(64, 64), **settings)
