# Wider-ResNet Model A from scratch, pooling as it was trained. The published test command pools otherwise, see the
# config whose name ends in _floor.
_base_ = ['./_base_/in1k.py']

model = dict(backbone=dict(arch='A', pooling='ceil'))
