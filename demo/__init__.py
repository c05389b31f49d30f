"""A simulation of the whole loop: `python -m demo` captions generated scenes as an annotator would."""
