"""PyTorch's packages come from an index that is theirs alone, and so does nothing else."""

from __future__ import annotations

from collections.abc import Callable

from tests.support.api import Api
from tests.support.index import FakeIndex, fails, sha256
from tests.support.packages import assert_worked, offer, packages_of
from tests.support.server import ServerProcess


def test_torch_comes_from_its_own_index_and_what_it_needs_from_the_others(
    api: Api, index: FakeIndex, torch_index: FakeIndex
) -> None:
    offer(index, "torch", "9.0", {"torch.py": "version = 'a squatter'\n"})
    offer(index, "needed-by-torch", "1.0")
    offer(torch_index, "needed-by-torch", "2.0")
    wheel = {"torch.py": "import needed_by_torch\nversion = '2.9.0+cpu', needed_by_torch.version\n"}
    offer(torch_index, "torch", "2.9.0+cpu", wheel, requires=["needed-by-torch"])
    result = api.eval("import torch; print(*torch.version)")
    assert_worked(result, "2.9.0+cpu 1.0\n")
    assert packages_of(result) == {"needed-by-torch": "1.0", "torch": "2.9.0+cpu"} and result["warnings"] == []
    assert_worked(api.eval("import torch; print(torch.version[0])", requirements_txt="torch==2.9.0"), "2.9.0+cpu\n")
    assert "/simple/torch/" not in index.asked() and "/simple/needed-by-torch/" not in torch_index.asked()
    lock = api.get(f"/api/v1/environments/{result['environment']['key']}/lock").text
    assert packages_of(api.eval("1", requirements_txt=lock)) == packages_of(result)


def test_a_lock_of_another_index_is_taken_from_there(api: Api, index: FakeIndex, torch_index: FakeIndex) -> None:
    path = offer(index, "torchaudio", "2.9.0")
    offer(torch_index, "torchaudio", "2.9.0", {"torchaudio.py": "version = 'without CUDA'\n"})
    lock = f"torchaudio==2.9.0 --hash=sha256:{sha256(index.files[path])}"
    result = api.eval("import torchaudio; print(torchaudio.version)", requirements_txt=lock)
    assert_worked(result, "2.9.0\n")
    assert result["warnings"] == []


def test_where_that_index_has_no_answer_the_others_have_and_that_is_said(
    index: FakeIndex, start_server: Callable[..., ServerProcess]
) -> None:
    offer(index, "torchvision", "0.9")
    with FakeIndex() as torch_index:
        torch_index.faults["/simple/torchvision/"] = fails(503)
        url = index.url.replace("//", "//ci-user:s3cret-of-the-index@")
        api = Api(start_server(index_url=url, torch_index=torch_index.url, pool_max=1).url)
        for _ in range(2):
            result = api.eval("import torchvision; print(torchvision.version)")
            assert_worked(result, "0.9\n")
            assert len(result["warnings"]) == 1 and "(TORCH_INDEX), which has no answer" in result["warnings"][0]
        assert torch_index.asked() == ["/simple/torchvision/"]
        offer(torch_index, "torchvision", "0.8+cpu")
        api.close()
