import dataclasses

import jax
import pytest

from tests.small_network import small_config, small_network
from tools import scaling_model as tool

PROGRAM = """
  %psum.1 = f32[64]{0:T(128)S(1)} all-reduce(%x), channel_id=1, replica_groups={{0,1}}
  %all-reduce.5 = (f32[64]{0:T(128)}, /*index=1*/bf16[4,4,1,64]{3,2,1}, f32[]) all-reduce-start(%y, %z)
  %done = (f32[64]{0}, bf16[4,4,1,64]{3,2,1,0}, f32[]) all-reduce-done(%all-reduce.5)
  %gather = s32[8,2]{1,0} all-gather(%y), dimensions={0}
  %sum = f32[64]{0} fusion(%all-reduce.5), kind=kLoop
"""


def test_collectives_are_found_with_their_bytes():
    assert tool.collectives(PROGRAM) == {"all-reduce": [64 * 4 + 1024 * 2 + 4, 64 * 4], "all-gather": [64]}


def test_what_is_moved_by_hand():
    """On the chip nothing is; of a slice the slice is; and only the largest computation counts."""
    program = """
small (x: f32[100]) -> f32[100] {
  %x = f32[100]{0} parameter(0)
  ROOT %y = f32[100]{0} fusion(%x), kind=kLoop
}

step (a: f32[100]) -> bf16[10] {
  %a = f32[100]{0:T(128)} parameter(0)
  %start = ((f32[100]{0}), f32[25]{0:S(1)}, s32[]) slice-start(%a), slice={[0:25]}
  %part = f32[25]{0:S(1)} slice-done(%start)
  %b = bf16[10]{0} fusion(%part, %a), kind=kLoop, metadata={op_name="x"}
  %copy = (bf16[10]{0:S(1)}, bf16[10]{0}, u32[]) copy-start(%b)
  ROOT %c = bf16[10]{0} fusion(%b), kind=kLoop
}
"""
    assert tool.moved(program) == 25 * 4 + (20 + 400) + 20 + (20 + 20)


@pytest.mark.parametrize("devices", [2, 8])
def test_the_step_reduces_gradients_and_gathers_nothing(devices):
    with small_network():
        config = small_config(batch_size=8)
        step = tool.compile_step(config, jax.devices()[:devices])
        assert set(step.collectives) == {"all-reduce"}
        parameters = jax.eval_shape(
            config.network().init,
            jax.random.key(0),
            jax.ShapeDtypeStruct((1, *config.network_input), "float32"),
        )["params"]
        trained = sum(4 * x.size for x in jax.tree.leaves(parameters))
    # The gradients, once; else nothing but statistics and sums, a few numbers each.
    assert trained <= sum(step.collectives["all-reduce"]) < 1.2 * trained + 4_000
    assert step.patches == 8 // devices
    assert min(step.flops, step.moved, step.memory) > 0


def test_songs_in_parts_are_exchanged_once_for_each_stem():
    with small_network():
        config = small_config(batch_size=8)
        step = tool.compile_step(config, jax.devices()[:4], parts=2)
        crop = tool.Plan.of(config).recipe.crop
    assert (
        step.collectives["all-to-all"] == [2 * 2 * 2 * crop * 2] * 2
    )  # two for each of a pair, stereo, int16
    assert set(step.collectives) == {"all-reduce", "all-gather", "all-to-all"}
    assert max(step.collectives["all-gather"]) < 1000


def test_what_limits_a_step_by_hand():
    kind = tool.Kind({}, flops=2e12, memory=1e9, bandwidth=1e9, links=1e8)
    step = tool.Compiled(
        4, flops=1e12, moved=2e9, memory=0, collectives={"all-reduce": [75_000_000, 25_000_000]}
    )
    assert step.seconds(kind, 1) == {"operations": 0.5, "memory": 2.0, "links": 0.0}
    assert step.seconds(kind, 4)["links"] == pytest.approx(1.5)
    step.collectives["all-to-all"] = [50_000_000]
    in_parts = dataclasses.replace(step, parts=2)
    assert in_parts.seconds(kind, 4)["links"] == pytest.approx(1.5 + 0.25)


def test_without_the_compiler_there_is_one_line(monkeypatch):
    def none(**_):
        raise RuntimeError("no libtpu\nmore")

    monkeypatch.setattr(tool.topologies, "get_topology_desc", none)
    monkeypatch.setattr(tool.sys, "argv", ["scaling_model"])
    with pytest.raises(SystemExit, match=r"error: the TPU compiler .* \(pip install libtpu\): no libtpu$"):
        tool.main()
