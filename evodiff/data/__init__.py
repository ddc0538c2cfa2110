"""Datasets: images of one size with a split that does not move.

======================  ==========================================================
:mod:`.dataset`         ``ImageDataset``: arrays, split, digest, file format
:mod:`.catalogue`       ``open_dataset``: a dataset by its name
:mod:`.digits`          handwritten digits of scikit-learn, 8 x 8
:mod:`.photos`          patches of scikit-learn's two sample photographs
:mod:`.shapes`          procedural coloured shapes
:mod:`.folder`          a user's own images
:mod:`.decoding`        one image file to an array of pixels
:mod:`.png`             an array of pixels to a PNG

:mod:`.gates`           ``check_dataset``: the gate that a dataset passes
:mod:`.dataset_tables`  a dataset as tables of plain rows
:mod:`.duplicates`      images that are seen twice
:mod:`.expectations`    what rows of a table are to be like
:mod:`.judging`         tables judged by expectations, with Great Expectations
:mod:`.gate_result`     what a gate found, stored; bad data set aside
======================  ==========================================================

Nothing here imports torch, and reading a saved dataset needs neither scikit-learn nor Pillow.
"""

from evodiff.data.catalogue import open_dataset
from evodiff.data.dataset import PARTS, ImageDataset, scale, unscale

__all__ = ["PARTS", "ImageDataset", "open_dataset", "scale", "unscale"]
