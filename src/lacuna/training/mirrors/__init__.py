"""Mirrors of a run: Weights & Biases, TensorBoard, a CSV file, MLflow. The history on disk is the source of truth.

A mirror is told what is on disk already. One that fails is left out, with a sentence, and the run goes on.
"""
