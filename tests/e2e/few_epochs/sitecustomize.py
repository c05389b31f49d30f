"""Python imports this module at its start where its folder is in PYTHONPATH: so that processes below the tests'
`captioner up` train in few epochs. What is trained is the same in all else.
"""

import sys

TRAINING = {"train", "worker"}  # commands: the starter captioner's training, and the worker that retrains

if TRAINING & set(sys.orig_argv):
    from training.config import TrainingConfig

    for name, epochs in (("starter", 6), ("retraining", 8)):
        usual = getattr(TrainingConfig, name)

        def fewer(*given, usual=usual, epochs=epochs, **changes):
            return usual(*given, **{"epochs": epochs} | changes)

        setattr(TrainingConfig, name, fewer)
