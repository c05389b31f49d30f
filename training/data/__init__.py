"""Images and captions: published data sets, manifests, generated scenes, image transforms."""
