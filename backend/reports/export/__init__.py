"""The corrections of a project, written for other programs."""
