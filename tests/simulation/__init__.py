"""Simulation of the protocol: the real core against a Kafka that does its worst."""
