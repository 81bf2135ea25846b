# RedNet-152: published with 79.12 top-1 accuracy (involution, CVPR 2021).
_base_ = ['./_base_/rednet50_in1k.py']

model = dict(backbone=dict(depth=152))
