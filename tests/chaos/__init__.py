"""Tests that kill and pause real processes on a real broker."""
