import os
import pickle
import zipfile

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from tests.torch_unet import PUBLISHED, TorchUNet, randomise
from vocalsep_jax.coseparation import torch_files
from vocalsep_jax.coseparation.keys import ConversionError, TorchNetwork


@pytest.fixture(scope="module")
def network():
    network = TorchUNet(2, 5, visual=6, decoder=PUBLISHED)
    randomise(network, 0)
    return network


def save(content, path, old=False):
    torch.save(content, path, _use_new_zipfile_serialization=not old)
    return path


@pytest.mark.parametrize("old", [False, True], ids=["zip", "before zip"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_state_dicts_of_all_precisions_and_ages(network, tmp_path, old, dtype):
    state = {
        k: v.to(getattr(torch, dtype)) if v.is_floating_point() else v
        for k, v in network.state_dict().items()
    }
    loaded, dtypes, layout = torch_files.load(save(state, tmp_path / "x.pth", old))
    assert dtypes == {dtype}
    assert layout == "a plain state dict"
    for key, x in state.items():
        assert loaded[key].dtype == (np.float32 if x.is_floating_point() else np.int64)
        np.testing.assert_array_equal(loaded[key], x.float().numpy())


def test_parameters_and_repacked_archives(network, tmp_path):
    state = network.state_dict(keep_vars=True)
    plain = save(state, tmp_path / "plain.pth")
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(tmp_path / "packed.pth", "w") as new:
        for member in old.infolist():
            new.writestr(member.filename, old.read(member), zipfile.ZIP_DEFLATED)
    for path in (plain, tmp_path / "packed.pth"):
        loaded, _, _ = torch_files.load(path)
        for key, x in state.items():
            np.testing.assert_array_equal(loaded[key], x.detach().numpy())


def test_a_file_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="file"):
        torch_files.save({"a": np.zeros(2, np.float32)}, tmp_path / "file" / "x.pth")


def test_what_is_saved_is_loaded(tmp_path):
    state = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.asarray(5, np.int64)}
    torch_files.save(state, tmp_path / "x.pth")
    again, _, _ = torch_files.load(tmp_path / "x.pth")
    for key, x in state.items():
        np.testing.assert_array_equal(again[key], x)
    assert [p.name for p in tmp_path.iterdir()] == ["x.pth"]


def test_activations_are_the_network_s(network, rng):
    x = rng.standard_normal((1, 64, 32)).astype(np.float32)
    state = {k: v.numpy() for k, v in network.state_dict().items()}
    blocks = torch_files.activations(state, TorchNetwork(2, 5, PUBLISHED, 6), x, full=True)
    with torch.no_grad():
        expected = network.eval().encode(torch.from_numpy(x))
        mask = network(torch.from_numpy(x), torch.zeros(1, 6, 1, 1))
    for n, y in enumerate(expected, start=1):
        np.testing.assert_allclose(blocks[f"down{n}"], y.permute(0, 2, 3, 1), atol=1e-5)
    np.testing.assert_allclose(blocks["up5"][..., 0], mask, atol=1e-5)
    encoder = torch_files.activations(state, TorchNetwork(2, 5), x, full=False)
    assert list(encoder) == [f"down{n}" for n in range(1, 6)]


class Evil:
    """Makes a file when it is loaded by plain pickle."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


class TestRefused:
    """Nothing is executed, and the reason is one line that names the file."""

    def refused(self, path):
        with pytest.raises(ConversionError) as error:
            torch_files.load(path)
        assert str(error.value).startswith(f"{path}: ")
        assert "\n" not in str(error.value)
        return str(error.value)

    @pytest.mark.parametrize("old", [False, True])
    @pytest.mark.parametrize("nested", [False, True])
    def test_a_pickle_that_would_run_code(self, tmp_path, old, nested):
        evil = {"state_dict": {"a": Evil(tmp_path / "executed")}} if nested else Evil(tmp_path / "executed")
        text = self.refused(save(evil, tmp_path / "evil.pth", old))
        assert "asks to run" in text
        assert "mkdir" in text
        assert not (tmp_path / "executed").exists()

    def test_a_plain_pickle_that_would_run_code(self, tmp_path):
        path = tmp_path / "evil.pkl"
        path.write_bytes(pickle.dumps({"a": Evil(tmp_path / "executed")}))
        self.refused(path)
        assert not (tmp_path / "executed").exists()

    @pytest.mark.parametrize("old", [False, True])
    @pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
    def test_a_truncated_file(self, network, tmp_path, old, share):
        path = save(network.state_dict(), tmp_path / "cut.pth", old)
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])
        assert "damaged" in self.refused(path)

    def test_other_files(self, tmp_path):
        texts = {"text.pth": b"hello\nworld\n", "empty.pth": b"", "bytes.pth": bytes(range(256)) * 9}
        for name, content in texts.items():
            (tmp_path / name).write_bytes(content)
            assert "damaged" in self.refused(tmp_path / name)
        with zipfile.ZipFile(tmp_path / "zip.pth", "w") as archive:
            archive.writestr("a.txt", "text")
        assert "damaged" in self.refused(tmp_path / "zip.pth")
        assert "No such file" in self.refused(tmp_path / "none.pth")
        assert "directory" in self.refused(tmp_path)

    def test_a_pickled_module_is_no_state_dict(self, network, tmp_path):
        self.refused(save(network, tmp_path / "module.pth"))

    @pytest.mark.parametrize("place", [0.2, 0.5, 0.8])
    def test_a_flipped_bit(self, network, tmp_path, place):
        path = save(network.state_dict(), tmp_path / "x.pth")
        content = bytearray(path.read_bytes())
        content[int(place * len(content))] ^= 1
        path.write_bytes(content)
        assert "damaged" in self.refused(path)

    def test_weights_that_are_integers(self, tmp_path):
        path = save({"weight": torch.zeros(3, dtype=torch.int8)}, tmp_path / "x.pth")
        assert "'weight' is of torch.int8" in self.refused(path)

    @pytest.mark.parametrize(
        "value", [3, "text", torch.zeros(2, dtype=torch.complex64), torch.zeros(2).to_sparse()]
    )
    def test_values_that_are_no_weights(self, tmp_path, value):
        assert "'weight' is no plain tensor" in self.refused(save({"weight": value}, tmp_path / "x.pth"))

    def test_no_state_dict(self, tmp_path):
        for content in ([1], torch.zeros(2), {1: torch.zeros(2)}):
            assert "no state dict" in self.refused(save(content, tmp_path / "x.pth"))

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
    def test_a_number_that_says_to_be_billions(self, tmp_path, dtype):
        state = {"weight": torch.ones(1, dtype=dtype).expand(2**40)}
        assert "'weight' has not all the numbers" in self.refused(save(state, tmp_path / "x.pth"))

    def test_an_archive_that_is_far_larger_unpacked(self, network, tmp_path):
        plain = save(network.state_dict(), tmp_path / "plain.pth")
        with (
            zipfile.ZipFile(plain) as old,
            zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as new,
        ):
            for member in old.infolist():
                new.writestr(member.filename, old.read(member))
            new.writestr("archive/more", bytes(2**28))
        assert "far larger unpacked" in self.refused(tmp_path / "bomb.pth")

    def test_a_pipe(self, tmp_path):
        os.mkfifo(tmp_path / "x.pth")
        assert "is a pipe" in self.refused(tmp_path / "x.pth")


def test_numbers_that_are_kept_with_the_other_sign(tmp_path):
    state = {"weight": torch._neg_view(torch.ones(3))}
    loaded, _, _ = torch_files.load(save(state, tmp_path / "x.pth"))
    np.testing.assert_array_equal(loaded["weight"], -np.ones(3))
