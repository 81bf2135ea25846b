# Wider-ResNet Model A1 from scratch: a published training command, without published figures.
_base_ = ['./_base_/in1k.py']
