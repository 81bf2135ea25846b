import importlib
import subprocess
import sys

import pytest
from mmengine.registry import Registry

from mmext import registry
from mmext.registry import MODELS

BUILD = """
{before}
from {toolbox}.registry import MODELS
model = MODELS.build(dict(type='mmext.RedNet', depth=26, base_channels=16, stem_channels=32))
assert type(model).__module__ == 'mmext.models.rednet', type(model)
"""


def run(code):
    """Run code in a Python of its own, so that nothing is imported beforehand."""
    result = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


@pytest.mark.parametrize('toolbox', ['mmdet', 'mmseg', 'mmpose', 'mmpretrain'])
def test_rednet_builds_without_custom_imports(toolbox):
    run(BUILD.format(toolbox=toolbox, before=''))


@pytest.mark.parametrize('toolbox', ['mmdet', 'mmseg', 'mmpose', 'mmpretrain', 'mmaction'])
def test_rednet_builds_with_custom_imports(toolbox, tmp_path):
    config = tmp_path / 'config.py'
    config.write_text("custom_imports = dict(imports=['mmext'], allow_failed_imports=False)\n")
    before = f'from mmengine.config import Config; Config.fromfile({str(config)!r})'
    run(BUILD.format(toolbox=toolbox, before=before))


def test_heads_are_found_from_mmdet_without_custom_imports():
    code = "from mmdet.registry import MODELS; print(MODELS.get('mmext.InvolutionMaskHead').__module__)"
    assert run(code).strip() == 'mmext.det.involution_mask_head'


def test_a_lookup_imports_no_toolbox():
    code = "import sys; from mmengine.registry import MODELS; MODELS.get('mmext.InvolutionFPN'); "
    assert run(code + "print('mmdet' in sys.modules)").strip() == 'False'


def test_import_brings_in_no_toolbox():
    names = ('mmcv', 'cv2', 'mmdet', 'mmseg', 'mmpose', 'mmpretrain', 'mmaction', 'mmext.models')
    assert run(f'import sys, mmext; print(*[name for name in {names} if name in sys.modules])').strip() == ''


def test_a_typing_error_names_the_close_match():
    with pytest.raises(KeyError, match=r"mmext has no model 'RedNte': did you mean 'RedNet'\?"):
        MODELS.get('mmext.RedNte')
    assert 'RedNte' not in MODELS
    assert 'RedNet' in MODELS


def test_names_of_the_root_registry_stay_reachable():
    assert MODELS.get('BaseDataPreprocessor').__module__.startswith('mmengine')


@pytest.fixture
def part(tmp_path, monkeypatch):
    """A part of mmext for a toolbox, both made here; its second module is given in each test."""
    (tmp_path / 'some_toolbox.py').write_text('')
    (tmp_path / 'some_part').mkdir()
    (tmp_path / 'some_part/__init__.py').write_text('from . import first, second\n')
    register = 'from mmext.registry import MODELS\n@MODELS.register_module()\nclass {}:\n    pass\n'
    (tmp_path / 'some_part/first.py').write_text(register.format('OfTheFirst'))
    second = tmp_path / 'some_part/second.py'
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr('sys.dont_write_bytecode', True)
    monkeypatch.setattr(registry, 'TOOLBOX_PARTS', {'some_toolbox': 'some_part'})
    importlib.import_module('some_toolbox')
    yield lambda end: second.write_text(register.format('OfTheSecond') + end)
    for name in ('some_toolbox', 'some_part', 'some_part.first', 'some_part.second'):
        sys.modules.pop(name, None)
    for name in ('OfTheFirst', 'OfTheSecond'):
        MODELS.module_dict.pop(name, None)
    MODELS._unavailable.clear()


@pytest.mark.parametrize('error', ['import no_such_module_anywhere', 'raise AssertionError("mmcv is too new")'])
def test_a_part_that_failed_in_the_middle_is_tried_again(part, error):
    part(error)
    with pytest.raises(KeyError, match=r'some_part cannot be imported .*(no_such_module_anywhere|mmcv is too new)'):
        MODELS.get('mmext.OfAThird')
    assert MODELS.get('mmext.RedNet').__module__ == 'mmext.models.rednet'  # which does not need the part
    part('whole = True')
    assert MODELS.get('mmext.OfTheSecond') is sys.modules['some_part.second'].OfTheSecond
    assert sys.modules['some_part.second'].whole
    assert MODELS.get('mmext.OfTheFirst') is sys.modules['some_part.first'].OfTheFirst


def test_a_part_that_its_user_imports_after_a_failure(part):
    part('import no_such_module_anywhere')
    with pytest.raises(ImportError):
        importlib.import_module('some_part')
    with pytest.raises(ImportError):
        importlib.import_module('some_part')
    assert 'mmext.OfTheSecond' not in MODELS  # though it was registered before the failure
    part('')
    module = importlib.import_module('some_part')
    assert MODELS.get('mmext.OfTheSecond') is module.second.OfTheSecond


def test_a_registry_whose_module_is_executed_again_takes_the_place_of_the_first():
    parent = Registry('something', scope='some_toolbox')
    first, second = (registry.PluginRegistry(parent, locations=()) for _ in range(2))
    assert parent.children == {'mmext': second}
    assert first is not second


def test_a_name_that_another_class_has_stays_refused():
    class RedNet:
        pass

    with pytest.raises(KeyError, match=r'RedNet is already registered in model at mmext\.models\.rednet'):
        MODELS.register_module()(RedNet)
    with pytest.raises(KeyError, match=r'RedNet is already registered in model at mmext\.models\.rednet'):
        MODELS.register_module(name=['RedNet'], module=RedNet)
    with pytest.raises(TypeError, match='name must be None'):
        MODELS.register_module(name=3)
    assert MODELS.get('mmext.RedNet').__module__ == 'mmext.models.rednet'
