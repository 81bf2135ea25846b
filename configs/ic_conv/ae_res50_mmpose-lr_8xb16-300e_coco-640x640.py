# Associative embedding, ResNet-50: published with 47.9 AP in one scale, 52.5 in three (mmpose's own row).
_base_ = ['./ae_res50_8xb16-300e_coco-640x640.py']

# the learning rate of mmpose's own associative embedding configs
optim_wrapper = dict(optimizer=dict(lr=1.5e-3))
