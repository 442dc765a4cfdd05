"""Measurements of this program, made again by one command."""
