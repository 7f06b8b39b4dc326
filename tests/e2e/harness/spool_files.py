"""The spool's files as bytes, written from include/ringpost/spool_format.h alone: where is what?"""
import glob
import os
import struct

HEADER = 4096
HEADER_COPY = 2048
RECORD = struct.Struct("<IBBHIIQQQQI8xI")      # magic type flags header_bytes payload_bytes position sequence epoch hash message unsure crc
MESSAGE = struct.Struct("<QQIIIIIIQHHIII")     # id arrival flags states envelope extents prologue body total recipients . . . head_crc
TRAILER = struct.Struct("<IIQ44xI")
EXTENT, MESSAGE_TYPE, OUTCOME, GRAVES, SEAL = 1, 2, 3, 4, 5
MAGIC, TRAILER_MAGIC = 0x44524352, 0x4C494154
assert RECORD.size == 64 and MESSAGE.size == 64 and TRAILER.size == 64


class Record:
    def __init__(self, path, offset, fields, payload):
        self.path, self.offset, self.payload = path, offset, payload
        self.type, self.bytes, self.sequence, self.id = fields[1], fields[4], fields[6], fields[9]
        self.end = offset + 64 + (self.bytes + 63) // 64 * 64

    def parts(self):
        """{name: (offset in the file, length)} of what is in it."""
        at = self.offset + 64
        result = {"record header": (self.offset, 64)}
        if self.type != MESSAGE_TYPE:
            return {**result, "payload": (at, self.bytes)}
        fixed = MESSAGE.unpack_from(self.payload)
        for name, length in (("message", 64), ("states", fixed[3]), ("envelope", fixed[4]), ("extents", 16 * fixed[5]),
                             ("prologue", fixed[6]), ("body", fixed[7])):
            result[name] = (at, length)
            at += length
        return result


class Segment:
    def __init__(self, path):
        self.path = path
        with open(path, "rb") as file:
            self.data = file.read()
        self.version, self.number, self.epoch = struct.unpack_from("<8xI4xQQ", self.data)
        magic, position, epoch, _ = TRAILER.unpack_from(self.data, len(self.data) - 64)
        self.sealed = magic == TRAILER_MAGIC and epoch == self.epoch
        self.records = list(self._records())

    def _records(self):
        at = HEADER
        while at + 64 <= len(self.data):
            fields = RECORD.unpack_from(self.data, at)
            if fields[0] != MAGIC or fields[7] != self.epoch:
                return
            record = Record(self.path, at, fields, self.data[at + 64:at + 64 + fields[4]])
            yield record
            at = record.end


def segments(spool):
    """All of them, in the order in which they were filled."""
    return sorted((Segment(path) for path in glob.glob(os.path.join(spool, "*", "*.seg"))), key=lambda s: (s.path.split("/")[-2], s.number))


def records(spool):
    return [record for segment in segments(spool) for record in segment.records]


def outcomes(spool):
    """Of how many recipients an OUTCOME record speaks; one that was tried twice counts twice."""
    return sum(struct.unpack_from("<16xI", record.payload)[0] for record in records(spool) if record.type == OUTCOME)


def flip(path, offset, bits=0x10):
    """One byte is wrong from now on."""
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ bits]))
