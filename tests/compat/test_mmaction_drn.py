import subprocess
import sys

IMPORT = 'import mmext; from mmaction.models.localizers import DRN; '


def run(code):
    return subprocess.run([sys.executable, '-W', 'ignore', '-c', code], capture_output=True, text=True)


def test_mmaction_imports_and_the_missing_class_says_so():
    result = run(IMPORT + 'DRN(feat_dim=8)')
    assert (
        'ImportError: this installation of mmaction2 does not contain mmaction.models.localizers.drn' in result.stderr
    )


def test_an_installed_module_is_left_alone(tmp_path):
    folder = tmp_path / 'drn'
    folder.mkdir()
    (folder / '__init__.py').touch()
    (folder / 'drn.py').write_text("class DRN:\n    name = 'the real one'\n")
    code = (
        'import mmext, sys, types\n'
        # the parent package as it would be with the real module beside its files, without running mmaction itself
        "for name in ('mmaction', 'mmaction.models', 'mmaction.models.localizers'):\n"
        '    sys.modules[name] = types.ModuleType(name)\n'
        f'    sys.modules[name].__path__ = [{str(tmp_path)!r}]\n'
        'from mmaction.models.localizers.drn.drn import DRN\n'
        'print(DRN.name)\n'
    )
    result = run(code)
    assert result.stdout.strip() == 'the real one', result.stderr
