"""A captioner from images and captions: a CNN encoder and a recurrent decoder. Knows nothing of Label Studio."""
