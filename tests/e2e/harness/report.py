"""Reads a delivery status notification (RFC 3464) with Python's mail parser."""
import email
import email.policy


def status_groups(content):
    """The fields of a message/global-delivery-status, which the parser takes for a message."""
    part = content.split(b"message/global-delivery-status")[1].split(b"\r\n--")[0].split(b"\r\n\r\n", 1)[1]
    return [dict(line.split(": ", 1) for line in group.decode().split("\r\n") if line)
            for group in part.split(b"\r\n\r\n") if group.strip()]


class Report:
    def __init__(self, message):
        """`message` is what the sink received."""
        self.sender, self.recipients = message.sender, message.recipients
        self.wire = message.content
        self.mail = email.message_from_bytes(message.content, policy=email.policy.default)
        assert self.mail.get_content_type() == "multipart/report", self.mail.get_content_type()
        assert self.mail.get_param("report-type") == "delivery-status"
        parts = list(self.mail.iter_parts())
        assert len(parts) == 3, [part.get_content_type() for part in parts]
        assert parts[0].get_content_type() == "text/plain"
        assert parts[1].get_content_type() in ("message/delivery-status", "message/global-delivery-status")
        self.is_global = "global" in parts[1].get_content_type()
        assert parts[2].get_content_type() in (("message/global", "message/global-headers") if self.is_global else
                                               ("message/rfc822", "text/rfc822-headers"))
        self.text = parts[0].get_content()
        groups = status_groups(message.content) if self.is_global else parts[1].get_payload()
        self.per_message = dict(groups[0].items())
        self.failed = {}
        for group in groups[1:]:
            fields = dict(group.items())
            kind, _, address = fields["Final-Recipient"].partition(";")
            assert kind.strip() in (("rfc822", "utf-8") if self.is_global else ("rfc822",))
            assert address.strip() not in self.failed
            self.failed[address.strip()] = fields
        self.quoted_type = parts[2].get_content_type()
        self.quoted = parts[2].get_payload()
        if isinstance(self.quoted, list):
            self.quoted = self.quoted[0].as_string()

    def check(self, sender, reporting_mta):
        """What every notification has, whatever it is about."""
        assert self.sender == ""
        assert self.recipients == [sender]
        assert self.mail["Auto-Submitted"].lower().startswith("auto-replied")
        assert self.mail["MIME-Version"] and self.mail["Date"] and self.mail["Message-ID"] and self.mail["From"]
        assert sender in self.mail["To"]
        assert self.per_message["Reporting-MTA"].replace(" ", "") == f"dns;{reporting_mta}"
        for fields in self.failed.values():
            assert fields["Action"] in ("failed", "delayed", "delivered", "relayed", "expanded")
            assert fields["Status"][0] == {"failed": "5", "delayed": "4", "delivered": "2", "relayed": "2"}[fields["Action"]], fields
        for line in self.wire.split(b"\r\n"):
            assert len(line) <= 998 and b"\r" not in line and b"\n" not in line
