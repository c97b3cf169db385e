"""Training: `fit`, its batches, metrics and progress, and what it says when numbers stop being numbers."""

from jaxprop.train.loop import FitResult as FitResult, TrainingInterrupted as TrainingInterrupted, fit as fit
from jaxprop.train.metrics import evaluate as evaluate, predict as predict
