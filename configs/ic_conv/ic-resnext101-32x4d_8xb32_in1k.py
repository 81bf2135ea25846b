# IC-ResNeXt-101 32x4d on ImageNet. The original names this network, but published neither pattern nor weights nor accuracy: the pattern is made by a
# rule, one that was searched is given in its place.
_base_ = ['mmpretrain::resnext/resnext101-32x4d_8xb32_in1k.py']
custom_imports = dict(imports=['mmext'], allow_failed_imports=False)

model = dict(backbone=dict(_delete_=True, type='mmext.ICResNeXt', depth=101, pattern='proportional', out_indices=(3,)))
