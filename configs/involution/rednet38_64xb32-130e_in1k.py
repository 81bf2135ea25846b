# RedNet-38: published with 77.48 top-1 accuracy (involution, CVPR 2021).
_base_ = ['./_base_/rednet50_in1k.py']

model = dict(backbone=dict(depth=38))
