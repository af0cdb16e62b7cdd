"""Distilling task-specific knowledge from BERT into a BiLSTM (Tang et al. 2019), the parts that are used twice."""

__version__ = "0.2.0"
