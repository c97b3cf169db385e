"""Quantities of one backward pass, from its uses: `collect` gathers them, `quantity.py` says how to write one."""

from jaxprop.stats.alignment import Alignment as Alignment
from jaxprop.stats.clipped_gradient import Clipped as Clipped, ClippedGradient as ClippedGradient
from jaxprop.stats.collect import Collected as Collected, collect as collect
from jaxprop.stats.example_gradients import ExampleGradients as ExampleGradients
from jaxprop.stats.example_norms import ExampleNorms as ExampleNorms
from jaxprop.stats.fisher_diagonal import FisherDiagonal as FisherDiagonal
from jaxprop.stats.flow import Flow as Flow, FlowReport as FlowReport, LayerFlow as LayerFlow
from jaxprop.stats.ggn_diagonal import GGNDiagonal as GGNDiagonal
from jaxprop.stats.gradient_tests import GradientTests as GradientTests, Thresholds as Thresholds
from jaxprop.stats.histograms import (
    ActivationHistogram as ActivationHistogram,
    GradientHistogram as GradientHistogram,
    Histogram as Histogram,
)
from jaxprop.stats.kronecker_factors import KroneckerFactors as KroneckerFactors
from jaxprop.stats.noise_scale import Noise as Noise, NoiseScale as NoiseScale
from jaxprop.stats.plan import Plan as Plan, PlanRow as PlanRow, plan as plan
from jaxprop.stats.precondition import PreconditionState as PreconditionState, precondition as precondition
from jaxprop.stats.products import ggn_product as ggn_product, hessian_product as hessian_product
from jaxprop.stats.quantity import Context as Context, Quantity as Quantity
from jaxprop.stats.second_moment import SecondMoment as SecondMoment
from jaxprop.stats.signal_to_noise import SignalToNoise as SignalToNoise
from jaxprop.stats.spectrum import (
    Eigenpair as Eigenpair,
    Trace as Trace,
    largest_eigenvalue as largest_eigenvalue,
    trace as trace,
)
from jaxprop.stats.summary import Summary as Summary
from jaxprop.stats.units import DeadUnits as DeadUnits, SaturatedUnits as SaturatedUnits, Units as Units
from jaxprop.stats.update_to_weight import UpdateToWeight as UpdateToWeight
from jaxprop.stats.variance import Variance as Variance
from jaxprop.uses.kronecker import Factors as Factors
