"""The benchmark tools: what they compute, and that they run; no times are asserted."""

import importlib
import json
from pathlib import Path

import pytest
import torch

pytest.importorskip('mmcv')

FOLDER = Path(__file__).resolve().parents[2] / 'tools' / 'benchmarks'


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)


@pytest.fixture(autouse=True)
def _global_state():
    threads, benchmark = torch.get_num_threads(), torch.backends.cudnn.benchmark
    yield
    torch.set_num_threads(threads)
    torch.backends.cudnn.benchmark = benchmark


def _load(name):
    return importlib.import_module(name)


@pytest.fixture(scope='module')
def measured(tmp_path_factory):
    """The folder with the result of a tiny run."""
    folder = tmp_path_factory.mktemp('benchmarks')
    arguments = ['--device', 'cpu', '--batch', '1', '--runs', '1', '--shapes', 'stage 4', '--sides', 'unfold']
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        patch.setattr(_load('measuring'), 'COPIED_BYTES', 2**20)
        _load('involution').main([*arguments, '--out', str(folder / 'involution_cpu.json')])
    return folder


def test_shapes_are_those_of_the_networks():
    """The involutions of a RedNet-50 and the maps they meet, taken from the network itself."""
    from mmext.layers import Involution
    from mmext.models import RedNet

    seen = set()
    with torch.device('meta'):
        network = RedNet(50)

        def note(layer, inputs):
            seen.add((*inputs[0].shape[1:], layer.kernel_size, layer.stride))

        for layer in network.modules():
            if isinstance(layer, Involution):
                assert layer.channels == 16 * layer.groups
                layer.register_forward_pre_hook(note)
        network(torch.zeros(1, 3, 224, 224))
    shapes = _load('involution_shapes').SHAPES
    table = {(s.channels, s.height, s.width, s.kernel_size, s.stride) for s in shapes.values() if s.rednet50}
    assert table == seen
    assert len(table) == 8
    detection = [s for name, s in shapes.items() if name.startswith('detection')]
    assert [(s.height, s.width) for s in detection] == [(200, 304), (100, 152), (50, 76), (25, 38)]


def test_bytes_moved():
    shape = _load('involution_shapes').SHAPES['stage 3, first']
    assert shape.of(2) == ([2, 256, 28, 28], [2, 16, 7, 7, 14, 14], [2, 256, 14, 14])
    elements = 2 * 256 * 28 * 28 + 2 * 16 * 49 * 14 * 14 + 2 * 256 * 14 * 14
    assert shape.bytes_moved(2, 'float32') == 4 * elements
    assert shape.bytes_moved(2, 'bfloat16') == 2 * elements


@pytest.mark.parametrize(('stride', 'dilation'), [(1, 1), (2, 1), (1, 2), (3, 2)])
def test_unfold_is_involution(stride, dilation):
    from mmext.ops import involution

    x, size = torch.rand(2, 6, 13, 10), (-(-13 // stride), -(-10 // stride))
    weight = torch.rand(2, 3, 5, 5, *size)
    found = _load('involution_sides').unfold(x, weight, stride=stride, dilation=dilation)
    torch.testing.assert_close(found, involution(x, weight, stride, dilation=dilation, backend='reference'))


@pytest.mark.parametrize(
    ('function', 'reason'),
    [
        (lambda x, weight, stride: 1.001 * _load('involution_sides').unfold(x, weight, stride), 'its output is wrong'),
        (
            lambda x, weight, stride: _load('involution_sides').unfold(x, weight.detach() + 0 * weight, stride),
            'its gradient of weight is wrong',
        ),
        (lambda x, weight, stride: x.view(3), "shape '[3]' is invalid"),
    ],
    ids=['output', 'gradient', 'error'],
)
def test_a_wrong_side_is_not_timed(monkeypatch, function, reason):
    module = _load('involution')
    inputs = module.make_inputs(module.SHAPES['stage 4'], 1, 'float32', 'cpu')
    assert module.why_not('unfold', inputs, 1, 'float32') is None
    monkeypatch.setitem(module.SIDES, 'unfold', _load('involution_sides').Side('wrong', function))
    assert reason in module.why_not('unfold', inputs, 1, 'float32')


def _entry(milliseconds, ours, extra, fraction):
    step = {'median_ms': milliseconds, 'ratio': milliseconds / ours, 'extra_bytes': extra}
    return {'forward': {**step, 'fraction_of_copy': fraction}, 'forward_backward': dict(step)}


def _row(shape, dtype, theirs, ours, rednet50=True):
    sides = {'unfold': {'skipped': 'no'} if theirs is None else _entry(*theirs), 'mmext': _entry(*ours)}
    return dict(shape=shape, dtype=dtype, batch=8, rednet50=rednet50, sides=sides)


def test_summary():
    rows = [
        _row('a', 'float32', (20.0, 10.0, 100, 0.1), (10.0, 10.0, 20, 0.2)),
        _row('b', 'float32', (160.0, 20.0, 300, 0.1), (20.0, 20.0, 10, 0.8)),
        _row('c', 'float32', (1.0, 20.0, 1, 0.1), (20.0, 20.0, 10, 0.9), rednet50=False),
        _row('a', 'bfloat16', None, (5.0, 5.0, 20, 0.2)),
        _row('b', 'bfloat16', None, (2.5, 2.5, 10, 0.8)),
    ]
    wide, narrow = _load('involution').summarise(rows)
    unfold, ours = wide['sides']['unfold'], wide['sides']['mmext']
    assert unfold['shapes'] == 2
    assert unfold['forward']['over_mmext'] == pytest.approx(4)  # of 2 and 8
    assert unfold['forward']['memory_of_mmext'] == pytest.approx({'all': 30 / 400, 'worst': 0.2})
    assert ours['fraction_of_copy'] == pytest.approx({'mean': 0.4, 'least': 0.2})
    assert 'speed_over_float32' not in wide
    assert list(narrow['sides']) == ['mmext']
    assert narrow['speed_over_float32'] == pytest.approx({'forward': 4, 'forward_backward': 4})  # of 2 and 8


def test_samples_are_taken_in_turns(monkeypatch):
    measuring = _load('measuring')
    monkeypatch.setattr(measuring, 'SAMPLE_SECONDS', 0)
    order = []
    calls = {name: lambda name=name: order.append(name) for name in 'ab'}
    assert set(measuring.time_in_turns(calls, 'cpu', runs=3)) == {'a', 'b'}
    assert order == ['a', 'b'] * 5  # to see how long they take, to warm up, three that count
    assert measuring.spread([4, 1, 2, 3, 5]) == {'median_ms': 3000, 'quartiles_ms': [2000, 4000]}


def test_memory_of_a_call(measured):
    """Unfolding holds the columns and their products, each 49 times the input."""
    measuring = _load('measuring')
    if reason := measuring.why_no_memory('cpu'):
        pytest.skip(reason)
    found = json.loads((measured / 'involution_cpu.json').read_text())['rows'][0]['sides']['unfold']
    assert found['forward']['extra_bytes'] == pytest.approx(2 * 49 * 512 * 7 * 7 * 4, rel=0.1)
    assert found['forward_backward']['extra_bytes'] > found['forward']['extra_bytes']
    with pytest.raises(RuntimeError, match="KeyError: 'no shape'"):
        measuring.memory_in_fresh_process('involution', 'memory_calls', 'unfold', 'no shape', 1, 'float32', 1)


@pytest.mark.parametrize('stride', [1, 2])
def test_one_thread_per_output(monkeypatch, stride):
    """Its kernels and what they are launched with, on the processor."""
    monkeypatch.syspath_prepend(FOLDER.parents[1] / 'tests' / 'ops' / 'cuda')
    launcher, sides = _load('cpu_launcher'), _load('involution_sides')
    if launcher.WHY_NOT:
        pytest.skip(launcher.WHY_NOT)
    monkeypatch.setattr(sides, '_launch', launcher.CpuLauncher(*sides.BASELINE))
    inputs = _load('involution').make_inputs(
        _load('involution_shapes').Shape(32, 9, 12, 3, stride), 2, 'float32', 'cpu'
    )
    found, wanted = (
        _load('involution').calls(side, [inputs], stride)['forward_backward']()
        for side in ('one thread per output', 'reference')
    )
    for result, value in zip(found, wanted):
        torch.testing.assert_close(result, value, rtol=1e-4, atol=1e-4)


def test_run_on_the_cpu(measured):
    assert [path.name for path in measured.iterdir()] == ['involution_cpu.json']
    result = json.loads((measured / 'involution_cpu.json').read_text())
    (row,) = result['rows']
    assert set(row['sides']) == {'unfold', 'mmext'}
    assert row['sides']['mmext']['runs'] in ('cpu', 'reference')
    assert row['sides']['mmext']['forward']['ratio'] == 1
    for entry in row['sides'].values():
        forward = entry['forward']
        assert forward['bytes_per_second'] == pytest.approx(row['bytes_moved'] / forward['median_ms'] * 1000)
        assert forward['fraction_of_copy'] == pytest.approx(
            forward['bytes_per_second'] / result['copy_bytes_per_second']
        )
    assert result['summary'][0]['sides']['unfold']['shapes'] == 1
    assert result['device_name']
    assert result['versions']['torch'] == torch.__version__.split('+')[0]


def test_page_and_plot(measured, tmp_path, capsys):
    pytest.importorskip('matplotlib')
    plot = _load('plot')
    (tmp_path / 'involution_cpu.json').write_text((measured / 'involution_cpu.json').read_text())
    page = tmp_path / 'README.md'
    page.write_text('above\n<!-- involution_cpu -->\nold\n<!-- /involution_cpu -->\nbetween\n')
    with page.open('a') as file:
        file.write('<!-- rednet_cuda -->\n<!-- /rednet_cuda -->\n<!-- targets -->\n<!-- /targets -->\nbelow\n')
    folder = ['--folder', str(tmp_path)]
    assert plot.main([*folder, '--check']) == 1
    assert 'differs' in capsys.readouterr().err
    assert plot.main(folder) == 0
    assert plot.main([*folder, '--check']) == 0
    text = page.read_text()
    assert text.startswith('above\n<!-- involution_cpu -->\n')
    assert text.endswith('<!-- /targets -->\nbelow\n')
    assert '\nold\n' not in text
    assert '| stage 4 | 1 | 512 x 7 x 7 | 32 | 7 x 7 | 1 |' in text
    assert '<!-- rednet_cuda -->\n\nNot measured.\n' in text
    # one shape of eight is no mean over RedNet-50
    assert '| CPU: unfold over mmext, forward | at least 6 |  | not measured |' in text
    assert (tmp_path / 'involution_cpu.png').read_bytes().startswith(b'\x89PNG')
    with pytest.raises(ValueError, match='no_table'):
        plot.generate('<!-- no_table -->\n<!-- /no_table -->\n', {})


def test_targets():
    figures = {'over_mmext': 6.0, 'memory_of_mmext': {'all': 0.05, 'worst': 0.2}}
    sides = {'unfold': {'shapes': 8, 'forward': figures, 'forward_backward': {**figures, 'over_mmext': 3.9}}}
    networks = {
        'ResNet-50': {'median_ms': 12.0},
        'ResNet-50, channels_last': {'median_ms': 10.0},
        'RedNet-50': {'median_ms': 13.0},
        'RedNet-50, channels_last': {'skipped': 'no memory'},
    }
    ic_networks = {'ResNet-50': {'median_ms': 10.0}, 'IC-ResNet-50': {'median_ms': 11.6}}
    results = {
        'involution_cpu': {'summary': [{'dtype': 'float32', 'batch': 8, 'sides': sides}]},
        'rednet_cpu': {'size': 224, 'rows': [dict(mode='inference', amp=False, batch=1, networks=networks)]},
        'ic_resnet_cpu': {'size': 224, 'rows': [dict(mode='inference', amp=False, batch=8, networks=ic_networks)]},
    }
    lines = _load('targets').targets(results).splitlines()
    reached = {line.split(' | ')[0].removeprefix('| '): line.split(' | ')[-1].removesuffix(' |') for line in lines[2:]}
    assert reached['CPU: unfold over mmext, forward'] == 'yes'
    assert reached['CPU: unfold over mmext, forward and backward'] == 'no'
    assert reached["CPU: mmext's extra memory over unfold's, worst shape"] == 'no'
    assert reached['CPU: RedNet-50 over ResNet-50, inference, each in its faster memory format'] == 'yes'
    assert reached['CPU: IC-ResNet-50 over ResNet-50, inference, likewise'] == 'no'
    assert reached['CPU: IC-ResNet-50 over ResNet-50, one image'] == 'not measured'
    assert {value for name, value in reached.items() if name.startswith('GPU')} == {'not measured'}


@pytest.mark.parametrize('batch', [1, 4])
def test_recomputing_takes_less_than_half_the_memory_of_a_training_step(batch):
    # Model A1 at stride 8, full width, 504 x 504: counted on meta tensors, so the same on every machine
    counted = _load('wider_resnet')
    plain, saving = (counted.training_bytes(504, batch, with_cp) for with_cp in (False, True))
    assert saving <= 0.45 * plain


def test_inference_keeps_no_level_but_those_it_returns():
    counted = _load('wider_resnet')
    freed, kept = (counted.inference_bytes(504, 504, out_indices) for out_indices in ((6,), range(7)))
    outputs = 4 * (64 * 504**2 + 128 * 252**2 + 256 * 126**2 + (512 + 1024 + 2048) * 63**2)  # levels 1 to 6
    assert freed <= 4 * 4096 * 63**2 * 3  # the largest tensor three times: that of level 7 or 1
    assert kept - freed > outputs / 3


def test_live_memory_counts_what_is_alive():
    with _load('live_memory').LiveMemory() as memory:
        a = torch.ones(1000)
        b = a.view(10, 100)  # the same memory
        assert memory.now == 4000
        c = b + 1
        del a, b
        assert memory.now == 4000
        c.mul_(2)
    assert (memory.now, memory.peak) == (4000, 8000)
    apart = torch.ones(1000)
    with _load('live_memory').LiveMemory([apart]) as memory:
        apart.add_(1)
    assert memory.peak == 0


def test_times_of_inflated_networks(tmp_path):
    out = tmp_path / 'inflated_cpu.json'
    arguments = ['--device', 'cpu', '--networks', 'R50', 'D121', '--narrow', '--frames', '8', '--size', '64']
    assert _load('inflated').main([*arguments, '--batch', '1', '--runs', '1', '--amp', '--out', str(out)]) == 0
    result = json.loads(out.read_text())
    rows = result['rows']
    assert [(row['network'], row['training'], row['amp']) for row in rows] == [
        *(('R50', True, False), ('R50', True, True), ('R50', False, False), ('R50', False, True)),
        *(('D121', False, False), ('D121', False, True)),
    ]
    straight, ours, fused, packed = 'straightforward', 'mmext', 'mmext, fused', 'mmext, packed'
    assert set(rows[0]['forms']) == {straight, ours, 'mmaction2'}
    assert set(rows[2]['forms']) == {straight, ours, 'mmaction2', fused, packed}
    assert set(rows[4]['forms']) == {straight, ours, fused}
    assert [row['published_seconds'] for row in rows] == [None, None, 0.1, None, 1.3, None]
    assert all(row['difference'] < 1e-4 for row in rows if not row['amp'])
    assert '| D121 |' in _load('tables').inflated(result)


def test_targets_of_inflated_networks_are_of_whole_clips():
    forms = {'straightforward': 3.0, 'mmext': 1.5, 'mmext, fused': 1.0, 'mmaction2': 3.0}
    forms = {form: dict(ratio=3 / seconds) for form, seconds in forms.items()}
    rows = [dict(network='R50', batch=1, training=training, amp=False, forms=forms) for training in (False, True)]
    targets = _load('targets').targets
    for frames, found in ((16, True), (8, False)):
        result = dict(frames=frames, size=224, rows=rows)
        lines = targets({'inflated_cpu': result, 'inflated_cuda': result}).splitlines()
        lines = [line for line in lines if 'inflated ResNet-50' in line or 'likewise, training step' in line]
        reached = [line.split('|')[3:5] for line in lines]
        values = ['batch 1: 3.00', *['batch 1: 2.00'] * 4] if found else [''] * 5
        assert [cell.strip() for cell, _ in reached] == values
        assert all(('not measured' in cell) != found for _, cell in reached)


def test_memory_of_wider_resnet(tmp_path):
    out = tmp_path / 'wider_resnet_cpu.json'
    arguments = ['--size', '40', '--width', '0.0625', '--runs', '1', '--out', str(out)]
    assert _load('wider_resnet').main(arguments) == 0
    result = json.loads(out.read_text())
    assert (result['loss_difference'], result['gradient_difference']) == (0, 0)
    training = result['training']
    assert result['live_ratio'] == training['with_cp']['live_bytes'] / training['plain']['live_bytes']
    assert '504' not in _load('tables').wider_resnet(result)


def test_the_page_has_the_tables_of_its_files():
    assert _load('plot').main(['--check']) == 0


@pytest.mark.parametrize(
    ('value', 'text'), [(1234.5, '1234'), (99.95, '100.0'), (12.34, '12.3'), (1.234, '1.23'), (0.01234, '0.0123')]
)
def test_milliseconds(value, text):
    assert _load('tables').milliseconds(value) == text


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--shapes', 'stage 4', 'stage 9'], "--shapes 'stage 9' matches none of: stem; "),
        (['--sides', 'fold*'], "--sides 'fold*' matches none of: unfold; "),
        (['--batch', '0'], '--batch 0: at least 1'),
        (['--runs', '0'], '--runs 0: at least 1'),
        (['--device', 'cuda'], 'PyTorch finds no GPU here; use --device cpu'),
    ],
)
def test_mistakes_on_the_command_line(monkeypatch, capsys, arguments, message):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(SystemExit) as error:
        _load('involution').parse(arguments)
    assert error.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize('family', ['rednet', 'ic_resnet'])
def test_networks(family, tmp_path, capsys):
    networks = _load('networks')
    names = networks.FAMILIES[family]
    found = []
    for name in names[2:]:
        torch.manual_seed(0)
        found.append(networks.make_call(name, 'inference', False, 1, 32, 'cpu')()[0])
        torch.testing.assert_close(found[-1], found[0], rtol=1e-4, atol=1e-5)
    assert found[0].shape == (1, 1000)

    out = tmp_path / f'{family}_cpu.json'
    networks.main(f'{family} --device cpu --batch 1 --size 32 --runs 1 --no-memory --out {out}'.split())
    (row,) = json.loads(out.read_text())['rows']
    assert tuple(row['networks']) == names
    assert row['networks']['ResNet-50']['ratio'] == 1
    assert f'| inference, float32 | 1 | {names[2]} |' in capsys.readouterr().out
    _load('plot').draw_networks(json.loads(out.read_text()), tmp_path / 'plot.png')
    assert (tmp_path / 'plot.png').read_bytes().startswith(b'\x89PNG')


def test_unfolded_network_runs_unfold(monkeypatch):
    networks = _load('networks')
    calls = []

    def unfold(x, weight, **settings):
        calls.append(x.shape)
        return _load('involution_sides').unfold(x, weight, **settings)

    monkeypatch.setattr(networks, 'unfold', unfold)
    networks.make_call(networks.RED, 'inference', False, 1, 32, 'cpu')()
    assert not calls
    networks.make_call(networks.RED_UNFOLD, 'inference', False, 1, 32, 'cpu')()
    assert len(calls) == 17
