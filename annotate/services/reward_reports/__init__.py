"""What a lead decides with about a reward model, measured on test prompts and kept with its time.

A training run leaves the scores of all answers of dev and test; here they are put beside what the snapshot says of
those answers: who judged them, by which criterion or norm, in which place they were shown, and what wrote them.
"""
