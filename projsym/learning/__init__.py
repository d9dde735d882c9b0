"""Training experiments: the same small transformer with attention in four forms, told apart by theorems.

Needs the extra `learning` (PyTorch, sacreBLEU, statsmodels); reading committed results needs none of it.
"""
