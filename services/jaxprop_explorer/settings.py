"""What a page can set of an experiment: plain values, checked, which the page's address can hold."""

from pydantic import BaseModel, ConfigDict, Field


class Settings(BaseModel):
    """The settings of an experiment: the problem, the network, the cost, and how it is trained."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: str = "xor"
    layers: tuple[int, ...] = (3,)  # the widths of the hidden layers
    activation: str = "tanh"
    cost: str = "half_squared_error"
    learning_rate: float = Field(0.3, gt=0, allow_inf_nan=False)
    optimizer: str = "sgd"
    batch_size: int = Field(16, ge=1)
    seed: int = Field(0, ge=0, lt=2**31)
