"""The reward model: what raters' judgements become.

Pure torch and transformers. Nothing here imports Django; :mod:`rewardmodel.contract` and
:mod:`rewardmodel.rundir` import no torch either, so the web application can use them to write a
job and to read its progress.
"""

import os

# Read once, when torch loads OpenMP. By default its threads spin while they wait for each other: on processors shared
# with a server or a sampler a training step then takes twice as long and more. Threads that sleep at once have it
# take a third longer where nothing else runs, so they spin for some microseconds first; figures are in
# docs/benchmarks.md.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
