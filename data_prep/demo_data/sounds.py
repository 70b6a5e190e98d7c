"""Synthesised sounds of the demo data set: one small function per class, and a room around them.

Pitch ranges, rhythms and loudness overlap between classes; what differs is how the sound is made.
"""

import dataclasses
from collections.abc import Iterable

import numpy as np
import scipy.fft
import scipy.signal
from numpy.random import Generator

from l3net import constants

RATE_HZ = constants.SAMPLE_RATE_HZ
_TABLE_SIZE = 4096
TICK_SAMPLES = 480
# Peak of the camera's ticks, against the RMS of the loudest half second of sound.
TICK_DB = (-30.0, -15.0)
_TWO_PI = np.float32(2 * np.pi)


@dataclasses.dataclass(frozen=True)
class Sound:
    """A dry sound."""

    waveform: np.ndarray  # float32 [num_samples], mono, 48 kHz, at any level
    attacks_seconds: np.ndarray  # float [num_attacks], when notes or strokes begin, increasing


# --- Time and pitch ------------------------------------------------------------------------------
def _attacks(rng: Generator, seconds: float, shortest: float, longest: float) -> np.ndarray:
    """Returns attack times from just before 0 to the end, with a tempo and human jitter."""
    beat = rng.uniform(shortest, longest)
    swing = rng.uniform(0, 0.1)
    division = rng.uniform(0, 0.5)
    times, time = [], -rng.uniform(0, beat)
    while time < seconds:
        times.append(time)
        step = beat / 2 if beat / 2 >= shortest and rng.random() < division else beat
        time += step * (1 + rng.uniform(-swing, swing))
    return np.array(times)


def _melody(rng: Generator, count: int, lowest_hz: float, highest_hz: float) -> np.ndarray:
    """Returns `count` pitches in hertz: a walk on a major or minor scale within a range."""
    scale = np.array([(0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10)][rng.integers(2)])
    semitones = np.concatenate([scale + 12 * octave for octave in range(6)])
    semitones = semitones[semitones <= 12 * np.log2(highest_hz / lowest_hz)]
    position = rng.integers(len(semitones))
    steps = rng.integers(-3, 4, count)
    walk = np.abs(position + np.cumsum(steps)) % (2 * len(semitones) - 1)
    walk = np.where(walk >= len(semitones), 2 * len(semitones) - 1 - walk, walk)
    return lowest_hz * rng.uniform(1, 1.06) * 2.0 ** (semitones[walk] / 12)


def _times(num_samples: int) -> np.ndarray:
    return np.arange(num_samples, dtype=np.float32) / np.float32(RATE_HZ)


def _drift(rng: Generator, num_samples: int, per_second: float) -> np.ndarray:
    """Returns a smooth random curve around 0 of about unit size, float32 [num_samples]."""
    num_knots = max(4, int(num_samples / RATE_HZ * per_second) + 3)
    knots = rng.standard_normal(num_knots)
    fine = scipy.signal.resample(knots, 16 * num_knots)[8:-8]
    where = np.linspace(0, len(fine) - 1, num_samples)
    return np.interp(where, np.arange(len(fine)), fine).astype(np.float32)


def _steps(values: np.ndarray, attacks: np.ndarray, num_samples: int) -> np.ndarray:
    """Returns a piecewise constant curve: each value from its attack to the next."""
    edges = np.clip(np.round(np.append(attacks, np.inf) * RATE_HZ), 0, num_samples).astype(int)
    return np.repeat(np.asarray(values, np.float32), np.diff(edges))


def _envelope(attacks: np.ndarray, num_samples: int, rise: float, fall: float, gap: float):
    """Returns the loudness of a melody: rises at attacks, falls by `gap` before them; seconds."""
    times = _times(num_samples)
    index = np.searchsorted(attacks, times, side="right") - 1
    since = times - attacks[np.maximum(index, 0)].astype(np.float32)
    until = np.append(attacks, np.inf)[index + 1].astype(np.float32) - times
    rising = 1 - np.exp(-since / np.float32(rise))
    falling = 1 - np.float32(gap) * np.exp(-until / np.float32(fall))
    return (rising * falling).astype(np.float32)


# --- Oscillators and noise -----------------------------------------------------------------------
def _table(amplitudes: np.ndarray, rng: Generator) -> np.ndarray:
    """Returns one period of a wave with the given harmonics at random phases, of unit power."""
    amplitudes = np.asarray(amplitudes, np.float64)
    spectrum = np.zeros(_TABLE_SIZE // 2 + 1, complex)
    phases = rng.uniform(0, 2 * np.pi, len(amplitudes))
    spectrum[1 : len(amplitudes) + 1] = amplitudes * np.exp(1j * phases)
    period = scipy.fft.irfft(spectrum)
    return (period / period.std()).astype(np.float32)


def _harmonics(pitch_hz: float, slope: float, highest_hz: float = 18_000.0) -> np.ndarray:
    """Returns amplitudes 1/n^slope of the harmonics below `highest_hz`."""
    count = int(np.clip(highest_hz / pitch_hz, 1, _TABLE_SIZE // 2))
    return np.arange(1, count + 1) ** -slope


def _formants(amplitudes: np.ndarray, pitch_hz: float, peaks: Iterable[tuple]) -> np.ndarray:
    """Raises harmonics near resonances, given as (hertz, relative width, gain)."""
    frequencies = pitch_hz * np.arange(1, len(amplitudes) + 1)
    gain = np.ones(len(amplitudes))
    for centre, width, height in peaks:
        gain += height * np.exp(-(((np.log2(frequencies / centre)) / width) ** 2))
    return amplitudes * gain


def _play(table: np.ndarray, frequency_hz: np.ndarray, rng: Generator) -> np.ndarray:
    """Runs through a wave table at a changing frequency."""
    phase = np.cumsum(frequency_hz, dtype=np.float64)
    phase = phase * (_TABLE_SIZE / RATE_HZ) + rng.uniform(0, _TABLE_SIZE)
    return table[phase.astype(np.int64) & (_TABLE_SIZE - 1)]


def _noise(rng: Generator, num_samples: int, gain_of) -> np.ndarray:
    """Returns noise of unit power whose spectrum is `gain_of(frequencies_hz)`."""
    size = scipy.fft.next_fast_len(num_samples, real=True)
    frequencies = np.fft.rfftfreq(size, 1 / RATE_HZ).astype(np.float32)
    spectrum = rng.standard_normal(2 * len(frequencies), dtype=np.float32).view(np.complex64)
    noise = scipy.fft.irfft(spectrum * gain_of(frequencies).astype(np.float32), size)[:num_samples]
    return noise / noise.std()


def _band(low_hz: float, high_hz: float, order: float = 2.0):
    """Returns a gain function that passes low_hz..high_hz."""

    def gain(frequencies: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore", over="ignore"):
            below = 1 / (1 + (low_hz / np.maximum(frequencies, 1)) ** (2 * order))
            return np.sqrt(below / (1 + (frequencies / high_hz) ** (2 * order)))

    return gain


def _modes(rng: Generator, seconds: float, *modes: np.ndarray) -> np.ndarray:
    """Returns a struck body: sines with frequencies (Hz), amplitudes and decays (s)."""
    times = _times(int(seconds * RATE_HZ))
    result = np.zeros_like(times)
    for frequency, amplitude, decay in zip(*modes, strict=True):
        if frequency < 20_000:
            end = min(len(times), int(7 * decay * RATE_HZ) + 1)
            part = times[:end]
            phase = np.float32(rng.uniform(0, 2 * np.pi))
            wave = np.sin(_TWO_PI * np.float32(frequency) * part + phase)
            result[:end] += np.float32(amplitude) * np.exp(-part / np.float32(decay)) * wave
    result[:48] *= np.linspace(0, 1, 48, dtype=np.float32)
    return result


def _pluck(rng: Generator, pitch_hz: float, seconds: float, decay: float, bright: float):
    """Returns a plucked string (Karplus-Strong): averaging neighbours damps the harmonics."""
    period = max(8, round(RATE_HZ / pitch_hz))
    num_periods = int(seconds * RATE_HZ / period) + 1
    harmonics = np.arange(period // 2 + 1)
    excitation = np.fft.rfft(rng.standard_normal(period)) / (1 + (harmonics / bright) ** 2)
    excitation *= np.abs(np.sin(np.pi * harmonics * rng.uniform(0.1, 0.5)))  # where it is plucked
    excitation[0] = 0
    loss = np.exp(-period / RATE_HZ / decay) * np.cos(np.pi * harmonics / period)
    powers = np.maximum(loss, 1e-6) ** np.arange(num_periods)[:, None]
    return scipy.fft.irfft((excitation * powers).astype(np.complex64), period).ravel()


def _mix(notes: Iterable[tuple[np.ndarray, float, float]], num_samples: int) -> np.ndarray:
    """Adds notes (waveform, time, gain); those that began before 0 are cut at the front."""
    result = np.zeros(num_samples, np.float32)
    for note, time, gain in notes:
        start = round(time * RATE_HZ)
        piece = note[max(0, -start) : max(0, num_samples - start)]
        begin = max(0, start)
        result[begin : begin + len(piece)] += np.float32(gain) * piece
    return result


def _played(rng: Generator, seconds: float, attacks: np.ndarray, notes: list[np.ndarray]) -> Sound:
    """Returns the sound of a note at each attack, louder and softer."""
    played = zip(notes, attacks, rng.uniform(0.5, 1.0, len(attacks)), strict=True)
    return Sound(_mix(played, int(seconds * RATE_HZ)), attacks)


# --- Plucked and struck --------------------------------------------------------------------------
def acoustic_guitar(rng: Generator, seconds: float) -> Sound:
    """Strummed chords or a picked pattern."""
    attacks = _attacks(rng, seconds, 0.22, 0.6)
    strum = rng.random() < 0.5
    roots = _melody(rng, len(attacks), 82, 180)
    bright, decay = rng.uniform(8, 20), rng.uniform(0.3, 0.8)
    notes = []
    for time, root, velocity in zip(
        attacks, roots, rng.uniform(0.5, 1.0, len(attacks)), strict=True
    ):
        chord = root * 2 ** (np.array([0, 7, 12, 16, 19, 24])[: rng.integers(3, 7)] / 12)
        for string, pitch in enumerate(chord if strum else rng.choice(chord, 1)):
            note = _pluck(rng, pitch, 1.2, decay, bright)
            notes.append((note, time + 0.012 * string, velocity))
    return Sound(_mix(notes, int(seconds * RATE_HZ)), attacks)


def harp(rng: Generator, seconds: float) -> Sound:
    """Arpeggios and runs of soft, long notes."""
    attacks = _attacks(rng, seconds, 0.1, 0.3)
    pitches = _melody(rng, len(attacks), 260, 1500)
    bright, decay = rng.uniform(1.5, 3.5), rng.uniform(0.6, 1.6)
    notes = [_pluck(rng, pitch, 1.5, decay, bright) for pitch in pitches]
    return _played(rng, seconds, attacks, notes)


def church_bell(rng: Generator, seconds: float) -> Sound:
    """A bell's hum, prime, minor tierce, quint and nominal, which beat."""
    attacks = _attacks(rng, seconds, 0.5, 1.0)
    prime = np.exp(rng.uniform(np.log(250), np.log(700)))
    ratios = np.array([0.5, 1, 1.2, 1.5, 2, 2.51, 2.66, 3.01, 4.17, 5.43, 6.8])
    ratios = np.concatenate([ratios, ratios[:5] * (1 + rng.uniform(0.001, 0.006, 5))])
    amplitudes = rng.uniform(0.3, 1.0, len(ratios)) * ratios**-0.1
    decays = rng.uniform(1.0, 3.0) / ratios**0.8
    strike = _modes(rng, min(seconds + 1, 3.0), prime * ratios, amplitudes, decays)
    return _played(rng, seconds, attacks, [strike] * len(attacks))


def marimba(rng: Generator, seconds: float) -> Sound:
    """Tuned bars, 1 : 4 : 9.2 (marimba) or 1 : 3 : 6 (xylophone), short and woody."""
    attacks = _attacks(rng, seconds, 0.12, 0.34)
    ratios = np.array([[1, 3.93, 9.24], [1, 3.0, 6.1]][rng.integers(2)])
    base_decay = rng.uniform(0.08, 0.3)
    notes = []
    for pitch in _melody(rng, len(attacks), 200, 1300):
        decays = base_decay * (400 / pitch) ** 0.5 / np.array([1, 3, 6])
        amplitudes = [1, rng.uniform(0.1, 0.5), rng.uniform(0.03, 0.2)]
        notes.append(_modes(rng, 0.9, pitch * ratios, np.array(amplitudes), decays))
    return _played(rng, seconds, attacks, notes)


def snare_drum(rng: Generator, seconds: float) -> Sound:
    """A skin at 150..260 Hz under rattling wires; now and then a roll."""
    fast = rng.random() < 0.3
    attacks = _attacks(rng, seconds, *((0.06, 0.1) if fast else (0.15, 0.4)))
    skin = rng.uniform(150, 260) * np.array([1, 1.59, 2.14])
    body = _modes(rng, 0.4, skin, np.array([1, 0.5, 0.4]), rng.uniform(0.04, 0.1) / np.arange(1, 4))
    wires = _noise(rng, len(body), _band(rng.uniform(800, 2500), rng.uniform(5000, 11000)))
    wires = wires * np.exp(-_times(len(body)) / np.float32(rng.uniform(0.04, 0.12)))
    hit = body / np.abs(body).max() + np.float32(rng.uniform(0.15, 0.6)) * wires
    return _played(rng, seconds, attacks, [hit] * len(attacks))


def hi_hat(rng: Generator, seconds: float) -> Sound:
    """Short bursts of bright, metallic noise; open ones ring longer."""
    attacks = _attacks(rng, seconds, 0.12, 0.34)
    length = int(0.6 * RATE_HZ)
    noise = _noise(rng, length, _band(rng.uniform(3000, 7000), 17_000))
    metal = rng.uniform(300, 700) * np.array([2.0, 3.0, 4.16, 5.43, 6.79, 8.21])
    times = _times(length)
    for frequency in metal * rng.uniform(1, 1.5):
        noise += 0.25 * np.sign(np.sin(_TWO_PI * np.float32(frequency) * times))
    noise = np.diff(noise, prepend=0)
    closed, ringing = rng.uniform(0.025, 0.08), rng.uniform(0.15, 0.4)
    openness = rng.uniform(0, 0.5)
    decays = [np.float32(ringing if rng.random() < openness else closed) for _ in attacks]
    hits = [noise * np.exp(-times / decay) for decay in decays]
    return _played(rng, seconds, attacks, hits)


def hammer(rng: Generator, seconds: float) -> Sound:
    """Blows: a click and the short ringing of nail and wood, or of metal."""
    attacks = _attacks(rng, seconds, 0.24, 0.42)
    metal = rng.uniform(0, 1)
    frequencies = np.exp(rng.uniform(np.log(180), np.log(4500), 12))
    decays = rng.uniform(0.01, 0.03 + 0.09 * metal, 12)
    ring = _modes(rng, 0.5, frequencies, rng.uniform(0.2, 1, 12), decays)
    click = _noise(rng, len(ring), _band(rng.uniform(200, 900), rng.uniform(3000, 9000)))
    click = click * np.exp(-_times(len(ring)) / np.float32(rng.uniform(0.004, 0.012)))
    blow = ring + np.float32(rng.uniform(0.5, 2)) * click
    return _played(rng, seconds, attacks, [blow] * len(attacks))


# --- Sustained -----------------------------------------------------------------------------------
def _vibrato(rng: Generator, num_samples: int, depth: float) -> np.ndarray:
    rate = rng.uniform(4.5, 6.5)
    times = _times(num_samples)
    wobble = np.sin(_TWO_PI * np.float32(rate) * times + np.float32(rng.uniform(0, 6)))
    return 1 + np.float32(depth) * wobble + np.float32(0.002) * _drift(rng, num_samples, 4)


def organ(rng: Generator, seconds: float) -> Sound:
    """Chords of drawbar or pipe stops, steady, with a little wind."""
    num_samples = int(seconds * RATE_HZ)
    attacks = _attacks(rng, seconds, 0.5, 1.4)
    stops = np.zeros(24)
    for footage, chance in ((1, 1), (2, 1), (3, 0.5), (4, 1), (6, 0.5), (8, 0.9), (16, 0.8)):
        stops[footage - 1] = (rng.random() < chance) * rng.uniform(0.3, 1)
    table = _table(stops, rng)
    roots = _melody(rng, len(attacks), 82, 250)
    waveform = np.zeros(num_samples, np.float32)
    tremolo = _vibrato(rng, num_samples, rng.choice([0, 0.004]))
    for interval in (0, 7, 12, 16)[: rng.integers(2, 5)]:
        pitch = _steps(roots * 2 ** (interval / 12), attacks, num_samples)
        waveform += _play(table, pitch * tremolo, rng)
    waveform *= _envelope(attacks, num_samples, 0.02, 0.02, 0.9)
    wind = _noise(rng, num_samples, _band(300, 4000, 1.0))
    return Sound(waveform + np.float32(0.03) * wind, attacks)


def flute(rng: Generator, seconds: float) -> Sound:
    """A melody of few harmonics with vibrato and breath."""
    num_samples = int(seconds * RATE_HZ)
    attacks = _attacks(rng, seconds, 0.18, 0.7)
    pitches = _melody(rng, len(attacks), 260, 1200)
    pitch = _steps(pitches, attacks, num_samples)
    table = _table(np.array([1, rng.uniform(0.2, 0.7), rng.uniform(0.05, 0.3), 0.06, 0.03]), rng)
    vibrato = _vibrato(rng, num_samples, rng.uniform(0.002, 0.008))
    tone = _play(table, pitch * vibrato, rng)
    tone *= 1 + np.float32(25) * (vibrato - 1)
    centre = float(np.median(pitches))
    breath = _noise(rng, num_samples, _band(centre, 7000, 1.0))
    envelope = _envelope(attacks, num_samples, rng.uniform(0.02, 0.06), 0.03, 0.8)
    breathiness = np.float32(rng.uniform(0.2, 0.5))
    return Sound((tone + breathiness * breath) * envelope, attacks)


def violin(rng: Generator, seconds: float) -> Sound:
    """A bowed melody: many harmonics through a body's resonances, vibrato, bow noise."""
    num_samples = int(seconds * RATE_HZ)
    attacks = _attacks(rng, seconds, 0.18, 0.8)
    pitches = _melody(rng, len(attacks), 196, 900)
    middle = float(np.median(pitches))
    peaks = [(450 * rng.uniform(0.9, 1.1), 0.4, 1.5), (rng.uniform(900, 1300), 0.4, 1.5)]
    peaks += [(rng.uniform(2000, 3500), 0.5, 3.0)]
    table = _table(_formants(_harmonics(middle, 1.0, 14_000), middle, peaks), rng)
    depth = rng.uniform(0.003, 0.012)
    pitch = _steps(pitches, attacks, num_samples) * _vibrato(rng, num_samples, depth)
    tone = _play(table, pitch, rng)
    bow = _noise(rng, num_samples, _band(1500, 8000, 1.0))
    pressure = 1 + np.float32(0.2) * _drift(rng, num_samples, 5)
    envelope = _envelope(attacks, num_samples, rng.uniform(0.03, 0.1), 0.03, 0.7) * pressure
    return Sound((tone + np.float32(rng.uniform(0.03, 0.1)) * bow) * envelope, attacks)


def trumpet(rng: Generator, seconds: float) -> Sound:
    """A tongued melody that gets brighter as it gets louder."""
    num_samples = int(seconds * RATE_HZ)
    attacks = _attacks(rng, seconds, 0.16, 0.6)
    pitches = _melody(rng, len(attacks), 175, 800)
    middle = float(np.median(pitches))
    formant = [(rng.uniform(1000, 1600), 0.6, 3.0)]
    bright = _formants(_harmonics(middle, 0.6, 9000), middle, formant)
    dull = _formants(_harmonics(middle, 2.0, 9000), middle, formant)
    phases = rng.integers(2**31)  # the same for both, so that they blend
    tables = [_table(part, np.random.default_rng(phases)) for part in (bright, dull)]
    pitch = _steps(pitches, attacks, num_samples) * _vibrato(rng, num_samples, 0.003)
    loud, soft = (_play(table, pitch, np.random.default_rng(phases)) for table in tables)
    envelope = _envelope(attacks, num_samples, rng.uniform(0.015, 0.05), 0.03, 0.95)
    envelope *= 1 + np.float32(0.15) * _drift(rng, num_samples, 4)
    brightness = np.clip(envelope, 0, 1) ** 2 * np.float32(rng.uniform(0.4, 1))
    return Sound((soft + brightness * (loud - soft)) * envelope, attacks)


def accordion(rng: Generator, seconds: float) -> Sound:
    """Chords of beating reeds under a bellows that swells."""
    num_samples = int(seconds * RATE_HZ)
    attacks = _attacks(rng, seconds, 0.25, 0.8)
    roots = _melody(rng, len(attacks), 196, 500)
    middle = float(np.median(roots))
    duty = rng.uniform(0.15, 0.4)
    pulse = _harmonics(middle, 0.9, 11_000)
    pulse = pulse * np.abs(np.sin(np.pi * duty * np.arange(1, len(pulse) + 1)))
    table = _table(pulse, rng)
    detune = rng.uniform(0.002, 0.009)
    waveform = np.zeros(num_samples, np.float32)
    for interval in (0, 4, 7, 12)[: rng.integers(1, 4)]:
        pitch = _steps(roots * 2 ** (interval / 12), attacks, num_samples)
        for reed in (-detune, 0, detune)[: rng.integers(2, 4)]:
            waveform += _play(table, pitch * np.float32(1 + reed), rng)
    swell = np.exp(np.float32(0.35) * _drift(rng, num_samples, 3))
    return Sound(waveform * swell * _envelope(attacks, num_samples, 0.03, 0.03, 0.7), attacks)


# --- Tools ---------------------------------------------------------------------------------------
def drill(rng: Generator, seconds: float) -> Sound:
    """A motor whose speed sinks under load, its gears and its brushes."""
    num_samples = int(seconds * RATE_HZ)
    attacks = _attacks(rng, seconds, 0.6, 1.5)
    load = _steps(rng.uniform(0.6, 1, len(attacks)), attacks, num_samples)
    load = np.convolve(np.pad(load, 3000, "edge")[::60], np.ones(100) / 100, "same")
    load = np.interp(np.arange(num_samples) / 60 + 50, np.arange(len(load)), load)
    speed = rng.uniform(90, 260) * load * (1 + 0.01 * _drift(rng, num_samples, 40))
    motor = _table(_harmonics(180, rng.uniform(0.5, 1.1), 9000) * rng.uniform(0.2, 1, 50), rng)
    gear = _table(_harmonics(1200, 1.0, 12_000), rng)
    waveform = _play(motor, speed, rng)
    ratio = rng.choice([5.4, 6.67, 7.3, 9.1])
    waveform += np.float32(rng.uniform(0.2, 0.8)) * _play(gear, speed * ratio, rng)
    brushes = _noise(rng, num_samples, _band(rng.uniform(800, 3000), 12_000, 1.0))
    waveform += np.float32(rng.uniform(0.3, 1.2)) * brushes * (1.2 - load).astype(np.float32)
    return Sound(waveform.astype(np.float32), attacks)


def sawing(rng: Generator, seconds: float) -> Sound:
    """Strokes there and back: teeth rasp faster in the middle of each."""
    num_samples = int(seconds * RATE_HZ)
    attacks = _attacks(rng, seconds, 0.2, 0.4)
    ends = np.append(attacks, attacks[-1] + (attacks[-1] - attacks[-2]))
    times = _times(num_samples)
    position = np.interp(times, ends, np.arange(len(ends)))
    motion = np.abs(np.sin(np.pi * position)).astype(np.float32)
    teeth_hz = rng.uniform(60, 220) * (0.3 + motion)
    teeth = 0.5 + 0.5 * _play(_table(np.array([1, 0.5, 0.3]), rng), teeth_hz, rng)
    low = rng.uniform(500, 1800)
    rasp = _noise(rng, num_samples, _band(low, low * rng.uniform(2, 6), 1.0))
    pull = np.where(position.astype(int) % 2 == 0, 1.0, rng.uniform(0.3, 1.0)).astype(np.float32)
    waveform = rasp * np.maximum(teeth, 0) * pull * motion ** np.float32(rng.uniform(0.5, 1.5))
    return Sound(waveform.astype(np.float32), attacks)


# --- Room, microphone, background ----------------------------------------------------------------
def record(rng: Generator, sound: Sound) -> np.ndarray:
    """Records a sound in a random room: float32 [num_samples, 1 or 2], within (-1, 1)."""
    num_samples = len(sound.waveform)
    room = _room(rng)
    size = scipy.fft.next_fast_len(num_samples + len(room), real=True)
    frequencies = np.fft.rfftfreq(size, 1 / RATE_HZ).astype(np.float32)
    spectrum = scipy.fft.rfft(sound.waveform, size) * scipy.fft.rfft(room, size)
    wet = scipy.fft.irfft(spectrum * _microphone(rng, frequencies), size)[:num_samples]
    wet = wet / _loudness(wet)
    signal_to_noise_db = rng.uniform(22, 42)
    mixed = wet + np.float32(10 ** (-signal_to_noise_db / 20)) * _background(rng, num_samples)
    mixed += _camera(rng, num_samples)
    level = 10 ** (rng.uniform(-13, -3) / 20)
    mono = np.float32(level) * mixed / np.abs(mixed).max()
    if rng.random() < 0.5:
        return mono[:, None]
    pan, delay = rng.uniform(-0.4, 0.4), int(rng.integers(0, 30))
    return np.stack([(1 - max(0, pan)) * mono, (1 + min(0, pan)) * np.roll(mono, delay)], axis=1)


def _loudness(waveform: np.ndarray) -> float:
    """Returns the RMS of the loudest half second: a rhythm of hits has many gaps."""
    power = waveform[: len(waveform) // 2400 * 2400].reshape(-1, 2400)
    power = np.convolve((power**2).mean(axis=1), np.ones(10) / 10, "valid")
    return float(np.sqrt(power.max())) + 1e-9


def _room(rng: Generator) -> np.ndarray:
    """Returns an impulse response: the direct sound and a decaying, darkening tail."""
    decay = rng.uniform(0.03, 0.25)
    times = _times(int(5 * decay * RATE_HZ))
    tail = rng.standard_normal(len(times), dtype=np.float32) * np.exp(-times / np.float32(decay))
    tail = scipy.signal.lfilter([0.35], [1, -0.65], tail).astype(np.float32)
    wetness = rng.uniform(0.05, 0.3)
    tail *= np.float32(wetness) / np.sqrt((tail**2).sum())
    tail[0] += 1
    return tail


def _microphone(rng: Generator, frequencies: np.ndarray) -> np.ndarray:
    """Returns a gain per frequency: a tilt, a few humps and a cut at both ends."""
    octaves = np.log2(np.maximum(frequencies, 20) / 1000)
    decibels = rng.uniform(-1, 1) * octaves
    for _ in range(3):
        centre, width = rng.uniform(-3.5, 3.5), rng.uniform(0.3, 1)
        decibels += rng.uniform(-3, 3) * np.exp(-(((octaves - centre) / width) ** 2))
    cut = _band(rng.uniform(40, 200), np.exp(rng.uniform(np.log(9000), np.log(20_000))))
    return (10 ** (decibels / 20) * cut(frequencies)).astype(np.float32)


def _camera(rng: Generator, num_samples: int) -> np.ndarray:
    """Returns a faint tick at each frame: the low-level cue that OTS §3.3's sampling keeps out."""
    ticks = np.zeros(num_samples, np.float32)
    ticks[:: RATE_HZ // constants.FRAME_RATE_HZ] = 1
    times = _times(TICK_SAMPLES)
    tick = _noise(rng, TICK_SAMPLES, _band(4000, 10_000)) * np.exp(-times / np.float32(0.0015))
    tick *= np.float32(10 ** (rng.uniform(*TICK_DB) / 20)) / np.abs(tick).max()
    return scipy.signal.fftconvolve(ticks, tick)[:num_samples].astype(np.float32)


def _background(rng: Generator, num_samples: int) -> np.ndarray:
    """Returns background of unit power: coloured noise, mains hum, a murmur of voices."""
    slope = rng.uniform(0.3, 1.1)
    noise = _noise(rng, num_samples, lambda hz: np.maximum(hz, 30) ** -slope)
    if rng.random() < 0.5:
        murmur = _noise(rng, num_samples, _band(250, rng.uniform(1000, 2500)))
        swell = np.exp(0.7 * _drift(rng, num_samples, 8))
        noise += np.float32(rng.uniform(0.3, 1.5)) * murmur * swell
    if rng.random() < 0.3:
        hum = _table(np.array([1, 0.5, 0.6, 0.2, 0.3]), rng)
        pitch = np.full(num_samples, rng.choice([50.0, 60.0]))
        noise += np.float32(rng.uniform(0.1, 0.6)) * _play(hum, pitch, rng)
    return noise / noise.std()
