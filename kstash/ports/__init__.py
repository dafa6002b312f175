"""What the runtime needs of the outside world, as Protocols."""
