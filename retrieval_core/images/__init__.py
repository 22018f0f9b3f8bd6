"""From a file to what a model sees. Imports ``files`` and ``config`` only.

The steps of an image, in order:

1. ``decoding.read_content``: the bytes of a file or URL; ``prefetch.read_ahead`` reads the next files meanwhile.
2. ``rgb.decode_rgb``: an upright 8-bit sRGB picture of those bytes. JPEGs and all other formats are decoded here, by
   ``decoding.decode_frame``. Pillow's answer is checked: ``tiff_layouts`` refuses what it misreads, ``side_parts``
   takes away text and notes on which it fails. ``colour_profiles`` turns colours to sRGB. ``rgb.read_image`` is the
   shortcut from a location to whole pixels.
3. ``encoding.views.Views.of`` (bytes) or ``Views.cut`` (picture): the views of a fabric or query. ``motif`` cuts the
   motif out of a query, ``part`` a motif that is picked on a fabric; ``patches`` says what size a fabric has and where
   its windows are; without windows, ``regions`` cuts tiles with the arithmetic of ``resizing``.

Whatever is wrong with a file is an ``ImageRejected`` with a reason. Begin with ``rgb``.
"""
