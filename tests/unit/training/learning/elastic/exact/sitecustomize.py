"""Python imports this module at its start where its folder is in PYTHONPATH: so that the processes of a shared training
compute in float32 and leave nothing to chance, of which each has its own."""

import sys

if "training.learning.elastic.member" in sys.orig_argv:
    from training.learning import step
    from training.runtime import device

    device.has_bfloat16 = lambda device: False
    step.SHIFT = 0
