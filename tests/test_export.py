"""Whole networks as compilers and exporters take them: one graph, and what it computes."""

import warnings

import onnxruntime
import pytest
import torch

import mmext
from mmext.ops import involution
from mmext.ops.involution.backends import ENV_VARIABLE

SIZE = 64  # pixels; the networks take any size


@pytest.fixture(scope='module')
def images():
    return torch.rand(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


def classifier(depth):
    """The row's classifier; norms have seen no pictures, so that their statistics are set to what the weights need."""
    torch.manual_seed(0)
    model = mmext.get_model(f'rednet{depth}_64xb32-130e_in1k')
    model.init_weights()
    with torch.no_grad():
        model.train()
        for _ in range(20):
            model(torch.rand(4, 3, SIZE, SIZE))
    return model.eval()


@pytest.fixture(scope='module')
def rednet50(images):
    """(Classifier, its logits)."""
    model = classifier(50)
    with torch.no_grad():
        logits = model(images)
    assert logits.shape == (3, 1000)
    assert logits.std() > 0.01
    return model, logits


def test_compiled_in_one_graph_for_any_batch_size(images):
    model = classifier(26)
    compiled = torch.compile(model, fullgraph=True)
    with torch.no_grad():
        first = images[:2].clone()
        torch._dynamo.mark_dynamic(first, 0)
        torch.testing.assert_close(compiled(first), model(first), rtol=1e-4, atol=1e-5)
        with torch.compiler.set_stance('fail_on_recompile'):
            torch.testing.assert_close(compiled(images), model(images), rtol=1e-4, atol=1e-5)


def test_compiled_training_step_has_the_gradients_of_eager(images):
    def grads(run):
        layer.zero_grad()
        run(x).square().sum().backward()
        return [parameter.grad.clone() for parameter in layer.parameters()]

    torch.manual_seed(0)
    layer = mmext.layers.Involution(32, 7, stride=2)
    x = torch.randn(2, 32, 15, 14)
    for found, expected in zip(grads(torch.compile(layer, fullgraph=True)), grads(layer)):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_exported_program_holds_the_operator_and_picks_its_backend_where_it_runs(
    rednet50, images, tmp_path, monkeypatch
):
    model, logits = rednet50
    batch = torch.export.Dim('batch', min=1, max=64)
    program = torch.export.export(model, (images[:2],), dynamic_shapes={'inputs': {0: batch}})
    calls = [node for node in program.graph.nodes if node.target is torch.ops.mmext.involution.default]
    assert len(calls) == 17  # one a bottleneck and one in the stem
    assert {node.args[-1] for node in calls} == {''}
    torch.export.save(program, tmp_path / 'rednet50.pt2')
    loaded = torch.export.load(tmp_path / 'rednet50.pt2').module()
    torch.testing.assert_close(loaded(images), logits, rtol=1e-4, atol=1e-5)
    monkeypatch.setenv(ENV_VARIABLE, 'reference')
    torch.testing.assert_close(loaded(images), logits, rtol=1e-4, atol=1e-5)
    monkeypatch.setenv(ENV_VARIABLE, 'cuda')
    with pytest.raises(RuntimeError, match='MMEXT_INVOLUTION_BACKEND=cuda cannot run here'):
        loaded(images)


def run_onnx(path, *inputs):
    session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
    names = [value.name for value in session.get_inputs()]
    return torch.from_numpy(session.run(None, dict(zip(names, (value.numpy() for value in inputs))))[0])


@pytest.mark.parametrize('start', ['model', 'program', 'torchscript'])
def test_onnx_has_the_same_logits(start, rednet50, images, tmp_path):
    """From the model, from an exported program, and by the older exporter that deployment tools still use."""
    model, logits = rednet50
    path = tmp_path / 'rednet50.onnx'
    dynamic = {'inputs': {0: torch.export.Dim('batch', min=1, max=64)}}
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        if start == 'model':
            torch.onnx.export(model, (images[:2],), path, dynamic_shapes=dynamic, verbose=False)
        elif start == 'program':
            program = torch.export.export(model, (images[:2],), dynamic_shapes=dynamic)
            torch.onnx.export(program, (), path, verbose=False)
        else:
            axes = {'inputs': {0: 'batch'}}
            torch.onnx.export(
                model, (images[:2],), path, dynamo=False, opset_version=17, input_names=['inputs'], dynamic_axes=axes
            )
    torch.testing.assert_close(run_onnx(path, images), logits, rtol=1e-4, atol=1e-5)


class Operator(torch.nn.Module):
    def __init__(self, *settings):
        super().__init__()
        self.stride, self.dilation = settings

    def forward(self, x, weight):
        return involution(x, weight, self.stride, dilation=self.dilation)


@pytest.mark.parametrize(('taps', 'stride', 'dilation'), [(1, 1, 1), (3, 2, 1), (5, 1, 2), (7, 3, 2)])
def test_onnx_of_the_operator(taps, stride, dilation, tmp_path):
    operator = Operator(stride, dilation).eval()
    x = torch.randn(2, 6, 11, 9)
    weight = torch.randn(2, 3, taps, taps, -(-11 // stride), -(-9 // stride))
    path = tmp_path / 'operator.onnx'
    torch.onnx.export(operator, (x, weight), path, verbose=False)
    torch.testing.assert_close(run_onnx(path, x, weight), operator(x, weight), rtol=1e-5, atol=1e-5)
