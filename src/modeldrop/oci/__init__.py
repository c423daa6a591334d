"""Versions as images and artifacts of container registries: for clusters, whose image stores then hold the models."""
