# PASCAL VOC 2012 with SBD and COCO: published with 82.86 mIoU on val, one scale with flip; 84.9 on test, several scales.
# Neither the training command nor the list of COCO pictures was published: tools/coco_to_voc_labels.py makes labels in
# VOC's classes from COCO's instances; the schedule is ours.
_base_ = ['./fcn_wider-resnet38-a1-d8_4xb4-30k_voc12aug-500x500.py']

dataset_coco = dict(
    type='PascalVOCDataset',
    data_root='data/coco',
    data_prefix=dict(img_path='train2017', seg_map_path='voc_labels/train2017'),
    ann_file='voc_labels/train2017.txt',
    pipeline=_base_.train_pipeline,
)
train_dataloader = dict(dataset=dict(datasets=[_base_.dataset_train, _base_.dataset_aug, dataset_coco]))

train_cfg = dict(max_iters=60000)
# lr (1 - n / (N + 1)) down to 1e-6, which is reached just before the end
param_scheduler = [
    dict(type='LinearLR', start_factor=1.0, end_factor=1e-6 / 0.0016, begin=0, end=59964, by_epoch=False)
]
