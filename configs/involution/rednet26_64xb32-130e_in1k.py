# RedNet-26: published with 75.96 top-1 accuracy (involution, CVPR 2021).
_base_ = ['./_base_/rednet50_in1k.py']

model = dict(backbone=dict(depth=26))
