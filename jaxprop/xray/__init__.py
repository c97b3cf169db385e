"""X-ray: values, errors and their places inside any JAX function, models that nobody here wrote included."""

from jaxprop.xray.diff import Diff as Diff, diff as diff
from jaxprop.xray.example_norms import uses as uses
from jaxprop.xray.findings import Finding as Finding, Findings as Findings
from jaxprop.xray.following.leaves import Leaf as Leaf, Leaves as Leaves, leaves as leaves
from jaxprop.xray.nonfinite import nonfinite as nonfinite
from jaxprop.xray.program import Reading as Reading, program as program
from jaxprop.xray.report import Report as Report, report as report
