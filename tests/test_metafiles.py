"""The metafile says what was published and what was reproduced; the README's tables are made from it."""

import importlib.util
import json
import shutil
from pathlib import Path

import golden
import pytest
import yaml

from mmext import zoo
from mmext.complexity import complexity
from mmext.convert.ademxapp import PUBLISHED_MD5

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / 'configs' / 'involution'
PUBLISHED = json.loads((Path(__file__).parent / 'data' / 'published_involution.json').read_text())
METRICS = {
    'accuracy/top1': 'Top 1 Accuracy',
    'accuracy/top5': 'Top 5 Accuracy',
    'coco/bbox_mAP': 'box AP',
    'coco/segm_mAP': 'mask AP',
    'coco/AP': 'AP',
    'mIoU': 'mIoU',
}
IC_CONV = json.loads((Path(__file__).parent / 'data' / 'published_ic_conv.json').read_text())
# rows of the inflated networks: seconds of a forward pass of one clip and of two, as published
INFLATED = {
    f'inflated-{name}_imagenet-pretrained-{short}_8xb8-32x2x1-100e_kinetics400-rgb': seconds
    for name, short, *seconds in (
        ('resnet50', 'r50', 0.1, 0.6),
        ('resnet101', 'r101', 0.3, 0.8),
        ('resnet152', 'r152', 0.5, 1.1),
        ('densenet121', 'd121', 1.3, 2.6),
        ('densenet161', 'd161', 1.8, None),
        ('densenet169', 'd169', 1.5, None),
        ('densenet201', 'd201', 1.7, None),
    )
}
WIDER = json.loads((Path(__file__).parent / 'data' / 'published_wider_resnet.json').read_text())


@pytest.fixture
def generate_readme():
    """The script as a module."""
    spec = importlib.util.spec_from_file_location('generate_readme', ROOT / 'tools' / 'generate_readme.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_config_is_a_row_and_every_row_is_a_config():
    metafiles = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob('configs/*/metafile.yml'))
    assert yaml.safe_load((ROOT / 'model-index.yml').read_text())['Import'] == metafiles
    models = [model for path in metafiles for model in yaml.safe_load((ROOT / path).read_text())['Models']]
    configs = [path.relative_to(ROOT).as_posix() for name in metafiles for path in (ROOT / name).parent.glob('*.py')]
    assert sorted(model['Config'] for model in models) == sorted(configs)
    assert all(Path(model['Config']).stem == model['Name'] for model in models)
    assert len({model['Name'] for model in models}) == len(models)


def test_rows_are_the_published_ones():
    assert zoo.list_models() == sorted([*PUBLISHED, *IC_CONV, *INFLATED, *WIDER])
    assert len(PUBLISHED) == 16
    assert len(IC_CONV) == 8 + 3 + 2 * 5  # pose rows in one scale and in three
    assert len(WIDER) == 10
    assert len(INFLATED) == 7


@pytest.mark.parametrize('row', PUBLISHED)
def test_published_figures(row):
    entry = zoo.get_entry(row)
    published = {key: entry['Metadata']['Published'][key] for key in ('params_m', 'flops_g')}
    for result in entry['Results']:
        assert result['Published'] is True
        published |= result['Metrics']
    assert published == {METRICS.get(key, key): value for key, value in PUBLISHED[row].items()}


@pytest.mark.parametrize('row', IC_CONV)
def test_published_figures_of_ic_conv(row):
    entry = zoo.get_entry(row)
    assert 'params_m' not in entry['Metadata']['Published']  # none were
    found = {metric: value for result in entry['Results'] for metric, value in result['Metrics'].items()}
    assert found == {METRICS[key]: value for key, value in IC_CONV[row].items()}
    backbone = zoo.get_config(row).model.backbone
    pattern = entry['Metadata']['Published']['pattern']
    assert backbone.get('pattern') == (pattern or ('proportional' if 'ic-' in row else None))
    assert entry['Metadata']['Reproduced']['state_dict'] == (pattern is not None and 'ae_ic-res101' not in row)


@pytest.mark.parametrize('row', WIDER)
def test_published_figures_of_wider_resnet(row):
    entry = zoo.get_entry(row)
    (result,) = entry['Results']
    assert result['Metrics'] == WIDER[row]
    assert result['Published'] is True
    checkpoint = entry['Metadata']['Published']['checkpoint']
    assert (checkpoint in PUBLISHED_MD5) == any('val' in metric or 'error' in metric for metric in WIDER[row])


# row -> golden case of its very backbone, and channels of the last map
INFLATED_CASES = {'r50': ('i3d_resnet50', 2048), 'r101': ('i3d_resnet101', 2048)}
INFLATED_CASES |= {'d121': ('i3d_densenet121_f8_inflate', 1024), 'd161': ('i3d_densenet161_f8_inflate', 2208)}


@pytest.mark.parametrize('row', INFLATED)
def test_inflated_rows_claim_times_and_outputs_only(row):
    entry = zoo.get_entry(row)
    metadata = entry['Metadata']
    published = metadata['Published']
    assert [published['seconds_batch_1'], published['seconds_batch_2']] == INFLATED[row]
    assert [(result['Published'], result['Metrics']) for result in entry['Results']] == [(False, {})]
    name, width = INFLATED_CASES.get(row.split('_')[1].rpartition('-')[2], (None, None))
    assert metadata['Reproduced'] == dict(state_dict=name is not None, outputs=['backbone'] if name else [])
    if name:  # the reference has 1000 classes
        assert metadata['Parameters'] == golden.Case('inflated', name)['params_3d'] - 600 * (width + 1)


@pytest.mark.parametrize('row', INFLATED)
def test_counts_of_inflated_rows_are_those_of_the_complexity_command(row):
    metadata, own = zoo.get_entry(row)['Metadata'], complexity(row)
    assert (metadata['Parameters'], metadata['FLOPs']) == (own.parameters, own.multiply_adds)
    assert metadata['Input'] == [own.frames, *own.shape]


def test_readme_has_the_published_times():
    readme = (ROOT / 'configs' / 'inflated' / 'README.md').read_text()
    for clips, seconds in zip((1, 2), zip(*INFLATED.values())):
        cells = ['-' if value is None else str(value) for value in seconds]
        assert f'\n| {clips} | {" | ".join(cells)} |\n' in readme


# facts/wider_resnet.md, section 1: counted on the original's own networks
COUNTS = {
    'wider-resnet38-a1_4xb64-90e_in1k': (109_167_912, 49_518_575_616),
    'wider-resnet38-a_4xb64-90e_in1k': (109_167_912, 49_518_575_616),
    'wider-resnet38-a_4xb64-90e_in1k_floor': (109_167_912, 46_144_421_888),
    'fcn_wider-resnet38-a1-d8_4xb4-30k_voc12aug-500x500': (124_042_581, 580.35),
    'fcn_wider-resnet38-a1-d8_4xb4-26k_cityscapes-500x500': (124_033_363, 4791.1),
    'fcn_wider-resnet38-a1-d8_4xb4-80k_ade20k-500x500': (124_637_142, 582.71),
}


@pytest.mark.parametrize('row', WIDER)
def test_counts_of_wider_resnet(row):
    metadata = zoo.get_entry(row)['Metadata']
    found = complexity(row, shape=metadata['Input'])
    assert (metadata['Parameters'], metadata['FLOPs']) == (found.parameters, found.multiply_adds)
    if row in COUNTS:
        parameters, multiply_adds = COUNTS[row]
        assert found.parameters == parameters
        if isinstance(multiply_adds, int):
            assert found.multiply_adds == multiply_adds
        else:
            decimals = len(str(multiply_adds).partition('.')[2])
            assert round(found.multiply_adds / 1e9, decimals) == multiply_adds


@pytest.mark.parametrize('row', [*PUBLISHED, *IC_CONV, *INFLATED, *WIDER])
def test_toolbox_is_that_of_the_config(row):
    assert zoo.get_config(row).default_scope == zoo.get_entry(row)['Toolbox']


@pytest.mark.parametrize('row', PUBLISHED)
def test_claims_are_backed_by_golden_data(row):
    """Only what golden data exists for is claimed; other tests compare that data with the models."""
    metadata = zoo.get_entry(row)['Metadata']
    compared = {
        golden.Case('involution', f'rows/{name}')['options']['config'] for name in golden.names('involution', 'rows/*')
    }
    assert metadata['Reproduced']['state_dict'] == (metadata['Published']['config'] in compared)
    parts = {
        'logits': row.partition('_')[0] + '_classifier',
        'backbone': 'rednet50_det',
        'neck': {'retinanet': 'fpn_det_retina', 'fpn': 'fpn_seg_4'}.get(row.partition('_')[0], 'fpn_det_maxpool'),
        'rpn_head': 'rpn_head',
        'mask_head': 'mask_head',
    }
    for part in metadata['Reproduced']['outputs']:
        assert golden.Case('involution', parts[part]).arrays


def test_modelindex_reads_the_file():
    from modelindex.load_model_index import load

    index = load(str(ROOT / 'model-index.yml'))
    assert sorted(model.name for model in index.models) == sorted([*PUBLISHED, *IC_CONV, *INFLATED, *WIDER])
    (model,) = [found.full_model for found in index.models if found.name.startswith('upernet_red50')]
    assert model.paper['URL'] == 'https://arxiv.org/abs/2103.06255'
    assert model.metadata.architecture == ['RedNet', 'Involution']
    assert model.results[0].metrics == {'mIoU': 80.6}
    assert model.weights is None
    assert 'no URL checked here' in model.data['Checkpoints']


def test_mmpretrain_reads_the_file(monkeypatch):
    from mmpretrain.apis.model import ModelHub

    monkeypatch.setattr(ModelHub, '_models_dict', {})
    ModelHub.register_model_index(ROOT / 'model-index.yml', config_prefix=ROOT)
    info = ModelHub.get('rednet26_64xb32-130e_in1k')
    assert info.config.model.backbone.depth == 26
    assert info.metadata.parameters == 9233886


def test_readme_has_the_tables_of_the_metafile(generate_readme):
    assert generate_readme.main(['--check']) == 0


def test_readme_that_differs(generate_readme, tmp_path, capsys):
    for name in ('README.md', 'metafile.yml'):
        shutil.copy(FOLDER / name, tmp_path)
    readme = tmp_path / 'README.md'
    good = readme.read_text()
    assert all(f'\n| [`{row}`]({row}.py) | ' in good for row in PUBLISHED)
    readme.write_text(good.replace('| 39.5 |', '| 40.5 |'))
    assert generate_readme.main(['--check', str(readme)]) == 1
    assert f'{readme} differs from its metafile' in capsys.readouterr().err
    assert generate_readme.main([str(readme)]) == 0
    assert readme.read_text() == good
    assert {path.name for path in tmp_path.iterdir()} == {'README.md', 'metafile.yml'}

    readme.write_text(good.replace('<!-- table: COCO -->', '<!-- table: COKO -->'))
    with pytest.raises(ValueError, match="no row of the metafile has results on 'COKO'"):
        generate_readme.main([str(readme)])


@pytest.mark.parametrize('row', IC_CONV)
def test_counts_of_ic_conv_are_those_of_the_complexity_command(row):
    metadata = zoo.get_entry(row)['Metadata']
    own = complexity(row)
    assert (metadata['Parameters'], metadata['FLOPs']) == (own.parameters, own.multiply_adds)
    assert metadata['Input'] == list(own.shape)


@pytest.mark.parametrize(
    ('row', 'params', 'multiply_adds'),
    [
        ('ic-resnet50_8xb32_in1k', 25557032, 4089184256),
        ('ic-resnet101_8xb32_in1k', 44549160, 7801405440),
    ],
)  # facts/complexity_ic_conv.json: those of ResNet
def test_inception_convolutions_count_as_ordinary_ones(row, params, multiply_adds):
    found = complexity(row)
    assert (found.parameters, found.multiply_adds) == (params, multiply_adds)


@pytest.mark.parametrize('row', PUBLISHED)
def test_counts_are_those_of_the_complexity_command(row):
    metadata = zoo.get_entry(row)['Metadata']
    own = complexity(row)
    assert (metadata['Parameters'], metadata['FLOPs']) == (own.parameters, own.multiply_adds)
    assert metadata['Input'] == list(own.shape)
    published = complexity(row, convention='published')
    reproduced = metadata['Reproduced']
    assert (reproduced['params'], reproduced['flops']) == (published.counted_parameters, published.multiply_adds)
