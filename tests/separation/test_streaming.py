import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vocalsep_jax.audio.masks import apply_mask
from vocalsep_jax.audio.stft import Stft
from vocalsep_jax.separation.streaming import (
    MaskFilter,
    ShiftedFilter,
    VoiceStream,
    _Frames,
    channel_groups,
)

STFT = Stft(62, 21)


def of_its_surroundings(x):
    """A network whose mask depends on the whole patch, of each channel by itself."""
    return x / (1 + x + x.mean(axis=(1, 2), keepdims=True))


def of_both_channels(x):
    """A network of two channels, of which each mask depends on both, and not alike."""
    assert x.shape[3:] == (2,)
    unlike = np.float32([[[[1.0, 0.5]]]])
    return unlike * x / (1 + x + 2 * x[..., ::-1] + x.mean(axis=(1, 2), keepdims=True))


def make(predict=of_its_surroundings, channels=2, **options):
    defaults = {"patch_frames": 32, "batch_size": 4, "overlap": 0.5}
    return MaskFilter(STFT, predict, channels=channels, **(defaults | options))


def through(stream, x, *cuts):
    """What comes of `x`, cut there."""
    pieces = np.split(x, sorted(cuts))
    return np.concatenate([*(stream.push(piece) for piece in pieces), stream.finish()])


def noise(samples, channels=2):
    return np.random.default_rng(samples).uniform(-1, 1, (samples, channels)).astype(np.float32)


def held(stream):
    """Numbers in all arrays of a filter, those of its frames with the room around them."""
    arrays = [getattr(x, "_room", x) for x in vars(stream).values()]
    return sum(x.size for x in arrays if isinstance(x, np.ndarray))


class TestFrames:
    """Frames that come and go."""

    @pytest.mark.parametrize("seed", range(3))
    def test_they_are_a_queue_of_which_all_can_be_written(self, seed):
        rng, frames, expected = np.random.default_rng(seed), _Frames((2,), np.float32), []
        for n in range(200):
            new = rng.standard_normal((int(rng.integers(0, 9)), 2)).astype(np.float32)
            frames.append(len(new))[:] = new
            expected.extend(new.copy())
            frames.kept[: n % 3] += 1
            for x in expected[: n % 3]:
                x += 1
            gone = int(rng.integers(0, len(expected) + 1)) if n % 2 else 0
            frames.drop(gone)
            expected = expected[gone:]
            assert len(frames) == len(expected)
            np.testing.assert_array_equal(frames.kept, np.reshape(expected, (-1, 2)))

    def test_room_is_used_again(self):
        frames = _Frames((), np.float32)
        rooms = set()
        for _ in range(1000):
            frames.append(10)[:] = 0
            frames.drop(max(0, len(frames) - 15))
            rooms.add(len(frames._room))
        assert max(rooms) <= 2 * 25
        assert len(rooms) <= 3


class TestMaskFilter:
    """The filter at the network's rate."""

    @pytest.mark.parametrize("samples", [1, 61, 62, 700, 9000])
    @pytest.mark.parametrize("overlap", [0.0, 0.3, 0.75])
    def test_a_mask_of_each_bin_alone_is_the_plain_filter(self, samples, overlap):
        x = noise(samples)
        expected = apply_mask(x, STFT, lambda m: m / (1 + m))
        ours = through(make(lambda m: m / (1 + m), overlap=overlap), x)
        np.testing.assert_allclose(ours, expected, atol=2e-6)

    @settings(deadline=None, max_examples=40)
    @given(
        st.integers(1, 6000),
        st.integers(1, 3),
        st.lists(st.integers(0, 6000), max_size=6),
        st.integers(1, 9),
    )
    def test_neither_blocks_nor_batches_change_the_result(self, samples, channels, cuts, batch_size):
        x = noise(samples, channels)
        ours = through(make(channels=channels, batch_size=batch_size), x, *cuts)
        assert ours.shape == x.shape
        np.testing.assert_allclose(ours, through(make(channels=channels), x), atol=1e-6)

    def test_the_mask_is_averaged_from_the_patches_over_each_frame(self):
        """By hand: all patches of a whole spectrogram, weighted by a squared sine."""
        x = noise(4000, 1)
        spectrum = STFT.analyse(x)
        frames = spectrum.shape[-1]
        starts = range(0, frames - 32 + 16, 16)
        padded = np.pad(np.abs(spectrum[0]), ((0, 0), (0, starts[-1] + 32 - frames)))
        weight = np.sin(np.pi * (np.arange(32) + 0.5) / 32) ** 2
        mask, total = np.zeros_like(padded), np.zeros(padded.shape[1])
        for start in starts:
            mask[:, start : start + 32] += (
                weight * of_its_surroundings(padded[None, :, start : start + 32])[0]
            )
            total[start : start + 32] += weight
        expected = STFT.synthesise(spectrum * (mask / total)[:, :frames], 4000)
        np.testing.assert_allclose(through(make(channels=1), x, 1234), expected, atol=2e-6)

    def test_the_network_is_called_with_one_shape(self):
        shapes = set()

        def network(x):
            shapes.add((x.shape, x.dtype))
            return x

        through(make(network), noise(5000), 100, 2000)
        assert shapes == {((4, 32, 32), np.dtype(np.float32))}

    @pytest.mark.parametrize(("channels", "batch_size"), [(1, 1), (2, 4), (3, 16)])
    def test_the_delay_and_what_is_held_are_bounded(self, channels, batch_size):
        stream, came, went = make(channels=channels, batch_size=batch_size), 0, 0
        for _ in range(300):
            came += 100
            went += len(stream.push(noise(100, channels)))
            assert 0 <= came - went <= stream.latency
            assert held(stream) < 6 * stream.latency * channels * STFT.bins / STFT.hop
        assert went > 20_000

    def test_a_steady_tone_through_a_constant_mask_has_no_level_jump(self):
        t = np.arange(20_000) / 8000
        x = np.sin(2 * np.pi * 440 * t).astype(np.float32)[:, None]
        ours = through(make(lambda m: np.full_like(m, 0.5), channels=1), x, *range(0, 20_000, 777))
        np.testing.assert_allclose(ours, 0.5 * x, atol=2e-6)

    def test_neighbouring_patches_fade_into_each_other(self):
        calls = iter(range(1000))

        def network(x):  # a different constant for each patch
            return np.full_like(x, next(calls) % 2)

        t = np.arange(30_000) / 8000
        x = np.sin(2 * np.pi * 1000 * t).astype(np.float32)[:, None]
        y = through(make(network, channels=1, batch_size=1), x)
        level = np.sqrt(np.convolve(y[:, 0] ** 2, np.ones(80) / 80, "valid")[100:-100:21])
        assert level.min() < 0.1
        assert level.max() > 0.6
        assert np.abs(np.diff(level)).max() < 0.15

    def test_silence_stays_silence(self):
        assert not through(make(), np.zeros((3000, 2), np.float32)).any()
        stereo = make(of_both_channels, groups=[(0, 1)])
        assert not through(stereo, np.zeros((3000, 2), np.float32)).any()

    def test_nothing_gives_nothing(self):
        assert through(make(), np.zeros((0, 2), np.float32)).shape == (0, 2)


class TestChannelGroups:
    """Which channels the network sees together."""

    @pytest.mark.parametrize(
        ("arguments", "groups"),
        [
            ((1, 1), [(0,)]),
            ((3, 1), [(0,), (1,), (2,)]),
            ((2, 2), [(0, 1)]),
            ((1, 2), [(0, 0)]),
            ((3, 2), [(0, 1), (2, 2)]),
            ((5, 2), [(0, 1), (2, 3), (4, 4)]),
            ((2, 3), [(0, 1, 1)]),
            ((2, 2, 3), [(0, 1), (2, 3), (4, 5)]),
            ((1, 2, 2), [(0, 0), (1, 1)]),
            ((3, 2, 2), [(0, 1), (2, 2), (3, 4), (5, 5)]),
            ((2, 1, 2), [(0,), (1,), (2,), (3,)]),
        ],
    )
    def test_by_their_number_in_their_order_and_the_last_for_those_that_are_missing(
        self, arguments, groups
    ):
        assert channel_groups(*arguments) == groups

    @given(st.integers(1, 9), st.integers(1, 4), st.integers(1, 4))
    def test_every_channel_is_in_one_group(self, channels, together, copies):
        groups = channel_groups(channels, together, copies)
        assert {len(group) for group in groups} == {together}
        assert sorted(c for group in groups for c in set(group)) == list(range(channels * copies))
        for group in groups:
            assert len({c // channels for c in group}) == 1  # of one copy


class TestChannelsTogether:
    """The filter with a network that sees channels together."""

    def make(self, predict=of_both_channels, channels=2, copies=1, **options):
        groups = channel_groups(channels, 2, copies)
        return make(predict, channels * copies, groups=groups, **options)

    def test_the_network_sees_left_and_right_of_one_place(self):
        seen = []

        def network(x):
            seen.append(x.copy())
            return x

        x = noise(4000)
        through(self.make(network), x, 1234)
        assert {(y.shape, y.dtype) for y in seen} == {((4, 32, 32, 2), np.dtype(np.float32))}
        patches = np.concatenate(seen)
        magnitude = np.abs(STFT.analyse(x))
        frames = magnitude.shape[-1]
        count = -(-(frames - 32) // 16) + 1
        padded = np.pad(magnitude, ((0, 0), (0, 0), (0, (count - 1) * 16 + 32 - frames)))
        for n, patch in enumerate(patches[:count]):
            expected = np.moveaxis(padded[:, :, 16 * n : 16 * n + 32], 0, -1)
            np.testing.assert_allclose(patch, expected, atol=1e-5)
        assert not patches[count:].any()  # the last batch is filled up

    @settings(deadline=None, max_examples=30)
    @given(st.integers(1, 5000), st.integers(1, 5), st.lists(st.integers(0, 5000), max_size=4))
    def test_a_network_that_treats_channels_alone_is_one_of_a_channel(self, samples, channels, cuts):
        x = noise(samples, channels)
        ours = through(self.make(of_its_surroundings, channels), x, *cuts)
        np.testing.assert_allclose(ours, through(make(channels=channels), x), atol=1e-6)

    @settings(deadline=None, max_examples=30)
    @given(
        st.integers(1, 5000),
        st.integers(1, 4),
        st.lists(st.integers(0, 5000), max_size=4),
        st.integers(1, 9),
    )
    def test_neither_blocks_nor_batches_change_the_result(self, samples, channels, cuts, batch_size):
        x = noise(samples, channels)
        ours = through(self.make(channels=channels, batch_size=batch_size), x, *cuts)
        assert ours.shape == x.shape
        np.testing.assert_allclose(ours, through(self.make(channels=channels), x), atol=1e-6)

    def test_the_mask_of_a_channel_is_applied_to_it(self):
        """Each has one of its own: left all, right a quarter."""
        x = noise(3000)
        ours = through(self.make(lambda m: np.ones_like(m) * np.float32([1.0, 0.25])), x)
        np.testing.assert_allclose(ours, x * [1.0, 0.25], atol=2e-6)

    def test_mono_is_stereo_whose_sides_are_the_same_and_gets_the_mean_of_their_masks(self):
        x = noise(4000, 1)
        both = through(self.make(), np.repeat(x, 2, axis=1))
        assert np.abs(both[:, 0] - both[:, 1]).max() > 0.01  # the network's masks are not the same
        np.testing.assert_allclose(
            through(self.make(channels=1), x, 777)[:, 0], both.mean(axis=1), atol=1e-6
        )

    def test_of_three_channels_the_third_is_mono(self):
        x = noise(4000, 3)
        ours = through(self.make(channels=3), x, 99, 2500)
        np.testing.assert_allclose(ours[:, :2], through(self.make(), x[:, :2]), atol=1e-6)
        np.testing.assert_allclose(ours[:, 2:], through(self.make(channels=1), x[:, 2:]), atol=1e-6)

    @pytest.mark.parametrize(("channels", "batch_size"), [(1, 1), (2, 4), (3, 16)])
    def test_the_delay_and_what_is_held_are_bounded(self, channels, batch_size):
        stream, came, went = self.make(channels=channels, batch_size=batch_size), 0, 0
        for _ in range(300):
            came += 100
            went += len(stream.push(noise(100, channels)))
            assert 0 <= came - went <= stream.latency
            assert held(stream) < 6 * stream.latency * channels * STFT.bins / STFT.hop
        assert went > 20_000

    @pytest.mark.parametrize("channels", [1, 2, 3])
    def test_shifts_are_averaged_by_channel(self, channels):
        """The copies of a shift are seen together, and no two shifts are."""
        x, shifts = noise(3000, channels), [0, 100, 7]
        inner = self.make(channels=channels, copies=3)
        ours = through(ShiftedFilter(inner, channels, shifts), x, 500)
        expected = [
            through(self.make(channels=channels), np.pad(x, ((shift, 100 - shift), (0, 0))))[shift:][:3000]
            for shift in shifts
        ]
        np.testing.assert_allclose(ours, np.mean(expected, axis=0), atol=1e-6)


class TestShiftedFilter:
    """The mean over shifts."""

    def shifted(self, shifts, channels=2, **options):
        return ShiftedFilter(make(channels=channels * len(shifts), **options), channels, shifts)

    @pytest.mark.parametrize("shifts", [[0], [0, 100], [7, 0, 333]])
    @pytest.mark.parametrize("samples", [1, 500, 5000])
    def test_it_is_the_mean_of_the_shifted_filters(self, shifts, samples):
        x = noise(samples)
        most = max(shifts)
        expected = np.mean(
            [
                through(make(), np.pad(x, ((shift, most - shift), (0, 0))))[shift : shift + samples]
                for shift in shifts
            ],
            axis=0,
        )
        ours = through(self.shifted(shifts), x)
        np.testing.assert_allclose(ours, expected, atol=1e-6)

    @settings(deadline=None, max_examples=20)
    @given(st.integers(1, 5000), st.lists(st.integers(0, 5000), max_size=5), st.integers(1, 9))
    def test_neither_blocks_nor_batches_change_the_result(self, samples, cuts, batch_size):
        x = noise(samples)
        ours = through(self.shifted([0, 168], batch_size=batch_size), x, *cuts)
        assert ours.shape == x.shape
        np.testing.assert_allclose(ours, through(self.shifted([0, 168]), x), atol=1e-6)

    def test_a_constant_mask_is_a_gain(self):
        x = noise(9000, 1)
        ours = through(self.shifted([0, 5, 300], channels=1, predict=lambda m: np.full_like(m, 0.5)), x)
        np.testing.assert_allclose(ours, 0.5 * x, atol=2e-6)

    def test_the_delay_is_bounded(self):
        stream, came, went = self.shifted([0, 168]), 0, 0
        for _ in range(200):
            came += 100
            went += len(stream.push(noise(100)))
            assert 0 <= came - went <= stream.latency
        assert went > 10_000


class TestVoiceStream:
    """The filter at other rates."""

    @settings(deadline=None, max_examples=30)
    @given(
        st.sampled_from([8000, 11_025, 44_100, 48_000]),
        st.integers(1, 9000),
        st.lists(st.integers(0, 9000), max_size=4),
    )
    def test_as_long_as_the_input_and_the_same_however_it_comes(self, rate, samples, cuts):
        x = noise(samples)
        whole, cut = (through(VoiceStream(make(), rate, 8000, 2), x, *c) for c in ((), cuts))
        assert whole.shape == cut.shape == x.shape
        np.testing.assert_allclose(cut, whole, atol=1e-6)

    @pytest.mark.parametrize("rate", [11_025, 48_000])
    def test_a_tone_comes_back_in_time(self, rate):
        t = np.arange(2 * rate) / rate
        x = np.sin(2 * np.pi * 500 * t).astype(np.float32)[:, None]
        y = through(VoiceStream(make(np.ones_like, channels=1), rate, 8000, 1), x, 5000)
        assert np.abs(y - x)[rate // 10 : -rate // 10].max() < 2e-3

    @pytest.mark.parametrize("rate", [1000, 8000, 11_025, 48_000, 192_000])
    @pytest.mark.parametrize("batch_size", [2, 8])
    def test_the_delay_is_bounded(self, rate, batch_size):
        stream, came, went = VoiceStream(make(batch_size=batch_size), rate, 8000, 2), 0, 0
        for samples in [100, 1, 3000, 64] * 40:
            came += samples
            went += len(stream.push(noise(samples)))
            assert 0 <= came - went <= stream.latency * rate + 1
        went += len(stream.finish())
        assert went == came
