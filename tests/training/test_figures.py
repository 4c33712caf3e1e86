import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="needs the train extra")

from matplotlib.image import imread

from vocalsep_jax.measures.metrics import PATCH_METRICS, PatchMetric, dice
from vocalsep_jax.training import figures


def line(kind, step, epoch, **values):
    return {"kind": kind, "step": step, "epoch": epoch, "dice": 0.1, "soft_dice": 0.2} | values


HISTORY = [
    line("train", 30, 0.75, loss=1.0, steps=30),
    line("train", 40, 1.0, loss=2.0, steps=10),
    line("valid", 40, 1.0, loss=1.5, sdr=1.0, sdr_mixture=-3.0, sdr_silence=0.0, sdr_ideal=8.0),
    line("train", 60, 1.5, loss=0.5, steps=20),
]


def test_epoch_means_weight_intervals_by_their_steps():
    epochs, values = figures.epoch_means(HISTORY, "loss")
    assert epochs == [1.0, 1.5]
    assert values == pytest.approx([1.25, 0.5])
    assert figures.epoch_means([], "loss") == ([], [])


def snapshot(history=(), **magnitudes):
    """A snapshot of silence, but for what is given."""
    silence = dict.fromkeys(("mixture", "vocals", "mask", "ideal"), np.zeros((32, 16), np.float32))
    return figures.Snapshot(
        name="small",
        run="first",
        step=60,
        history=history,
        sample_rate=8000,
        hop=21,
        **silence | magnitudes,
    )


@pytest.mark.parametrize("history", [HISTORY, HISTORY[:1], []], ids=["all", "training only", "nothing"])
def test_curves_show_what_was_measured(history):
    figure = figures.curves(snapshot(history))
    titles = [axis.get_title() for axis in figure.axes]
    assert titles[0] == "Loss"
    assert titles[1:3] == [metric.title for metric in PATCH_METRICS.values()]
    assert "uSDR" in titles[3]
    assert figure.get_suptitle() == "small: first"
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels == ["training", "validation"]
    if history is HISTORY:
        shown = {tuple(x.get_ydata()) for x in figure.axes[0].lines}
        assert shown == {(1.0, 2.0, 0.5), tuple(figures.epoch_means(HISTORY, "loss")[1]), (1.5,)}
        labels = [text.get_text() for text in figure.axes[3].get_legend().get_texts()]
        assert labels == ["separated", "mixture (-3.0 dB)", "silence (0.0 dB)", "ideal ratio mask (8.0 dB)"]
    assert figures.draw(figure).shape[-1] == 3


@pytest.mark.parametrize("more", [1, 2])
def test_a_metric_that_is_added_has_its_curves(monkeypatch, more):
    for n in range(more):
        monkeypatch.setitem(PATCH_METRICS, f"new{n}", PatchMetric(dice, f"New {n}"))
    history = [line | {f"new{n}": 0.3 for n in range(more)} for line in HISTORY]
    figure = figures.curves(snapshot(history))
    titles = [axis.get_title() for axis in figure.axes]
    assert titles[3 : 3 + more] == [f"New {n}" for n in range(more)]
    assert "uSDR" in titles[3 + more]
    assert set(figure.axes[3].lines[0].get_ydata()) == {0.3}
    assert all(not axis.axison for axis in figure.axes[4 + more :])


def test_predicted_and_desired_share_a_scale(rng, tmp_path):
    mixture = rng.random((32, 16)).astype(np.float32)
    mask = rng.random((32, 16)).astype(np.float32)
    figure = figures.prediction(snapshot(mixture=mixture, vocals=0.5 * mixture, mask=mask, ideal=mask))
    assert figure.get_suptitle() == "small: a validation patch after 60 steps"
    images = {axis.get_title(): axis.images[0] for axis in figure.axes if axis.images}
    assert len(images) == 6
    limits = [images[n].get_clim() for n in ("Mixture", "Predicted vocals", "Desired vocals")]
    assert limits[0] == limits[1] == limits[2]
    assert images["Predicted mask"].get_clim() == images["Ideal ratio mask"].get_clim() == (-40, 0)
    assert images["Mixture"].get_extent() == [0, 16 * 21 / 8000, 0, 4]
    shown = np.asarray(images["Predicted vocals"].get_array())
    np.testing.assert_allclose(shown, 20 * np.log10(mask * mixture), rtol=1e-4)

    pixels = figures.draw(figure)
    figures.save(pixels, tmp_path / "new" / "a.png")
    back = imread(tmp_path / "new" / "a.png")[..., :3]
    np.testing.assert_allclose(back * 255, pixels, atol=0.6)


@pytest.mark.parametrize("name", figures.FIGURES)
def test_a_run_without_sound_or_history_can_be_drawn(name):
    assert np.isfinite(figures.draw(figures.FIGURES[name](snapshot()))).all()


def test_a_comparison_shows_mean_and_range_of_each_config():
    def run(*losses):
        return [line("valid", n, float(n), loss=x, sdr=2 * x) for n, x in enumerate(losses, start=1)]

    histories = {"a": [run(1.0, 2.0, 3.0), run(3.0, 4.0)], "b": [HISTORY], "none": [HISTORY[:1]]}
    figure = figures.comparison(histories, "an experiment")
    assert [axis.get_title() for axis in figure.axes] == [
        "Training loss",
        "Validation loss",
        "Validation DICE",
        "Validation uSDR, dB",
    ]
    loss = figure.axes[1]
    assert [(list(x.get_xdata()), list(x.get_ydata())) for x in loss.lines] == [
        ([1.0, 2.0], [2.0, 3.0]),
        ([1.0], [1.5]),
    ]
    band = loss.collections[0].get_paths()[0].vertices
    assert (band[:, 1].min(), band[:, 1].max()) == (1.0, 4.0)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b"]
    assert list(figure.axes[3].lines[0].get_ydata()) == [4.0, 6.0]
    assert figures.over_seeds([], "loss")[0] == []
