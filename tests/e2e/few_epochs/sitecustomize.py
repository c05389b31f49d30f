"""Python imports this module at its start where its folder is in PYTHONPATH: so that processes below the tests'
`captioner up` train in few epochs. What is trained is the same in all else. CAPTIONER_TEST_STARTER is a checkpoint in
place of the starter that comes with the project.
"""

import os
import sys

TRAINING = {"train", "worker"}  # commands: the starter captioner's training, and the worker that retrains

if TRAINING & set(sys.orig_argv):
    from training.config import TrainingConfig

    for name, epochs in (("starter", 6), ("retraining", 8)):
        usual = getattr(TrainingConfig, name)

        def fewer(*given, usual=usual, epochs=epochs, **changes):
            return usual(*given, **{"epochs": epochs} | changes)

        setattr(TrainingConfig, name, fewer)

if "up" in sys.orig_argv and "CAPTIONER_TEST_STARTER" in os.environ:
    from pathlib import Path

    from training.captioner import bundled

    bundled.STARTER = Path(os.environ["CAPTIONER_TEST_STARTER"])
