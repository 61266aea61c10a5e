"""A method of one's own: the reference as a mosaic; the seed chooses how coarse."""

from PIL import Image


class Mosaic:
    def __init__(self, tile: int = 2):
        self.tile = tile

    def __call__(self, request):
        image = request.references[0].image
        width, height = request.width or image.width, request.height or image.height
        tile = self.tile + request.seed % 3
        small = image.resize((width // tile + 1, height // tile + 1))
        return small.resize((width, height), Image.Resampling.NEAREST)
