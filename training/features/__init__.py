"""What a captioner is fed: encoder outputs, computed once an image and cached."""
