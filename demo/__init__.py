"""The loop without a person: `python -m demo` captions generated scenes as an annotator would."""
