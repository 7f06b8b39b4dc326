"""Writes a Python dictionary in the syntax of the configuration file (libconfig)."""


def render(value, depth=0):
    indent = "    " * depth
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, dict):
        body = "".join(f"{indent}    {key} = {render(item, depth + 1)};\n" for key, item in value.items())
        return "{\n" + body + indent + "}"
    return "( " + ", ".join(render(item, depth) for item in value) + " )"


def text(settings):
    return "".join(f"{key} = {render(value)};\n" for key, value in settings.items())


def merged(base, changes):
    """A copy of `base` with the changes laid over it; groups are merged, everything else is replaced."""
    result = dict(base)
    for key, value in changes.items():
        both_groups = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both_groups else value
    return result
