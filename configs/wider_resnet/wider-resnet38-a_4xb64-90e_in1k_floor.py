# Wider-ResNet Model A as its published test command pools: 19.20 / 4.73 top-1 / top-5 error at 320 x 320.
_base_ = ['./wider-resnet38-a_4xb64-90e_in1k.py']

model = dict(backbone=dict(pooling='floor'))
