"""Steps of a video pipeline that read clips with decord and name the file where one cannot be decoded."""

from mmaction.datasets import transforms

from mmext.registry import TRANSFORMS

__all__ = ['DecordDecode', 'DecordInit']


@TRANSFORMS.register_module()
class DecordInit(transforms.DecordInit):
    """mmaction2's ``DecordInit`` that names a clip it cannot open. It has the same arguments.

    mmaction2 reads the file and hands its bytes to decord, which knows no name and says "Error reading 1597 bytes...".
    """

    def transform(self, results):
        """Open a clip.

        Args:
            results (dict): Sample of the pipeline with ``filename``.

        Returns:
            dict: The sample with ``video_reader``, ``total_frames`` and ``avg_fps``.

        Raises:
            ValueError: If the file is no clip that decord can decode, or has no frames.
            FileNotFoundError: If there is no such file.
        """
        try:
            results = super().transform(results)
        except (RuntimeError, _decord_error()) as error:
            raise ValueError(_message(results, error)) from error
        if results['total_frames'] < 1:
            raise ValueError(_message(results, 'it has no frames'))
        return results


@TRANSFORMS.register_module()
class DecordDecode(transforms.DecordDecode):
    """mmaction2's ``DecordDecode`` that names a clip whose frames it cannot decode. It has the same arguments."""

    def transform(self, results):
        """Decode the sampled frames of a clip.

        Args:
            results (dict): Sample of the pipeline with ``video_reader`` and ``frame_inds``.

        Returns:
            dict: The sample with ``imgs``, a list of pictures [H, W, 3], uint8, red first.

        Raises:
            ValueError: If a frame cannot be decoded.
        """
        try:
            return super().transform(results)
        except (RuntimeError, _decord_error()) as error:
            raise ValueError(_message(results, error)) from error


def _decord_error():
    from decord import DECORDError  # mmaction2 says how to install decord when it is not there

    return DECORDError


def _message(results, why):
    reason = str(why).strip().splitlines()[0] if str(why).strip() else type(why).__name__
    return (
        f'cannot decode the clip {results.get("filename", "(no filename)")}: {reason}; it is damaged, incomplete or no '
        'video: replace the file, or take its line out of the annotation file'
    )
