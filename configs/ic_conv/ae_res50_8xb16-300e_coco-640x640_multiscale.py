# The same network tested in the scales 2, 1 and 0.5: published with 55.8 AP. Nothing differs in training.
_base_ = ['./ae_res50_8xb16-300e_coco-640x640.py']

model = dict(test_cfg=dict(multiscale_test=True))
val_dataloader = dict(dataset=dict(pipeline=_base_.multiscale_pipeline))
test_dataloader = val_dataloader
