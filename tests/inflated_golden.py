"""Reading of the golden cases of the inflated networks: a 2D network's weights, still and moving clips."""

import golden
import torch
from torch import nn

from mmext.models import InflatedDenseNet, InflatedResNet


class Case(golden.Case):
    """One case; its weights are those of the 2D network under torchvision's names."""

    def __init__(self, name):
        super().__init__('inflated', name)

    def clips(self):
        """Return {name: clip}."""
        clips = {}
        for given in self['input']:
            shape = given['shape']
            if given['kind'] == 'still':
                image = golden.fill.fill_input(given['name'], [*shape[:2], *shape[3:]], given['seed'])
                clips[given['name']] = torch.from_numpy(image)[:, :, None].expand(*shape)
            else:
                clips[given['name']] = torch.from_numpy(golden.fill.fill_input(given['name'], shape, given['seed']))
        return clips

    def backbone(self, folder, **options):
        """Return the inflated backbone, its weights loaded from a file of the 2D network."""
        torch.save(self.state_dict(), folder / '2d.pth')
        arch, given = self['options']['arch'], self['options']
        options = dict(pretrained=str(folder / '2d.pth'), **options)
        if arch.startswith('resnet'):
            model = InflatedResNet(int(arch[6:]), **options)
        else:
            options['inflate_block_convs'] = given['inflate_block_convs']
            model = InflatedDenseNet(int(arch[8:]), **options)
        model.init_weights()
        return model.eval()

    def logits(self, features):
        """Return the logits by the rule of the case's classifier, worked out apart from the heads."""
        state = self.state_dict()
        if self['options'].get('conv_class'):
            name = dict(self.fields['extra_fill'])
            extra = {key: golden.fill.fill_param(key, shape, self['weights_seed']) for key, shape in name.items()}
            weight, bias = (torch.from_numpy(extra[f'classifier.{what}']) for what in ('weight', 'bias'))
            pooled = features.mean((3, 4), keepdim=True)
            return nn.functional.conv3d(pooled, weight, bias).mean((2, 3, 4))
        weight, bias = ((state.get(f'fc.{what}', state.get(f'classifier.{what}'))) for what in ('weight', 'bias'))
        return features.mean((3, 4)).transpose(1, 2).matmul(weight.T).mean(1) + bias
