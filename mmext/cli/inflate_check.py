"""Inflate a classification network to 3D, show it a static clip, and compare its prediction with the 2D one's.

The clip is one image again and again, so that both predictions must be equal but for rounding. ResNets and DenseNets of
torchvision are inflated by the rules of the published inflated networks (temporal kernels of 3, time is halved on the
way), all others with one tap along time and pools over space; see mmext.inflate.

    mmext inflate-check resnet50 --image cat.jpg --checkpoint resnet50-11ad3fa6.pth
    mmext inflate-check densenet121 --frames 8
    mmext inflate-check rednet26_64xb32-130e_in1k

The exit status is 1 if the largest difference is above 1e-5 of the largest score.
"""

import difflib
import sys
from pathlib import Path

from .table import format_table, printable

HELP = 'compare an inflated network with its 2D original on a static clip'
TOLERANCE = 1e-5
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, for values in 0..1
SEED = 0
MAX_PIXELS = 2**26  # of a clip; an inflated ResNet-50 takes about 5 GB for so many


def add_arguments(parser):
    """Declare the arguments."""
    parser.add_argument(
        'model', metavar='MODEL', help='classification network of torchvision, row of mmext or mmpretrain, or a config'
    )
    parser.add_argument('--image', metavar='PATH', help='a picture (default: a photograph of scikit-learn, else noise)')
    parser.add_argument('--frames', type=int, default=16, metavar='N', help='frames of the clip (default: 16)')
    parser.add_argument('--checkpoint', metavar='PATH', help='weights of the 2D network (default: random ones)')
    parser.add_argument('--size', type=int, default=224, metavar='N', help='height and width in pixels (default: 224)')


def run(args):
    """Run the command; return 1 if the predictions differ."""
    import torch

    from mmext.inflating import inflate
    from mmext.inflating.published import published_rules

    for name in ('frames', 'size'):
        if getattr(args, name) < 1:
            raise ValueError(f'--{name} {getattr(args, name)} must be at least 1')
    pixels = args.frames * args.size**2
    if pixels > MAX_PIXELS:
        raise ValueError(
            f'--frames {args.frames} of --size {args.size} are {pixels:,} pixels, more than the {MAX_PIXELS:,} that a '
            'clip may have here; give less of both'
        )
    if args.image is not None and not Path(args.image).is_file():
        raise FileNotFoundError(f'there is no image {args.image}; give the path of a picture')
    with torch.random.fork_rng([]):
        torch.manual_seed(SEED)
        model, classes = _model(args.model)
        image, origin = _image(args.image, args.size)
    if args.checkpoint is not None:
        _load(model, args.checkpoint, args.model)
    model.eval()
    with torch.inference_mode():
        try:
            flat = model(image)
        except (RuntimeError, ValueError) as error:  # most of all where the image is too small for it
            raise ValueError(
                f'{args.model} does not run on an image of {args.size} x {args.size} pixels: {error}; try a larger '
                '--size'
            ) from error
    rules = published_rules(model, args.frames)
    try:
        network = inflate(model, rules, image_size=args.size)
    except ValueError as error:
        for line in str(error).splitlines():
            print('  ' * line.startswith(' ') + printable(line), file=sys.stderr)
        raise ValueError(
            f'{args.model} cannot be inflated without rules of its own, which this command does not take; in Python, '
            'mmext.inflate(model, rules) does'
        ) from error
    clip = image[:, :, None].expand(-1, -1, args.frames, -1, -1)
    with torch.inference_mode():
        deep = network(clip)
    if not isinstance(flat, torch.Tensor) or flat.ndim != 2:
        raise ValueError(f'{args.model} gives no score for each class; choose a classification network')
    scale = float(flat.abs().max())
    if not 0 < scale < float('inf'):  # also where it is NaN
        raise ValueError(
            f'the largest score of the 2D network is {scale:g}, so that nothing can be compared; give the weights of a '
            'trained network'
        )
    if deep.ndim == 3:  # [N, T, classes]: nothing pools over time
        deep = deep.mean(1)
    weights = args.checkpoint or f'random, seed {SEED}, as there is no --checkpoint: the classes mean nothing'
    print(f'model    {args.model}\nweights  {weights}\nimage    {origin}, {args.size} x {args.size} pixels')
    print(f'clip     {args.frames} times this image')
    print(f'rules    {"those of the published inflated network" if rules else "one tap along time"}')
    difference = float((deep - flat).abs().max())
    relative = difference / scale
    equal = relative <= TOLERANCE
    print(
        f'\nlargest difference {difference:.2e}, that is {relative:.2e} of the largest score: '
        f'{"equal" if equal else "NOT equal"} (up to {TOLERANCE:.0e})\n'
    )
    print(format_table(('', '2D', 'score', '3D', 'score'), _top(flat[0], deep[0], classes), 'rlrlr'))
    return 0 if equal else 1


def _top(flat, deep, classes, count=5):
    columns = []
    for scores in (flat, deep):
        values, indices = scores.topk(min(count, len(scores)))
        names = [classes[i] if classes and i < len(classes) else f'class {i}' for i in indices.tolist()]
        columns += [names, [f'{value:.4f}' for value in values.tolist()]]
    return [[str(place), *cells] for place, cells in enumerate(zip(*columns), 1)]


def _model(name):
    """Return a network with random weights and the names of its classes, if they are known."""
    from mmext import zoo

    rows = [row for row in zoo.list_models() if zoo.get_entry(row)['Toolbox'] == 'mmpretrain']
    if name in rows:
        model = zoo.get_model(name)
        return model, model.dataset_meta.get('classes')
    networks = _torchvision_names()
    if name in networks:
        import torchvision

        weights = torchvision.models.get_model_weights(name)
        classes = next((entry.meta['categories'] for entry in weights if 'categories' in entry.meta), None)
        return torchvision.models.get_model(name, weights=None), classes
    is_config = name.endswith('.py')
    if is_config and not Path(name).is_file():
        raise FileNotFoundError(f'there is no config {name}; give the path of one')
    toolbox = _mmpretrain()
    others = toolbox.list_models() if toolbox else []
    if is_config or name in others:
        if toolbox is None:
            raise ImportError(f"{name} needs mmpretrain, which is not installed; run: pip install 'mmext[cls]'")
        # what a training would start from is not read
        model = _of_a_config(toolbox, name) if is_config else toolbox.get_model(name, pretrained=False)
        return model, (getattr(model, '_dataset_meta', None) or {}).get('classes')
    close = difflib.get_close_matches(name, [*networks, *rows, *others], n=3)
    hint = f'did you mean {" or ".join(map(repr, close))}? ' * bool(close)
    raise ValueError(
        f'no network {name!r}: {hint}known are {len(networks)} of torchvision, {len(rows)} rows of mmext, '
        f'{len(others)} of mmpretrain, and paths of configs'
    )


def _of_a_config(toolbox, path):
    from mmext.utils.configs import load_config

    cfg = load_config(path)
    if 'model' not in cfg:
        raise ValueError(f'{path} has no `model`; give the config of a classification network')
    try:
        return toolbox.get_model(cfg, pretrained=False)
    except ImportError:
        raise
    except Exception as error:  # whatever the constructors of the model make of the config's values
        raise ValueError(f'the model of {path} cannot be built ({type(error).__name__}: {error})') from error


def _torchvision_names():
    try:
        import torchvision
    except ImportError:
        return []
    return torchvision.models.list_models(module=torchvision.models)


def _mmpretrain():
    try:
        import mmpretrain
    except ImportError:
        return None
    return mmpretrain


def _load(model, checkpoint, name):
    from mmext.convert import ConversionError, read_checkpoint
    from mmext.convert.comparison import differences
    from mmext.convert.values import check_values

    state_dict = read_checkpoint(checkpoint)
    own = model.state_dict()
    found = differences(state_dict, {key: tuple(value.shape) for key, value in own.items()})
    if found:
        raise ValueError(f'{checkpoint} does not fit {name}: {"; ".join(found)}; give a checkpoint of this network')
    try:
        check_values(state_dict, {key for key, value in own.items() if not value.is_floating_point()})
    except ConversionError as error:
        raise ConversionError(f'{checkpoint}: {error}') from None
    model.load_state_dict(state_dict)


def _image(path, size):
    """Return an image [1, 3, size, size], normalised, and where it is from."""
    import numpy as np
    import torch

    pixels, origin = _pixels(path, size)
    if pixels is None:
        return torch.randn(1, 3, size, size), origin
    mean, std = (np.array(values, np.float32) for values in (MEAN, STD))
    image = (pixels.astype(np.float32) / 255 - mean) / std
    return torch.from_numpy(image).permute(2, 0, 1)[None].contiguous(), origin


def _pixels(path, size):
    from mmext.utils.images import read_square, square

    if path is not None:
        return read_square(path, size), path
    try:
        from PIL import Image
        from sklearn.datasets import load_sample_image
    except ImportError:
        return None, f'noise, seed {SEED}, as scikit-learn is not installed'
    return square(Image.fromarray(load_sample_image('china.jpg')), size), "scikit-learn's photograph china.jpg"
