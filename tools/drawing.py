"""Pictures of what a detector found, beside the ground truth."""

from pathlib import Path

import cv2
import numpy as np

__all__ = ['draw_detections']

SCALE = 2  # the mini pictures are small; labels need room
COLUMNS = 2
GAP = 8


def draw_detections(config, predictions, out, pictures, score_thr=0.5):
    """Draw ground truth (left) and detections (right) of held-out pictures into one PNG, with mmdet's visualizer.

    Args:
        config (str or Path): Config the detector was tested with.
        predictions (str or Path): What mmdet's test script wrote with ``--out``.
        out (str or Path): PNG to write.
        pictures (int): Pictures to draw, evenly spread over the held-out ones.
        score_thr (float): Least score of a detection that is drawn, in 0..1. Default: 0.5.

    Returns:
        dict[str, int]: Numbers of pictures in the data: 'train' and 'val'.
    """
    import mmengine
    from mmdet.registry import DATASETS
    from mmdet.structures import DetDataSample
    from mmdet.utils import register_all_modules
    from mmdet.visualization import DetLocalVisualizer
    from mmengine.config import Config
    from mmengine.structures import InstanceData

    register_all_modules()
    cfg = Config.fromfile(config)
    held_out = DATASETS.build(cfg.test_dataloader.dataset)
    train = DATASETS.build(cfg.train_dataloader.dataset)
    found = {sample['img_id']: sample['pred_instances'] for sample in mmengine.load(predictions)}

    visualizer = DetLocalVisualizer()
    visualizer.dataset_meta = held_out.metainfo
    tiles = []
    for index in np.linspace(0, len(held_out) - 1, min(pictures, len(held_out))).astype(int):
        info = held_out.get_data_info(int(index))
        image = cv2.cvtColor(cv2.imread(info['img_path']), cv2.COLOR_BGR2RGB)
        image = cv2.resize(image, None, fx=SCALE, fy=SCALE, interpolation=cv2.INTER_CUBIC)
        kept = [instance for instance in info['instances'] if not instance['ignore_flag']]
        truth = InstanceData(
            bboxes=np.array([instance['bbox'] for instance in kept], np.float32).reshape(-1, 4) * SCALE,
            labels=np.array([instance['bbox_label'] for instance in kept], int),
        )
        result = found[info['img_id']]
        result = InstanceData(bboxes=result['bboxes'] * SCALE, scores=result['scores'], labels=result['labels'])
        sample = DetDataSample(gt_instances=truth, pred_instances=result)
        visualizer.add_datasample('held-out', image, sample, pred_score_thr=score_thr, draw_gt=True, show=False)
        tiles.append(np.pad(visualizer.get_image(), ((GAP, 0), (GAP, 0), (0, 0)), constant_values=255))
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % COLUMNS)
    rows = [np.concatenate(tiles[i : i + COLUMNS], axis=1) for i in range(0, len(tiles), COLUMNS)]
    sheet = np.pad(np.concatenate(rows), ((0, GAP), (0, GAP), (0, 0)), constant_values=255)
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(out), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
    return dict(train=len(train), val=len(held_out))
