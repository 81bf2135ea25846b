import pytest
import torch
import torch.nn.functional as F
from mmengine.structures import PixelData
from mmseg.models.losses import accuracy
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

CROSS_ENTROPY = dict(type='CrossEntropyLoss', avg_non_ignore=True)


def build(**kwargs):
    settings = dict(type='mmext.DilatedFCNHead', in_channels=6, channels=8, num_classes=5, loss_decode=CROSS_ENTROPY)
    return MODELS.build({**settings, **kwargs})


def samples(size, number=2):
    labels = torch.randint(0, 5, (number, 1, *size))
    labels[torch.rand(labels.shape) < 0.2] = 255
    return labels[:, 0], [SegDataSample(gt_sem_seg=PixelData(data=label)) for label in labels]


def test_keys_and_shapes():
    head = build(in_channels=4096, channels=512, num_classes=19)
    assert {key: tuple(value.shape) for key, value in head.state_dict().items()} == {
        'convs.0.conv.weight': (512, 4096, 3, 3),
        'convs.0.conv.bias': (512,),
        'conv_seg.weight': (19, 512, 3, 3),
        'conv_seg.bias': (19,),
    }


def test_forward():
    head = build()
    x = torch.randn(2, 6, 15, 30)
    hidden = F.conv2d(x, head.convs[0].conv.weight, head.convs[0].conv.bias, padding=12, dilation=12).relu()
    expected = F.conv2d(hidden, head.conv_seg.weight, head.conv_seg.bias, padding=12, dilation=12)
    assert expected.shape == (2, 5, 15, 30)
    torch.testing.assert_close(head([x]), expected)  # in training mode: no dropout by default


def test_options_of_the_head():
    head = build(kernel_size=1, dilation=1, num_convs=2, dropout_ratio=0.5)
    assert head([torch.randn(1, 6, 3, 4)]).shape == (1, 5, 3, 4)
    assert head.dropout.p == 0.5
    assert len(head.convs) == 2


def test_initial_weights():
    head = build(in_channels=64, channels=128, num_classes=50)
    head.init_weights()
    for conv in (head.convs[0].conv, head.conv_seg):
        expected = (2 / (9 * conv.in_channels)) ** 0.5
        assert conv.weight.std().item() == pytest.approx(expected, rel=0.02)
        assert abs(conv.weight.mean().item()) < 0.02 * expected
        assert conv.bias.abs().max() == 0


@pytest.mark.parametrize(('stride', 'first'), [(8, 4), (4, 2), (5, 2), (1, 0)])
def test_labels_are_sampled_at_the_centres(stride, first):
    head, scores = build(), torch.randn(2, 5, 6, 7)
    labels, data_samples = samples((6 * stride, 7 * stride))
    found = head.loss_by_feat(scores, data_samples)
    cells = torch.stack([torch.stack([label[first + stride * i, first::stride] for i in range(6)]) for label in labels])
    torch.testing.assert_close(found['loss_ce'], F.cross_entropy(scores, cells, ignore_index=255))
    torch.testing.assert_close(found['acc_seg'], accuracy(scores, cells, ignore_index=255))
    assert data_samples[0].gt_sem_seg.shape == (6 * stride, 7 * stride)  # left as they were


def test_sampling_can_be_turned_off():
    head, scores = build(sample_labels=False), torch.randn(2, 5, 6, 7)
    labels, data_samples = samples((45, 50))
    found = head.loss_by_feat(scores, data_samples)
    enlarged = F.interpolate(scores, (45, 50), mode='bilinear')
    torch.testing.assert_close(found['loss_ce'], F.cross_entropy(enlarged, labels, ignore_index=255))


def test_with_the_bootstrapped_loss():
    loss = dict(type='mmext.BootstrappedCrossEntropyLoss', min_kept=4, loss_weight=0.5)
    head, x = build(loss_decode=[loss, CROSS_ENTROPY]), torch.randn(2, 6, 6, 7)
    labels, data_samples = samples((48, 56))
    found = head.loss([x], data_samples, None)
    scores, cells = head([x]), labels[:, 4::8, 4::8]
    torch.testing.assert_close(found['loss_bootstrapped'], MODELS.build(loss)(scores, cells))
    torch.testing.assert_close(found['loss_ce'], F.cross_entropy(scores, cells, ignore_index=255))
    found['loss_bootstrapped'].backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in head.parameters())


@pytest.mark.parametrize('size', [(50, 56), (48, 57), (48, 63), (3, 3)])
def test_labels_that_do_not_fit(size):
    message = rf'labels of {size[0]} x {size[1]} pixels do not fit scores of 6 x 7 cells'
    with pytest.raises(ValueError, match=message):
        build().loss_by_feat(torch.randn(2, 5, 6, 7), samples(size)[1])


def test_even_kernels_are_refused():
    with pytest.raises(ValueError, match='kernel_size=2 must be odd'):
        build(kernel_size=2)
