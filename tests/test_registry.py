import subprocess
import sys

import pytest

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
