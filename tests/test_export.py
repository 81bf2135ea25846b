"""Whole networks as compilers and exporters take them: one graph, and what it computes."""

import subprocess
import sys
import warnings

import onnxruntime
import pytest
import torch
from five_families import FAMILIES, listed, make, other_inputs

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


class Last(torch.nn.Module):
    """A network's last feature map; in evaluation mode, which the exporters put back to what it was."""

    def __init__(self, network):
        super().__init__()
        self.network = network
        self.eval()

    def forward(self, x):
        return listed(self.network(x))[-1]


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('dynamo', [True, False])
@pytest.mark.parametrize('name', FAMILIES)
def test_onnx_of_every_family_takes_every_size(name, dynamo, tmp_path):
    options = {} if name == 'WiderResNet' else dict(out_indices=(0,))
    network, x = make(name, **options)
    network = Last(network)
    axes = ['batch', 'time', 'height', 'width'] if x.dim() == 5 else ['batch', 'height', 'width']
    axes = dict(zip((0, *range(2, x.dim())), axes))
    path = tmp_path / 'network.onnx'
    if dynamo:
        shapes = dict.fromkeys(axes, torch.export.Dim.DYNAMIC)
        torch.onnx.export(network, (x,), path, dynamic_shapes=(shapes,), dynamo=True, verbose=False)
    else:
        options = dict(opset_version=17, input_names=['x'], dynamic_axes={'x': axes})
        torch.onnx.export(network, (x,), path, dynamo=False, **options)
    with torch.no_grad():
        for image in (x, *other_inputs(name)):
            torch.testing.assert_close(run_onnx(path, image), network(image), rtol=1e-4, atol=1e-5)


LOADING = """
import sys
sys.modules['mmext'] = None  # importing it fails
import torch
for path in sys.argv[1:]:
    network = torch.jit.load(path + '.ts')
    for x, expected in torch.load(path + '.pt', weights_only=True):
        torch.testing.assert_close(network(x), expected, rtol=1e-4, atol=1e-5, msg=path)
print('the same')
"""


@pytest.mark.filterwarnings('ignore')
def test_torchscript_of_every_family_runs_without_the_package(tmp_path):
    paths = []
    for name in FAMILIES:
        network, x = make(name)
        network = Last(network)
        paths.append(str(tmp_path / name))
        torch.jit.trace(network, x, check_trace=False).save(f'{paths[-1]}.ts')
        with torch.no_grad():
            torch.save([(image, network(image)) for image in (x, *other_inputs(name))], f'{paths[-1]}.pt')
    done = subprocess.run([sys.executable, '-c', LOADING, *paths], capture_output=True, text=True)
    assert done.stdout == 'the same\n', done.stderr


@pytest.mark.filterwarnings('ignore')
def test_exported_program_of_the_operator_takes_every_size():
    """Also where the sizes of x and weight are not known to be related; the operator checks them where it runs."""
    operator = Operator(2, 1)
    x, weight = torch.randn(2, 6, 11, 9), torch.randn(2, 3, 3, 3, 6, 5)
    dynamic = torch.export.Dim.DYNAMIC
    shapes = {0: dynamic, 2: dynamic, 3: dynamic}, {0: dynamic, 4: dynamic, 5: dynamic}
    program = torch.export.export(operator, (x, weight), dynamic_shapes=shapes).module(check_guards=False)
    x, weight = torch.randn(3, 6, 8, 7), torch.randn(3, 3, 3, 3, 4, 4)
    torch.testing.assert_close(program(x, weight), operator(x, weight))
    with pytest.raises(ValueError, match=r'needs \[3, 3, 3, 3, 4, 4\]'):
        program(x, weight[..., :3])
