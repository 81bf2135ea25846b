# Faster R-CNN with an IC-ResNet-18, whose dilations a rule makes, on the mini COCO data of tools/make_mini_datasets.py:
# half width, small pictures, five digits, from scratch in minutes on two CPU cores. All but the network is the mini
# config of the involution family.
_base_ = ['./faster-rcnn_red26_fpn-inv-neck_inv-head_mini-coco.py']

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmext.ICResNet',
        depth=18,
        pattern='proportional',
        stem_channels=32,
        base_channels=32,
        out_indices=(0, 1, 2, 3),
    ),
    neck=dict(_delete_=True, type='FPN', in_channels=[32, 64, 128, 256], out_channels=64, num_outs=5),
    rpn_head=dict(type='RPNHead'),
)
