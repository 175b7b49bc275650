"""The reward model: what raters' judgements become.

Pure torch and transformers. Nothing here imports Django; :mod:`rewardmodel.contract` and
:mod:`rewardmodel.rundir` import no torch either, so the web application can use them to write a
job and to read its progress.
"""
