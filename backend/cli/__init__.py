"""The commands of `captioner`, except those of `training`."""
