"""Exact accounting of a run: what load_source's log says was accepted against what load_sink's log says arrived."""
from collections import defaultdict


def fates(path):
    """{letter: {message number: (bytes, hash) or None}} of load_source's log."""
    result = {letter: {} for letter in "ARUN"}
    with open(path, encoding="ascii") as file:
        for line in file:
            letter, number, *rest = line.split()
            result[letter][int(number)] = (int(rest[0]), rest[1]) if rest else None
    return result


def arrivals(path):
    """{recipient: [(bytes, hash), ...]}, an item for each copy, of load_sink's log."""
    result = defaultdict(list)
    with open(path, encoding="ascii") as file:
        for line in file:
            recipient, size, digest = line.split()
            result[recipient].append((int(size), digest))
    return result


def judge(source_log, sink_log, prefix="m", recipients=1, domains=1):
    """{accepted, lost, duplicated, altered, uninvited}: recipients of accepted messages that did not arrive, that arrived more
    than once, or with other octets; and arrivals of messages that were refused or never ended."""
    sent, arrived = fates(source_log), arrivals(sink_log)

    def names(number):
        return [f"{prefix}{number}.{index}@d{number % domains}.test" for index in range(recipients)]
    result = {"accepted": len(sent["A"]) * recipients, "lost": 0, "duplicated": 0, "altered": 0, "uninvited": 0}
    for number, body in sent["A"].items():
        for name in names(number):
            copies = arrived.get(name, [])
            result["lost"] += not copies
            result["duplicated"] += max(0, len(copies) - 1)
            result["altered"] += any(copy != body for copy in copies)
    for letter in "RN":
        result["uninvited"] += sum(bool(arrived.get(name)) for number in sent[letter] for name in names(number))
    return result
