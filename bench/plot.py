"""Bar charts of a run's results as SVG, by hand: a few rectangles and words need no library."""
import os

WIDTH, BAR, GAP, LEFT, RIGHT = 760, 22, 8, 260, 110
STYLE = ('<style>text{font:13px sans-serif;fill:#222}.t{font-weight:bold}.v{fill:#555}.o{fill:#2b6cb0}.b{fill:#a0aec0}'
         '@media(prefers-color-scheme:dark){text{fill:#ddd}.v{fill:#aaa}}</style>')


def escaped(text):
    return text.replace("&", "&amp;").replace("<", "&lt;")


def number(value):
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def bars(title, unit, rows):
    """`rows` are (name, value, ours?); the longest bar is the largest value."""
    top = max(value for _, value, _ in rows) or 1
    room = WIDTH - LEFT - RIGHT
    height = 34 + len(rows) * (BAR + GAP)
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" role="img" '
             f'aria-label="{escaped(title)}">', STYLE, f'<text class="t" x="4" y="18">{escaped(title)}</text>']
    for index, (name, value, ours) in enumerate(rows):
        y = 30 + index * (BAR + GAP)
        width = max(1, value / top * room)
        lines += [f'<text x="{LEFT - 8}" y="{y + 16}" text-anchor="end">{escaped(name)}</text>',
                  f'<rect class="{"o" if ours else "b"}" x="{LEFT}" y="{y}" width="{width:.1f}" height="{BAR}"/>',
                  f'<text class="v" x="{LEFT + width + 6:.1f}" y="{y + 16}">{number(value)} {escaped(unit)}</text>']
    return "\n".join(lines + ["</svg>"]) + "\n"


def relays(rows, what):
    """(name, median, ours?) of the relays that were measured side by side."""
    prefix = "relay of 4 KiB by load tools, "
    return [(row["name"][len(prefix):].rpartition(":")[0], row["median"], row["name"].startswith(prefix + "ringpost"))
            for row in rows if row["name"].startswith(prefix) and row["name"].endswith(": " + what)]


def scenarios(rows, figure):
    return [(row["name"].rpartition(":")[0].replace("relay, ", ""), row["median"], True)
            for row in rows if row["part"] == "scenarios" and row["name"].endswith(": " + figure)]


CHARTS = (
    ("relays-delivered", "Relayed and delivered, 4 KiB, durable, same machine and disk", "/s", relays, "delivered"),
    ("relays-p99", "From the final dot to its 250, 99th percentile, 50 sessions", "ms", relays, "final dot to 250, p99"),
    ("relays-cpu", "CPU of the whole server per relayed message, 4 KiB", "us", relays, "CPU per message"),
    ("scenarios-cpu", "CPU of ringpost per message, by situation", "us", scenarios, "CPU us"),
    ("scenarios-accept-p99", "From the final dot to its 250, 99th percentile, at full load", "ms", scenarios,
     "accept to 250, p99 ms"),
)


def write(rows, directory):
    for name, title, unit, choose, figure in CHARTS:
        chosen = choose(rows, figure)
        if chosen:
            with open(os.path.join(directory, f"latest-{name}.svg"), "w", encoding="utf-8") as file:
                file.write(bars(title, unit, chosen))
