import librosa
import numpy as np
import pytest

from eval.methods import epochs, piczak
from eval.sets import recordings
from l3net.errors import UserError
from tests.tiny_sets import write_esc50, write_sound_shards

TINY = piczak.Recipe(learning_rate=0.005, epochs=20, width=0.05, batch_size=10)


def _tone(hz, seconds=5.0):
    return np.sin(2 * np.pi * hz * np.arange(int(seconds * 22_050)) / 22_050).astype(np.float32)


def test_the_papers_recipe():
    recipe = piczak.RECIPES["paper"]
    assert (recipe.learning_rate, recipe.epochs) == (0.002, 300)
    assert (recipe.batch_size, recipe.width) == (1000, 1)
    assert piczak.NUM_FRAMES == 41 and recipe.is_published
    assert recipe.note() == "short segments, probability vote, 300 epochs"


def test_any_other_recipe_says_so():
    small = piczak.RECIPES["small"]
    assert (small.epochs, small.width) == (30, 0.25)
    for recipe in (small, piczak.Recipe(epochs=299), piczak.Recipe(width=0.5)):
        assert not recipe.is_published and "not the paper's recipe" in recipe.note()


def test_the_papers_network_by_hand():
    # 60 bands - 57 + 1 = 4, pooled by 4 to 1. 41 frames: 36, pooled 12, 10, pooled (the last window
    # in part) 4.
    model = piczak.build(piczak.RECIPES["paper"], 50, seed=0)
    flatten = next(layer for layer in model.layers if "flatten" in layer.name)
    flat = 4 * 80
    assert flatten.output.shape == (None, flat)
    weights = [57 * 6 * 2 * 80 + 80, 3 * 80 * 80 + 80, (flat + 1) * 5000, 5001 * 5000, 5001 * 50]
    assert model.count_params() == sum(weights)
    assert float(model.optimizer.learning_rate) == pytest.approx(0.002)
    assert (model.optimizer.momentum, model.optimizer.nesterov) == (0.9, True)
    kernels = [w for w in model.trainable_weights if w.path.endswith("kernel")]
    first, second, *dense = [w.numpy() for w in kernels]
    assert np.abs(first).max() <= 0.001 < 0.09 < np.abs(second).max() <= 0.1
    assert all(w.std() == pytest.approx(0.01, rel=0.02) for w in dense)
    assert (model.layers[1].bias.numpy() == np.float32(0.1)).all()
    # Weight decay, 0.001 sum w^2 of each kernel, and of nothing else.
    assert float(sum(model.losses)) == pytest.approx(
        0.001 * sum(float(np.square(w.numpy()).sum()) for w in kernels), rel=1e-4
    )


def test_last_pooling_window_counts():
    model = piczak.build(piczak.Recipe(width=0.05), 2, seed=0)
    inputs = np.zeros((2, 60, 41, 2), np.float32)
    inputs[1, :, -1] = 30.0  # only the last frame differs
    one, other = model.predict_on_batch(inputs)
    assert not np.array_equal(one, other)


def test_segments_by_hand():
    # 5 s are 110,250 samples; a short segment is 40 hops of 512, the next half of that later:
    # (110250 - 20480) // 10240 + 1 = 9.
    segments = piczak.log_mel_segments(_tone(1000))
    assert segments.shape == (9, 60, 41) and segments.dtype == np.float32
    # 60 mel bands (Slaney) up to 11 kHz: 1000 Hz is 15 mel of 48.1, so band 18 or 19 is loudest.
    assert segments.mean(axis=(0, 2)).argmax() in (17, 18, 19)
    # Scaled to the loudest sample first.
    np.testing.assert_allclose(piczak.log_mel_segments(0.01 * _tone(1000)), segments, atol=1e-3)


@pytest.mark.parametrize("scale", [1.0, 1e-3, 0.0])
def test_log_mels_are_librosas(scale):
    rng = np.random.default_rng(0)
    waveform = (scale * rng.normal(size=20_480)).astype(np.float32)
    waveform[:9000] = 0  # what is 80 dB fainter than the loudest
    energies = librosa.feature.melspectrogram(
        y=waveform, sr=22_050, n_fft=1024, hop_length=512, n_mels=60, pad_mode="reflect"
    )
    found = piczak._log_mels(waveform[None])
    assert found.shape == (1, 60, 41)
    np.testing.assert_allclose(found[0], librosa.power_to_db(energies), atol=2e-3)


def test_silent_segments_are_dropped_but_not_all_and_a_short_recording_is_padded():
    waveform = _tone(1000)
    waveform[40_000:] = 0
    assert len(piczak.log_mel_segments(waveform)) == 4  # those that begin before sample 40,000
    assert piczak.log_mel_segments(np.zeros(110_250, np.float32)).shape == (1, 60, 41)
    assert piczak.log_mel_segments(_tone(500, seconds=0.3)).shape == (1, 60, 41)


def test_deltas_by_hand():
    ramp = piczak.deltas(np.arange(20, dtype=np.float32)[None])
    assert ramp.shape == (1, 20)
    assert ramp[0, 8:].tolist() == [60.0] * 12  # 2 (1 + 4 + 9 + 16)
    step = piczak.deltas(np.repeat(np.float32([0, 1]), 12)[None])[0]
    # The window reaches from 8 frames before to the frame itself; weights 4, 3, 2, 1, 0, -1 ...
    assert step[12:21].tolist() == [4, 7, 9, 10, 10, 9, 7, 4, 0] and not step[3:12].any()


def test_augmented_copies():
    rng = np.random.default_rng(0)
    waveform = _tone(440, seconds=2)
    delayed = piczak.augment(waveform, (0, 1.0, 1.0), rng)
    late = len(delayed) - len(waveform)
    assert 0 <= late < 22_050 and not delayed[:late].any()
    np.testing.assert_array_equal(delayed[late:], waveform)
    changed = piczak.augment(waveform, (12, 1.25, 1.25), rng)
    sounding = np.trim_zeros(changed, "f")
    assert len(sounding) == pytest.approx(len(waveform) / 1.25, rel=0.02)
    spectrum = np.abs(np.fft.rfft(sounding))
    assert spectrum.argmax() * 22_050 / len(sounding) == pytest.approx(880, rel=0.01)
    assert (piczak.NUM_COPIES, piczak.OTHER_NUM_COPIES) == ({"ESC-10": 10}, 4)


def test_training_parts():
    folds = list("12345")
    assert piczak.training_parts(folds, folds, "1") == ["2", "3", "4"]
    assert piczak.training_parts(folds, folds, "3") == ["1", "4", "5"]
    assert piczak.training_parts(["1", "2"], ["1", "2"], "2") == ["1"]
    assert piczak.training_parts(["train", "test"], ["test"], "test") == ["train"]


def test_learns_separable_tones(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 10)
    tones = [_tone(300 * 3**label * rng.uniform(0.95, 1.05), seconds=1) for label in labels]
    noisy = [tone + 0.05 * rng.normal(size=len(tone)) for tone in tones]
    segments = np.stack([piczak.log_mel_segments(tone)[0] for tone in noisy])
    given = {"num_classes": 3, "seed": 0, "state_path": tmp_path / "state.npz"}
    model, standard, losses = piczak.train(TINY, segments, labels, **given)
    assert losses[0] > 1.0 and losses[-1] < 0.5 * losses[0]
    found = model.predict_on_batch(standard.inputs(segments)).argmax(axis=1)
    assert np.mean(found == labels) == 1


SEGMENTS = np.random.default_rng(0).normal(size=(12, 60, 41)).astype(np.float32)


def _train_on_noise(state_path, learning_rate=0.01, epochs=4):
    recipe = piczak.Recipe(learning_rate, epochs, width=0.05, batch_size=5)
    given = {"num_classes": 2, "seed": 0, "state_path": state_path}
    return piczak.train(recipe, SEGMENTS, np.arange(12) % 2, **given)


def test_diverged_training_is_no_result(tmp_path):
    with pytest.raises(UserError, match="diverged in epoch"):
        _train_on_noise(tmp_path / "state", learning_rate=1e6, epochs=5)


def test_killed_training_ends_as_one_that_was_not(tmp_path, monkeypatch):
    whole = _train_on_noise(tmp_path / "a")
    monkeypatch.setattr(epochs, "SAVE_EVERY_SECONDS", 0)
    calls, make_step = [], epochs.make_step

    def make_killed_step(models):
        step = make_step(models)

        def killed(*batch):
            calls.append(batch)
            if len(calls) == 8:  # three batches an epoch: in the third epoch
                raise KeyboardInterrupt
            return step(*batch)

        return killed

    monkeypatch.setattr(epochs, "make_step", make_killed_step)
    with pytest.raises(KeyboardInterrupt):
        _train_on_noise(tmp_path / "b")
    resumed = _train_on_noise(tmp_path / "b")
    assert resumed[2] == pytest.approx(whole[2][2:], rel=1e-5)  # dropout goes on as well
    inputs = whole[1].inputs(SEGMENTS)
    found, expected = (model.predict_on_batch(inputs) for model, *_ in (resumed, whole))
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert not (tmp_path / "b").exists()


@pytest.fixture(scope="module")
def esc(tmp_path_factory):
    folder = write_esc50(tmp_path_factory.mktemp("esc"), folds=range(1, 4), seconds=4.0)
    return recordings.read_esc50(folder)


def test_folds_end_to_end_and_a_part_done_is_not_done_again(esc, tmp_path, monkeypatch):
    predictions = piczak.evaluate(esc, TINY, cache_dir=tmp_path, seed=0)
    assert np.array_equal(predictions, esc.labels)
    monkeypatch.setattr(piczak, "train", None)
    assert np.array_equal(piczak.evaluate(esc, TINY, cache_dir=tmp_path, seed=0), predictions)
    with pytest.raises(TypeError):  # another seed is another result
        piczak.evaluate(esc, TINY, cache_dir=tmp_path, seed=1)


def test_killed_between_folds_goes_on(esc, tmp_path, monkeypatch):
    tested, killed = [], []

    def predict(data, recipe, extracted, part, *rest):
        if len(tested) == 1 and not killed:
            killed.append(part)
            raise KeyboardInterrupt
        tested.append(part)
        return [int(part), 0]

    monkeypatch.setattr(piczak, "extract", lambda *args, **kwargs: [])
    monkeypatch.setattr(piczak, "_test_part", predict)
    with pytest.raises(KeyboardInterrupt):
        piczak.evaluate(esc, TINY, cache_dir=tmp_path, seed=0)
    predictions = piczak.evaluate(esc, TINY, cache_dir=tmp_path, seed=0)
    assert tested == ["1", "2", "3"]
    assert [sorted(predictions[esc.parts == part]) for part in "123"] == [[0, 1], [0, 2], [0, 3]]


def test_shards_train_on_one_split_and_test_on_the_other(tmp_path):
    data = recordings.read_shards(write_sound_shards(tmp_path / "demo"))
    predictions = piczak.evaluate(data, TINY, cache_dir=tmp_path / "cache", seed=0)
    held = data.parts == "test"
    assert (predictions[~held] == -1).all()
    assert np.array_equal(predictions[held], data.labels[held])
