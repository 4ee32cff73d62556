"""Which plugins there are, what each takes, and the configuration of one.

Refuses what a plugin does not know, and values of another kind than it wants, before anything runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workbench.errors import UsageError
from workbench.memory.volatility.context import KERNEL, set_up

__all__ = ["Plugin", "check_arguments", "configure", "find", "listed"]


@dataclass(frozen=True, slots=True)
class Plugin:
    """A plugin of Volatility.

    Attributes
    ----------
    name : str
        "linux.pslist.PsList"
    takes : dict of str to str
        Its arguments, and what each is.
    kinds : dict of str to str
        Its arguments, and what each wants: "bool", "int", "text", "list of int", "one of a, b"; ", needed" where it
        cannot be left out.
    """

    name: str
    takes: dict[str, str]
    kinds: dict[str, str]


def _classes() -> dict[str, Any]:
    set_up()
    from volatility3 import framework

    return dict(framework.list_plugins())


def listed(prefix: str = "linux.") -> list[Plugin]:
    """Return the plugins whose names begin with `prefix`, by name."""
    found = []
    for name, plugin in sorted(_classes().items()):
        if name.startswith(prefix):
            options = _options(plugin)
            told = {key: str(each.description or "") for key, each in options.items()}
            found.append(Plugin(name, told, {key: _kind(each) for key, each in options.items()}))
    return found


def _kind(option: Any) -> str:
    """Return what an argument wants, in words."""
    from volatility3.framework.configuration import requirements

    names = {int: "int", bool: "bool"}
    if isinstance(option, requirements.ListRequirement):
        kind = f"list of {names.get(option.element_type, 'text')}"
    elif isinstance(option, requirements.ChoiceRequirement):
        kind = f"one of {', '.join(map(str, option.choices))}"
    else:
        kind = names.get(option.instance_type, "text")
    return kind if option.optional or option.default is not None else f"{kind}, needed"


def find(name: str) -> tuple[str, Any]:
    """Return a plugin's full name and class; `linux.pslist` means the one plugin in that module.

    Raises
    ------
    UsageError
        If there is none, or more than one.
    """
    known = _classes()
    if name in known:
        return name, known[name]
    fitting = [each for each in known if each.startswith(f"{name}.")]
    if len(fitting) == 1:
        return fitting[0], known[fitting[0]]
    last = name.rsplit(".", 1)[-1].lower()
    near = fitting or sorted(each for each in known if last in each.lower() and each.startswith("linux."))
    raise UsageError(f"no plugin {name!r}", near=near[:10], cure="See `workbench vol --list`.")


def _options(plugin: Any) -> dict[str, Any]:
    """Return the requirements of a plugin that a user gives, by name."""
    from volatility3.framework import interfaces
    from volatility3.framework.configuration import requirements

    kinds = (
        interfaces.configuration.SimpleTypeRequirement,
        requirements.ListRequirement,
        requirements.ChoiceRequirement,
    )
    return {each.name: each for each in plugin.get_requirements() if isinstance(each, kinds)}


def configure(context: Any, place: str, plugin: Any, arguments: Mapping[str, Any]) -> None:
    """Write a plugin's configuration into the context.

    Raises
    ------
    UsageError
        If an argument is unknown or of the wrong kind.
    """
    from volatility3.framework.configuration import requirements
    from volatility3.framework.interfaces.configuration import path_join

    for each in plugin.get_requirements():
        if isinstance(each, requirements.ModuleRequirement):
            context.config[path_join(place, each.name)] = KERNEL
        elif isinstance(each, requirements.TranslationLayerRequirement):
            context.config[path_join(place, each.name)] = context.modules[KERNEL].layer_name
        elif isinstance(each, requirements.SymbolTableRequirement):
            context.config[path_join(place, each.name)] = context.modules[KERNEL].symbol_table_name
    for name, value in check_arguments(plugin, arguments).items():
        context.config[path_join(place, name)] = value


def check_arguments(plugin: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments by the plugin's own names, those that are None left out.

    Raises
    ------
    UsageError
        If one is unknown or of the wrong kind.
    """
    options = _options(plugin)
    found = {}
    for name, value in arguments.items():
        known = name if name in options else name.replace("_", "-")
        if known not in options:
            raise UsageError(f"{plugin.__name__} takes no {name!r}", takes=sorted(options))
        if value is not None:
            found[known] = _checked(options[known], known, value)
    return found


def _checked(option: Any, name: str, value: Any) -> Any:
    from volatility3.framework.configuration import requirements

    if isinstance(option, requirements.ListRequirement):
        values = list(value) if isinstance(value, (list, tuple, set)) else [value]
        if not all(isinstance(each, option.element_type) for each in values):
            raise UsageError(f"{name} wants a list of {option.element_type.__name__}", found=values)
        return values
    if isinstance(option, requirements.ChoiceRequirement):
        if value not in option.choices:
            raise UsageError(f"{name} wants one of {option.choices}", found=value)
        return value
    if not isinstance(value, option.instance_type):
        raise UsageError(f"{name} wants {option.instance_type.__name__}", found=value)
    return value
