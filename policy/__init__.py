"""The policy: engines that generate, and training that improves what they generate.

Pure torch, transformers and vLLM; may import :mod:`rewardmodel`, never Django.
:mod:`policy.contract` imports no torch, so the web application can use it to write a job.
"""
