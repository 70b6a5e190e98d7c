import numpy as np
import pytest

from eval.methods import features
from eval.reporting import cache
from eval.sets.recordings import Recording
from l3net.errors import UserError
from tests.tiny_networks import save_tiny_network, write_metadata


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory):
    return save_tiny_network(tmp_path_factory.mktemp("net") / "saved_model")


def _recordings(lengths, seed=0):
    generator = np.random.default_rng(seed)
    return [_recording(generator.uniform(-1, 1, length).astype(np.float32)) for length in lengths]


def _recording(waveform):
    return Recording("x", "a", "1", lambda: cache.hash_array(waveform), lambda rate_hz: waveform)


def test_subclip_starts_by_hand():
    # 5 s: 192000 samples between first and last start, nine steps.
    starts = features.subclip_starts(240_000)
    assert starts.tolist() == [round(i * 192_000 / 9) for i in range(10)]
    assert len(features.subclip_starts(30 * 48_000)) == 60
    assert features.subclip_starts(30 * 48_000)[-1] == 29 * 48_000
    # ESC's files are a few samples off 5 s.
    assert len(features.subclip_starts(239_900)) == 10
    assert features.subclip_starts(72_000).tolist() == [0, 12_000, 24_000]
    assert features.subclip_starts(48_100).tolist() == [0, 100]
    assert features.subclip_starts(48_000).tolist() == [0]
    assert features.subclip_starts(10).tolist() == [0]


def test_subclips_are_cut_where_they_start_and_padded_with_zeros():
    waveform = np.arange(72_000, dtype=np.float32)
    cut = features.subclips(waveform)
    assert cut.shape == (3, 48_000)
    assert cut[:, 0].tolist() == [0, 12_000, 24_000] and cut[-1, -1] == 71_999
    short = features.subclips(np.ones(100, np.float32))
    assert short.shape == (1, 48_000) and short.sum() == 100


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_features_are_those_of_the_network_whatever_the_batches(tmp_path, saved_model, batch_size):
    network = features.AudioNetwork(saved_model)
    recordings = _recordings([96_000, 1_000, 120_000, 48_000])
    given = {"output": "conv4_2", "cache_dir": tmp_path, "batch_size": batch_size}
    found = features.extract(network, recordings, **given)
    assert found.recording_of.tolist() == [0] * 4 + [1] + [2] * 5 + [3]
    assert found.matrix.dtype == np.float32
    for i, recording in enumerate(recordings):
        expected = network(features.subclips(recording.load(48_000)), "conv4_2")
        np.testing.assert_allclose(found.matrix[found.recording_of == i], expected, rtol=1e-5)


def test_nothing_is_computed_twice_and_a_broken_file_is_mended(tmp_path, saved_model, monkeypatch):
    calls = []
    call = features.AudioNetwork.__call__

    def counted(self, waveforms, output):
        calls.append(len(waveforms))
        return call(self, waveforms, output)

    monkeypatch.setattr(features.AudioNetwork, "__call__", counted)
    recordings = _recordings([48_000, 96_000])

    def extract(some):
        network = features.AudioNetwork(saved_model)
        return features.extract(network, some, output="pool4", cache_dir=tmp_path).matrix

    first = extract(recordings[:1])
    assert sum(calls) == 1
    both = extract(recordings)  # an interrupted run goes on
    assert sum(calls) == 5
    np.testing.assert_array_equal(both[:1], first)
    np.testing.assert_array_equal(extract(recordings), both)
    assert sum(calls) == 5
    network = features.AudioNetwork(saved_model)
    key = features.feature_key(network, recordings[0], "pool4")
    cache.array_path(tmp_path / "features", key).write_bytes(b"\x93NUMPY")
    np.testing.assert_array_equal(extract(recordings), both)
    assert sum(calls) == 6


def test_another_network_or_sound_has_another_key_but_not_other_metadata(tmp_path, saved_model):
    one, two = _recordings([48_000]), _recordings([48_000], seed=1)
    network = features.AudioNetwork(saved_model)
    other = features.AudioNetwork(save_tiny_network(tmp_path / "other", gain=2.0))
    cases = [(network, one, "pool4"), (network, one, "conv4_2"), (network, two, "pool4")]
    cases.append((other, one, "pool4"))
    assert len({features.feature_key(a, sounds[0], output) for a, sounds, output in cases}) == 4
    assert other.metadata == {"frame_px": 64}
    digest = other.content_hash
    write_metadata(tmp_path / "other", trained_steps=3)
    after = features.AudioNetwork(tmp_path / "other")
    assert after.metadata == {"frame_px": 64, "trained_steps": 3}
    assert after.content_hash == digest


def _refused(network, output, match):
    with pytest.raises(UserError, match=match) as error:
        network(np.zeros((1, 48_000), np.float32), output)
    assert "\n" not in str(error.value)


def test_mistakes_are_one_line_that_names_what_there_is(tmp_path, saved_model):
    with pytest.raises(UserError, match="is no SavedModel of ours"):
        features.AudioNetwork(tmp_path)
    other = features.AudioNetwork(save_tiny_network(tmp_path / "m", signature="vision"))
    _refused(other, "pool4", r"no signature 'audio' \(it has vision\)")
    network = features.AudioNetwork(saved_model)
    _refused(network, "embedding", "gives conv4_2, pool4 for audio; got a request for 'embedding'")
    (tmp_path / "saved_model.pb").write_bytes(b"invalid")
    write_metadata(tmp_path)
    _refused(features.AudioNetwork(tmp_path), "pool4", "is a damaged SavedModel")
