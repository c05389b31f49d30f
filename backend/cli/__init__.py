"""The commands of `captioner`, but for those of `training`."""
