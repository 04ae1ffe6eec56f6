"""Exact evaluation of LightGBM ensembles, many pixels at once: bit for bit what `Booster.predict` gives on one thread.

`model_text.py` reads the trees, `tables.py` lays them out, `binning.py` turns values into places among a feature's
cuts, `walk.py` takes 64 rows at a time through the trees, `outputs.py` gives probabilities. `evaluator.py` puts them
together, `verification.py` compares it with LightGBM, and `predictor.py`, which others use, has one of both predict.
"""
