"""Read datasets from disk: one reader per format, splits, and the views of images that networks read."""

from probebench.datasets.dataset import Content, Dataset, Images, Split, load

__all__ = ["Content", "Dataset", "Images", "Split", "load"]
