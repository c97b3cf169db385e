"""The panels of the page: in each file, what the page can ask of one, by name."""

from jaxprop_explorer.panels import chain_rule, digit, lessons, model, network, rules, surface
from jaxprop_explorer.panels.command import Command

PANELS: dict[str, dict[str, Command]] = {
    "network": network.COMMANDS,
    "model": model.COMMANDS,
    "chain-rule": chain_rule.COMMANDS,
    "rules": rules.COMMANDS,
    "surface": surface.COMMANDS,
    "digit": digit.COMMANDS,
    "lessons": lessons.COMMANDS,
}
