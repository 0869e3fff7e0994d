"""The explorer: a page on which a graph becomes the mini-batch, with the values of all nodes."""

from .exploration import Exploration, explore, explore_graph

__all__ = ["Exploration", "explore", "explore_graph"]
