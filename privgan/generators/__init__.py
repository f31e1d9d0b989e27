"""Generators: networks and atoms that make records, and files to keep them in."""

from privgan.generators.atoms import Atoms
from privgan.generators.base import Generator
from privgan.generators.classified import Classified
from privgan.generators.images import ConvDecoder, Labelled
from privgan.generators.networks import MLP, Linear
from privgan.generators.saved import load

__all__ = ["MLP", "Atoms", "Classified", "ConvDecoder", "Generator", "Labelled", "Linear", "load"]
