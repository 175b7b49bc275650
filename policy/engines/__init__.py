"""Engines that generate text: one small interface, several back ends."""
