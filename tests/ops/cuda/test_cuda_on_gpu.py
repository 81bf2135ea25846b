"""The CUDA backend on a GPU."""

import pytest
import torch
from cuda_cases import CASES, PLANS, case_id, check, run, tensors

from mmext.ops.involution.backends import BACKENDS
from mmext.ops.involution.cuda import launch

WHY_NOT = 'PyTorch finds no GPU'
if torch.cuda.is_available():
    WHY_NOT = BACKENDS['cuda'].reason_not(torch.device('cuda'), torch.float32)
if WHY_NOT is not None:
    pytest.skip(WHY_NOT, allow_module_level=True)
NETWORK = (4, 64, 56, 56), 4, 7, 1, 1, 3, torch.float32  # the first stage of a RedNet


def on_gpu(*case):
    return [tensor.cuda() for tensor in tensors(*case)]


@pytest.mark.parametrize('case', CASES, ids=case_id)
def test_case(case, monkeypatch):
    *sizes, plans = case
    monkeypatch.setattr(launch, 'make_plan', PLANS[plans])
    check(*on_gpu(*sizes), case[3], case[5], case[4])


@pytest.mark.parametrize('dtype', [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_network_shapes(dtype):
    for channels, size, stride in ((64, 56, 1), (128, 56, 2), (128, 28, 1), (256, 14, 1), (512, 14, 2), (512, 7, 1)):
        check(*on_gpu((8, channels, size, size), channels // 16, 7, stride, 1, 3, dtype), stride, 3, 1)


def test_any_strides_of_the_tensors():
    x, weight, grad_out = on_gpu(*NETWORK)
    check(x.to(memory_format=torch.channels_last), weight, grad_out[:, :, :1, :1].expand_as(grad_out), 1, 3, 1)


def test_repeated_runs_are_bitwise_equal():
    inputs = on_gpu(*NETWORK)
    first = run(*inputs, 1, 3, 1)
    for _ in range(20):
        assert all(torch.equal(a, b) for a, b in zip(first, run(*inputs, 1, 3, 1)))


def test_order_on_a_stream():
    x, weight, grad_out = on_gpu(*NETWORK)
    expected = run(2 * x, weight, grad_out, 1, 3, 1)
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)  # whoever does not wait reads x before it is doubled
        results = run(x.mul_(2), weight, grad_out, 1, 3, 1)
    stream.synchronize()
    assert all(torch.equal(a, b) for a, b in zip(expected, results))


def test_graph_capture():
    x, weight, grad_out = on_gpu(*NETWORK)
    expected = run(x, weight, grad_out, 1, 3, 1)
    graph = torch.cuda.CUDAGraph()
    static = torch.zeros_like(x)
    with torch.cuda.graph(graph):
        results = run(static, weight, grad_out, 1, 3, 1)
    static.copy_(x)
    graph.replay()
    assert all(torch.equal(a, b) for a, b in zip(expected, results))


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason='there is one GPU')
def test_on_another_device_than_the_current_one():
    inputs = on_gpu(*NETWORK)
    expected = run(*inputs, 1, 3, 1)
    results = run(*(tensor.to('cuda:1') for tensor in inputs), 1, 3, 1)
    assert all(result.device.index == 1 for result in results)
    assert all(torch.equal(a.cpu(), b.cpu()) for a, b in zip(expected, results))


def test_more_than_two_to_the_31_elements():
    if torch.cuda.mem_get_info()[0] < 30 * 2**30:
        pytest.skip('less than 30 GiB of memory are free on the GPU')
    x = torch.rand(2**31 // 2**20 + 1, 2, 1024, 512, device='cuda', dtype=torch.float16)
    weight = torch.rand(len(x), 1, 1, 1, 1024, 512, device='cuda', dtype=torch.float16)
    out = launch.involution_forward(x, weight, 1, 0, 1)
    assert torch.equal(out[-1], x[-1] * weight[-1, 0, 0])
