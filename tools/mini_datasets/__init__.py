"""Makes small datasets in the standard formats of the OpenMMLab toolboxes, for `tools/make_mini_datasets.py`."""
