"""Maildirs below a directory, and the configuration of a domain that is delivered into them."""
import mailbox
import os

from .server import wait_until


class Maildirs:
    def __init__(self, directory, domain="own.test", mailboxes=("anna", "ben", "postmaster"), aliases="", **keys):
        self.directory = str(directory)
        self.domain = domain
        self.root = os.path.join(self.directory, "mail")
        self.mailboxes_path = os.path.join(self.directory, f"{domain}.mailboxes")
        self.aliases_path = os.path.join(self.directory, f"{domain}.aliases")
        self.write(mailboxes, aliases)
        self.settings = {"name": domain, "mailboxes": self.mailboxes_path, "aliases": self.aliases_path,
                         "deliver": f"maildir:{self.root}/%d/%u/", **keys}

    def write(self, mailboxes=None, aliases=None):
        for path, text in ((self.mailboxes_path, mailboxes and "".join(f"{name}\n" for name in mailboxes)),
                           (self.aliases_path, aliases)):
            if text is not None:
                with open(path, "w", encoding="utf-8") as file:
                    file.write(text)

    def path(self, user, *names):
        return os.path.join(self.root, self.domain, user, *names)

    def files(self, user, *folders):
        """Paths of the messages in the folders, new/ and cur/ by default."""
        found = []
        for folder in folders or ("new", "cur"):
            directory = self.path(user, folder)
            if os.path.isdir(directory):
                found += [os.path.join(directory, name) for name in sorted(os.listdir(directory))]
        return found

    def wait(self, user, count=1, seconds=20):
        """The contents of a user's messages, once there are so many."""
        wait_until(lambda: len(self.files(user)) >= count, seconds, lambda: f"{count} messages: {self.files(user)}")
        contents = []
        for path in self.files(user):
            with open(path, "rb") as file:
                contents.append(file.read())
        assert len(contents) == count, contents
        return contents

    def box(self, user):
        return mailbox.Maildir(self.path(user), create=False)
